"""Payloads as octets, JSON text, builtins or text: what the codecs write."""

from typing import Any

import msgspec
from msgspec import Raw

from hms_bus.errors import EncodeError
from hms_bus.payload.kinds import MAX_BYTES, is_message_type, is_model_type


def _from_foreign(value: Any) -> Any:
    """Turn an object that msgspec does not know into one that it does (its `enc_hook`)."""
    cls: type[Any] = value.__class__
    if is_model_type(cls):
        return value.model_dump(mode="json", by_alias=True)
    if cls is Raw:
        return msgspec.json.decode(value)
    if is_message_type(cls):
        raise EncodeError(
            f"a protobuf message ({cls.__name__}) can be a whole payload, not a part of one"
        )
    raise EncodeError(
        f"{cls.__module__}.{cls.__qualname__} is no payload: publish a msgspec Struct, dataclass, "
        "TypedDict, builtin, bytes, protobuf message or pydantic model"
    )


_encoder = msgspec.json.Encoder(enc_hook=_from_foreign)
encode_json = _encoder.encode
encode_json_into = _encoder.encode_into


def to_octets(data: Any) -> bytes:
    """Return the bytes of a payload for which `is_octets` holds. Raises `EncodeError`."""
    if not is_message_type(type(data)):
        return bytes(data)
    try:
        return data.SerializeToString(deterministic=True)
    except Exception as error:
        # protobuf's own classes stay out of this module: a required field that is not set.
        raise EncodeError(f"the message cannot be serialized: {error}", field="data") from error


def to_json(data: Any) -> bytes:
    """Return the JSON text of a payload that is not octets. Raises `EncodeError`."""
    if type(data) is Raw:
        return bytes(data)
    try:
        return encode_json(data)
    except EncodeError:
        raise
    except NO_PLAIN_FORM as error:
        raise EncodeError(f"the payload has no JSON form: {error}", field="data") from error


def to_builtins(data: Any) -> Any:
    """Return the payload as builtins (bytes stay bytes, times become text, keys become text).

    Raises `EncodeError`.
    """
    try:
        if type(data) is Raw:
            return msgspec.json.decode(data)
        return msgspec.to_builtins(
            data, builtin_types=(bytes, bytearray), str_keys=True, enc_hook=_from_foreign
        )
    except EncodeError:
        raise
    except NO_PLAIN_FORM as error:
        raise EncodeError(f"the payload has no plain form: {error}", field="data") from error


NO_PLAIN_FORM = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What msgspec raises for an object that it cannot encode."""


def check_size(document: bytes) -> bytes:
    """Return `document` unchanged when a codec may send it. Raises `EncodeError`."""
    if len(document) > MAX_BYTES:
        raise EncodeError(
            f"the document is {len(document)} bytes long, allowed are {MAX_BYTES}: "
            "store the payload elsewhere and publish a reference (dataref)",
            field="data",
        )
    return document


def to_text(data: Any, content_type: str | None) -> str:
    """Return the text of a payload whose media type is neither JSON nor CBOR.

    Raises `EncodeError` for anything that is not text: such a media type says nothing about it.
    """
    text = to_builtins(data)
    if type(text) is str:
        return text
    raise EncodeError(
        f"a payload of media type {content_type} is text or octets, not {type(data).__name__}",
        field="data",
    )
