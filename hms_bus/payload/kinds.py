"""What payloads are called: media types, descriptions, and how foreign objects are recognised."""

import re
from typing import Any

from msgspec import UNSET, Raw

JSON = "application/json"
TEXT = "text/plain"
OCTETS = "application/octet-stream"
PROTOBUF = "application/protobuf"
CBOR = "application/cbor"
TYPE_URL_PREFIX = "type.googleapis.com/"

MAX_DEPTH = 64
"""The deepest nesting of arrays and objects in a payload that is read (spec/envelope.md)."""

MAX_BYTES = 16 * 1024 * 1024
"""The largest document that a codec reads, and the largest payload."""

_JSON_MEDIA_TYPE = re.compile(r"\s*[^;/\s]+/([^;/\s]+\+)?json\s*(;.*)?", re.IGNORECASE)
_CBOR_MEDIA_TYPE = re.compile(r"\s*[^;/\s]+/([^;/\s]+\+)?cbor\s*(;.*)?", re.IGNORECASE)

_OCTET_TYPES = frozenset({OCTETS, PROTOBUF})


Description = tuple[str | None, str | None, str | None]
"""What an envelope says about a payload: its media type, event type and schema."""

DESCRIPTIONS: dict[type, Description] = {
    type(UNSET): (None, None, None),
    Raw: (JSON, None, None),
    bytes: (OCTETS, None, None),
    bytearray: (OCTETS, None, None),
    memoryview: (OCTETS, None, None),
    str: (TEXT, None, None),
    **dict.fromkeys((dict, list, tuple, int, float, bool, type(None)), (JSON, None, None)),
}
"""The descriptions that `describe` has made, by class; read by the bus's hot path."""


def describe(data: object) -> Description:
    """Return the media type, event type and schema that fit `data` when the sender names none.

    The event type is the class attribute `__event_type__`, else a protobuf message's full name,
    else the class name; `None` for builtins, which have no name worth sending.
    """
    cls = type(data)
    found = DESCRIPTIONS.get(cls)
    if found is None:
        found = DESCRIPTIONS[cls] = _describe_class(cls)
    return found


def _describe_class(cls: Any) -> Description:
    name: str = getattr(cls, "__event_type__", cls.__name__)
    if is_message_type(cls):
        full_name: str = cls.DESCRIPTOR.full_name
        name = getattr(cls, "__event_type__", full_name)
        return (PROTOBUF, name, TYPE_URL_PREFIX + full_name)
    if cls.__module__ == "builtins":
        return (JSON, None, None)
    return (JSON, name, None)


def is_json(content_type: str | None) -> bool:
    """Whether the media type is JSON; an absent one is (CloudEvents JSON format, section 3.1.1)."""
    if content_type is None or content_type == JSON:
        return True
    return _JSON_MEDIA_TYPE.fullmatch(content_type) is not None


def is_cbor(content_type: str | None) -> bool:
    """Whether the media type is CBOR."""
    return content_type is not None and (
        content_type == CBOR or _CBOR_MEDIA_TYPE.fullmatch(content_type) is not None
    )


def is_message_type(cls: Any) -> bool:
    """Whether `cls` is a protobuf message class."""
    return hasattr(cls, "DESCRIPTOR") and hasattr(cls, "SerializeToString")


def is_model_type(cls: Any) -> bool:
    """Whether `cls` is a pydantic model class."""
    return isinstance(cls, type) and hasattr(cls, "model_validate_json")


def is_octets(data: object) -> bool:
    """Whether `data` is sent as an octet string: bytes-like, or a protobuf message."""
    return describe(data)[0] in _OCTET_TYPES
