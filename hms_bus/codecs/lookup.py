"""Finding the codec of a document: by name, by media type, or by how it begins."""

from functools import cache

from hms_bus import plugins
from hms_bus.abc import Codec
from hms_bus.errors import DecodeError

_JSON_OBJECT = 0x7B  # {
_PROTOBUF_FIELD_1 = 0x0A  # `id`, which every event has and every writer puts first
_CBOR_MAPS = frozenset({*range(0xA0, 0xBC), 0xBF})
_CBOR_SELF_DESCRIBED = b"\xd9\xd9\xf7"


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


def find_by_first_byte(document: bytes) -> Codec:
    """Return the built-in codec whose documents begin like this one (spec/envelope.md).

    Nothing else is looked at: white space or a byte order mark before JSON is not skipped, since a
    line feed begins a protobuf message. Raises `DecodeError` with reason `unknown-codec`.
    """
    first = document[0] if document else None
    if first == _JSON_OBJECT:
        return find("json")
    if first == _PROTOBUF_FIELD_1:
        return find("protobuf")
    if first in _CBOR_MAPS or document.startswith(_CBOR_SELF_DESCRIBED):
        return find("cbor")
    raise DecodeError(
        f"no codec's documents begin with {document[:4].hex(' ') or 'nothing'}",
        reason="unknown-codec",
    )
