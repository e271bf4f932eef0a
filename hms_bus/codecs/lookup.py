"""Finding the codec of a document: by name, by media type, or by how it begins."""

from functools import cache

from hms_bus import plugins
from hms_bus.abc import Codec
from hms_bus.errors import DecodeError


@cache
def find(name: str) -> Codec:
    """Return the codec of that name, always the same one. Raises `ConfigError`."""
    return plugins.get_codec(name)


def find_by_media_type(media_type: str) -> Codec:
    """Return the codec that reads `media_type`, in any case and with any parameters.

    Built-in codecs win over installed ones. Raises `DecodeError` with reason `unknown-codec`.
    """
    wanted = media_type.partition(";")[0].strip().lower()
    name = _BY_MEDIA_TYPE.get(wanted)
    if name is not None:
        return find(name)
    for name in plugins.names("codecs"):
        if name not in _BUILT_IN and find(name).content_type.lower() == wanted:
            return find(name)
    raise DecodeError(f"no codec reads {media_type!r:.80}", reason="unknown-codec")


_BUILT_IN = ("json", "cbor", "protobuf")
_BY_MEDIA_TYPE = {f"application/cloudevents+{name}": name for name in _BUILT_IN}


find_by_first_byte = plugins.codec_of
"""Find the built-in codec of a document by how it begins; see `hms_bus.plugins.codec_of`."""
