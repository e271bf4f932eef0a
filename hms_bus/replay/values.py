"""Payloads as values that can be compared, and the differences between two of them, by path."""

from collections.abc import Iterator
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, Struct

from hms_bus import payload
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.replay.paths import Key, Routes, extend, go_down, is_end


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that differs: what was on the left and is on the right, `UNSET` where it is absent.

    `path` is `$…` in the payload, else the name of an attribute, or `order`: then left and right
    are places among the outputs of one cause, from 1.
    """

    path: str
    left: Any = UNSET
    right: Any = UNSET


def value_of(envelope: Envelope) -> Any:
    """Return the payload as a JSON value, bytes for octets, `UNSET` without one.

    It is the same whether the payload was published in this process or came out of a log. What
    says it is JSON and is none is compared as octets. Raises `EncodeError` for an object that no
    log could have kept.
    """
    if envelope.data is UNSET:
        return UNSET
    try:
        value = envelope.decode()
    except DecodeError:
        return envelope.decode(bytes)
    if type(envelope.data) is Raw:
        return value
    if payload.is_octets(value):
        return payload.to_octets(value)
    return payload.from_json(payload.to_json(value), Any)


def is_same_text(left: Envelope, right: Envelope) -> bool:
    """Whether both payloads are the same JSON text, which needs no parsing."""
    a, b = left.data, right.data
    if type(a) is Raw and type(b) is Raw:
        return bytes(a) == bytes(b)
    return a is UNSET and b is UNSET


def fingerprint(value: Any, ignored: Routes) -> bytes:
    """Return bytes that are equal for payloads that differ in what is ignored only.

    Equal numbers may have different ones (1 and 1.0).
    """
    if value is UNSET or is_end(ignored):
        return b""
    if type(value) is bytes:
        return b"octets:" + value
    kept = _without(value, ignored) if ignored else value
    return msgspec.json.encode(kept, order="deterministic")


def _without(value: Any, ignored: Routes) -> Any:
    if not ignored:
        return value
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        below = {name: go_down(ignored, name) for name in members}
        return {
            name: _without(member, below[name])
            for name, member in members.items()
            if not is_end(below[name])
        }
    if isinstance(value, list):
        places = [(go_down(ignored, i), item) for i, item in enumerate(cast("list[Any]", value))]
        return [None if is_end(routes) else _without(item, routes) for routes, item in places]
    return value


def changes_between(left: Any, right: Any, ignored: Routes, path: str = "$") -> Iterator[Change]:
    """Yield the differences of two payloads, members by name, elements by index."""
    if is_end(ignored):
        return
    if isinstance(left, dict) and isinstance(right, dict):
        yield from _members(
            cast("dict[Key, Any]", left), cast("dict[Key, Any]", right), ignored, path
        )
    elif isinstance(left, list) and isinstance(right, list):
        yield from _members(
            dict(enumerate(cast("list[Any]", left))),
            dict(enumerate(cast("list[Any]", right))),
            ignored,
            path,
        )
    elif not _is_equal(left, right):
        yield Change(path=path, left=left, right=right)


def _members(
    left: dict[Key, Any], right: dict[Key, Any], ignored: Routes, path: str
) -> Iterator[Change]:
    for key in (*left, *(key for key in right if key not in left)):
        yield from changes_between(
            left.get(key, UNSET), right.get(key, UNSET), go_down(ignored, key), extend(path, key)
        )


def _is_equal(left: Any, right: Any) -> bool:
    # JSON has numbers and truth values; Python takes True for 1.
    return left == right and isinstance(left, bool) == isinstance(right, bool)
