"""The codecs, each in its module; found by name, media type or first byte."""

from hms_bus.codecs.lookup import find, find_by_first_byte, find_by_media_type

__all__ = ["find", "find_by_first_byte", "find_by_media_type"]
