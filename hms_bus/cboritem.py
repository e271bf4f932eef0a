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

_MapHook = Callable[[Mapping[Any, Any], bool], Any]

_SELF_DESCRIBED = b"\xd9\xd9\xf7"  # tag 55799, RFC 8949 section 3.4.6
_TEXT_TIME, _EPOCH_TIME, _URI, _UUID = 0, 1, 32, 37
_UUID_BYTES = 16

MAX_ITEMS = 2**20
"""How many items a document may have, those inside of others and keys among them.

An item of one byte, such as an empty array, takes up to 90 bytes of memory.
"""

# Documents up to this size are copied to check them, the fastest way; larger ones are not.
_COPIED = 16_384

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
    check_items(document)
    check_keys = _check_keys if len(document) > _COPIED else None
    document = document.removeprefix(_SELF_DESCRIBED)
    try:
        item, end = _loads(_PAIR + document + _END_ITEM, max_depth + 1, check_keys)
    except (CBORError, RecursionError):
        raise _refusal(document, max_depth, check_keys) from None
    if end != _END:
        raise _refusal(document, max_depth, check_keys)
    return item


def to_plain(item: Any, document: bytes) -> Any:
    """Return `item`, all or a part of what `load` gave for `document`, as plain values.

    It is a copy, or `item` itself. Raises `DecodeError` when it holds anything else.
    """
    try:
        if len(document) <= _COPIED:
            return msgspec.to_builtins(item, builtin_types=(bytes,), str_keys=True)
        msgspec.json.encode(item)  # its text takes little memory; keys were checked by `load`
    except (TypeError, ValueError, RecursionError) as error:
        raise DecodeError(f"no plain value: {error}", reason="wrong-type") from error
    return item


def check_items(document: bytes) -> None:
    """Check that `document` has at most `MAX_ITEMS` items. Raises `DecodeError`."""
    # No item is shorter than a byte.
    if len(document) > MAX_ITEMS and count_items(document, limit=MAX_ITEMS) > MAX_ITEMS:
        raise DecodeError(
            f"the document has more than {MAX_ITEMS} items", reason="too-large", field="data"
        )


def count_items(document: bytes, *, limit: int) -> int:
    """Return how many items a well-formed document has, or some number above `limit`.

    Arrays, maps and tags count, what is in them, keys, and the chunks of a string. Reads the heads
    of items only, one behind the other, 0.1 µs each.
    """
    count = at = 0
    size = len(document)
    while at < size and count <= limit:
        first = document[at]
        width = _HEAD_BYTES[first]
        count += first != _BREAK
        if first in _STRINGS:
            length = first & 31 if width == 1 else int.from_bytes(document[at + 1 : at + width])
            at += width + length
        else:
            at += width
    return count


_BREAK = 0xFF
_STRINGS = frozenset(range(0x40, 0x80)) - {0x5F, 0x7F}  # of octets or text, with a length
_LENGTHS = {24: 1, 25: 2, 26: 4, 27: 8}
_HEAD_BYTES = bytes(1 + _LENGTHS.get(first & 31, 0) for first in range(256))


def _loads(document: bytes, max_depth: int, check_keys: _MapHook | None) -> Any:
    return cbor2.loads(
        document,
        object_hook=check_keys,
        max_depth=max_depth,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        semantic_decoders=_SEMANTICS,
        tag_hook=_read_tag,
    )


def _check_keys(item: Mapping[Any, Any], immutable: bool) -> Any:  # noqa: ARG001, FBT001 - cbor2 calls it
    if item and set(map(type, item)) != {str}:
        raise DecodeError("a key of a map is no text", reason="wrong-type")
    return item


def _refusal(document: bytes, max_depth: int, check_keys: _MapHook | None) -> DecodeError:
    """Say what is wrong with `document` by reading it once more, without what was put around it."""
    try:
        _loads(document, max_depth, check_keys)
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
