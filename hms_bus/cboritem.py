"""One CBOR data item (RFC 8949), read into builtins within limits. Loads cbor2.

What comes out has the types of JSON plus bytes: `None`, bool, int, float, str, bytes, lists, and
dicts with text keys. Tags that stand for such a value are taken off, all others are refused: they
would run foreign code paths (regular expressions, MIME, references that make cycles).
"""

import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import cbor2
import msgspec
from cbor2 import CBORDecodeEOF, CBORError, CBORTag

from hms_bus.errors import DecodeError, DecodeReason
from hms_bus.ids import format_time

_SELF_DESCRIBED = b"\xd9\xd9\xf7"  # tag 55799, RFC 8949 section 3.4.6
_TEXT_TIME, _EPOCH_TIME, _URI, _UUID = 0, 1, 32, 37
_UUID_BYTES = 16

# cbor2 leaves what follows an item unread and does not say where the item ended. Read as a pair
# with 16 bytes that nobody outside knows, what follows must be these (400 ns; by its stream decoder
# it takes 1 µs).
_END = os.urandom(16)
_PAIR = b"\x82"
_END_ITEM = bytes([0x40 + len(_END)]) + _END


def load(document: bytes, *, max_depth: int) -> Any:
    """Read the one data item that `document` is, nested no deeper than `max_depth`.

    It may hold octet strings as keys of a map, and simple values: `to_plain` finds them. Arrays,
    maps and tags count as levels. Raises `DecodeError` and nothing else; a length prefix allocates
    nothing before its bytes are there.
    """
    document = document.removeprefix(_SELF_DESCRIBED)
    try:
        item, end = _loads(_PAIR + document + _END_ITEM, max_depth + 1)
    except (CBORError, RecursionError):
        raise _refusal(document, max_depth) from None
    if end != _END:
        raise _refusal(document, max_depth)
    return item


def to_plain(item: Any) -> Any:
    """Return what `load` gave with nothing but plain values in it. Raises `DecodeError`."""
    try:
        return msgspec.to_builtins(item, builtin_types=(bytes,), str_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(f"no plain value: {error}", reason="wrong-type") from error


def _loads(document: bytes, max_depth: int) -> Any:
    return cbor2.loads(
        document,
        max_depth=max_depth,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        semantic_decoders=_SEMANTICS,
        tag_hook=_read_tag,
    )


def _refusal(document: bytes, max_depth: int) -> DecodeError:
    """Say what is wrong with `document` by reading it once more, without what was put around it."""
    try:
        _loads(document, max_depth)
    except CBORDecodeEOF:
        return DecodeError("the document ends too early", reason="truncated")
    except (CBORError, RecursionError) as error:
        cause = error.__cause__
        if isinstance(cause, DecodeError):
            return cause
        if isinstance(cause, UnicodeDecodeError):
            return DecodeError(f"a text is no UTF-8: {cause.reason}", reason="invalid-utf8")
        text = str(error)
        return DecodeError(f"no CBOR: {text}", reason=_reason_of(text))
    return DecodeError("more bytes follow the item", reason="trailing-bytes")


def _reason_of(text: str) -> DecodeReason:
    if "uplicate map key" in text:
        return "duplicate-key"
    if "map key must be" in text:
        return "wrong-type"
    return "too-deep" if "depth" in text else "malformed"


def _read_tag(tag: CBORTag, immutable: bool) -> Any:  # noqa: ARG001, FBT001 - cbor2 calls it
    if tag.tag == _URI and type(tag.value) is str:
        return tag.value
    raise DecodeError(f"tag {tag.tag} on this value is not known", reason="wrong-type")


def _read_text_time(value: Any, immutable: bool) -> str:  # noqa: ARG001, FBT001 - cbor2 calls it
    if type(value) is not str:
        raise DecodeError("tag 0 stands on no text", reason="bad-time")
    return value


def _read_epoch_time(value: Any, immutable: bool) -> str:  # noqa: ARG001, FBT001 - cbor2 calls it
    if type(value) is not int and type(value) is not float:
        raise DecodeError("tag 1 stands on no number", reason="bad-time")
    try:
        # A float of this size holds microseconds and no more.
        return format_time(value * 10**9 if type(value) is int else round(value * 1e6) * 1000)
    except (OverflowError, ValueError) as error:
        raise DecodeError(f"tag 1: {value} is no time: {error}", reason="bad-time") from error


def _read_uuid(value: Any, immutable: bool) -> str:  # noqa: ARG001, FBT001 - cbor2 calls it
    if type(value) is not bytes or len(value) != _UUID_BYTES:
        raise DecodeError("tag 37 stands on no octet string of a UUID", reason="wrong-type")
    return str(uuid.UUID(bytes=value))


def _refuse_tag(number: int) -> Callable[[Any, bool], Any]:
    def refuse(value: Any, immutable: bool) -> Any:  # noqa: ARG001, FBT001 - cbor2 calls it
        raise DecodeError(f"tag {number} on this value is not known", reason="wrong-type")

    return refuse


# Every tag that cbor2 would otherwise give a meaning of its own.
_REFUSED = (2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_SEMANTICS: Mapping[int, Callable[[Any, bool], Any]] = {
    _TEXT_TIME: _read_text_time,
    _EPOCH_TIME: _read_epoch_time,
    _UUID: _read_uuid,
    **{number: _refuse_tag(number) for number in _REFUSED},
}
