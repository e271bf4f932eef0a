"""The `cbor` codec: the CloudEvents CBOR format (working draft), one map with text keys.

https://github.com/cloudevents/spec/blob/main/cloudevents/working-drafts/cbor-format.md

The draft has data as CBOR items only under a CBOR media type. What is `application/json` to us,
data of JSON's types, is therefore called `application/cbor` on the wire, and back on reading; other
JSON media types travel as JSON text (spec/envelope.md, "CBOR").
"""

import re
from typing import Any

import cbor2
from cbor2 import CBORTag
from msgspec import UNSET, Raw

from hms_bus import cboritem, payload
from hms_bus.attributes import from_values, to_values
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError

_TEXT_TIME, _URI = 0, 32
_MAX_DEPTH = payload.MAX_DEPTH + 1  # the envelope is a map itself


class CborCodec:
    """See `hms_bus.abc.Codec`."""

    name = "cbor"
    content_type = "application/cloudevents+cbor"

    def encode(self, envelope: Envelope) -> bytes:
        """Return a map of definite length, attributes in the order of `Envelope`, `data` last."""
        values = _to_values(envelope)
        if envelope.time is not None:
            values["time"] = CBORTag(_TEXT_TIME, envelope.time)
        if envelope.expirytime is not None:
            values["expirytime"] = CBORTag(_TEXT_TIME, envelope.expirytime)
        if envelope.dataschema is not None:
            values["dataschema"] = CBORTag(_URI, envelope.dataschema)
        try:
            document = cbor2.dumps(values)
        except (cbor2.CBOREncodeError, ValueError, TypeError, OverflowError) as error:
            raise EncodeError(f"the envelope has no CBOR form: {error}") from error
        payload.check_size(document)
        _check_readable(document)
        return document

    def decode(self, document: bytes) -> Envelope:
        """Read a map; its `data` becomes builtins, bytes, or JSON text that is left unparsed."""
        if len(document) > payload.MAX_BYTES:
            raise DecodeError(
                f"the document is larger than {payload.MAX_BYTES} bytes", reason="too-large"
            )
        values = cboritem.load(document, max_depth=_MAX_DEPTH)
        if type(values) is not dict:
            raise DecodeError("the document is no map", reason="wrong-type")
        data = _take_data(values, document)  # pyright: ignore[reportUnknownArgumentType] - keys are checked
        return from_values(values, data)  # pyright: ignore[reportUnknownArgumentType] - as above


def _to_values(envelope: Envelope) -> dict[str, Any]:
    data = envelope.data
    if (
        envelope.datacontenttype == payload.JSON
        and envelope.extensions is None
        and data is not UNSET
        and not payload.is_octets(data)
    ):
        _check_depth(data)
        # Hot path: attributes and payload in one call of msgspec, 1.5 µs less.
        values: dict[str, Any] = payload.to_builtins(envelope)
        values["datacontenttype"] = payload.CBOR
        return values
    values = to_values(envelope)
    if data is UNSET:
        return values
    if envelope.datacontenttype in _ITEM_TYPES and not payload.is_octets(data):
        values["datacontenttype"] = payload.CBOR
    values["data"] = _to_item(data, envelope.datacontenttype)
    return values


def _to_item(data: Any, content_type: str | None) -> Any:
    if payload.is_octets(data):
        return payload.to_octets(data)
    if content_type in _ITEM_TYPES or payload.is_cbor(content_type):
        _check_depth(data)
        return payload.to_builtins(data)
    if payload.is_json(content_type):
        return payload.to_json(data).decode()
    return payload.to_text(data, content_type)


_ITEM_TYPES = frozenset({None, payload.JSON})
_DEEP = frozenset({Raw, dict, list, tuple})


def _check_depth(data: Any) -> None:
    """Check that the reader will take the item; the class of any other bounds its depth."""
    if type(data) in _DEEP:
        try:
            payload.check_depth(payload.to_json(data))
        except DecodeError as error:
            raise EncodeError(error.message, field="data") from error


# How an integer of more than 64 bits begins: tag 2 or 3 on nine octets or more. UTF-8 never has
# these two bytes side by side.
_BIGNUM = re.compile(rb"[\xc2\xc3][\x49-\x5b]")


def _check_readable(document: bytes) -> None:
    """Check that a reader will take what was written, where that is in doubt."""
    try:
        cboritem.check_items(document)
        # The first two cost 50 ns, the expression 2 ns per byte.
        if (b"\xc2" in document or b"\xc3" in document) and _BIGNUM.search(document):
            cboritem.load(document, max_depth=_MAX_DEPTH)
    except DecodeError as error:
        raise EncodeError(
            f"no reader of CBOR takes this payload: {error.message}; integers have 64 bits, items "
            f"are at most {cboritem.MAX_ITEMS}",
            field="data",
        ) from error


def _take_data(values: dict[str, Any], document: bytes) -> Any:
    """Take `data` out of `values`; name its media type as the other codecs do."""
    data = values.pop("data", UNSET)
    if data is UNSET or type(data) is bytes:
        return data
    if type(data) is not str:
        data = cboritem.to_plain(data, document)
    content_type = values.get("datacontenttype")
    if content_type is None or content_type == payload.CBOR:
        values["datacontenttype"] = payload.JSON
        return data
    if type(content_type) is not str or payload.is_cbor(content_type):
        return data
    if type(data) is str:
        return payload.parse_text(data) if payload.is_json(content_type) else data
    if payload.is_json(content_type):
        return data
    raise DecodeError(
        f"data of media type {content_type:.60} is neither text nor octets",
        reason="wrong-type",
        field="data",
    )


def make() -> CborCodec:
    """Return the codec."""
    return CborCodec()
