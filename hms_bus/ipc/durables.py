"""The frames of durable consumption, and what is said in JSON (spec/ipc.md, "Durables").

As in `hms_bus.ipc.frames`: without I/O; a `content` is a whole frame, its kind at 0; who reads
raises `FrameError`, and nothing else, whatever the bytes are.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from struct import Struct as Layout
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, to_builtins
from msgspec.structs import replace

from hms_bus.abc import Durable, DurableInfo, Outcome, Settlement
from hms_bus.errors import FrameError, UsageError
from hms_bus.ipc import frames

ABANDON: Final = 1
"""Flag of a RELEASE: what the consumer holds is not handed back."""

OUTCOMES: Final[tuple[Outcome, ...]] = ("ack", "nak", "term", "progress", "defer")
"""In the order of their numbers on the wire, from 1."""

_NUMBERS: Final = {outcome: number for number, outcome in enumerate(OUTCOMES, 1)}

_NS: Final = 10**9
_MAX_DELAY_NS: Final = 2**62
"""About 146 years: a time that far from now is still a number of 64 bits."""

_DEAD_IN_PART: Final = 1000

MAX_SETTLED: Final = 1024
"""Entries that a SETTLE has at most: 2 ms, in which the hub does nothing else."""

MAX_TEXT: Final = 2**16 - 1
"""Bytes that the texts of a SETTLE have at most, each."""

_FETCH = Layout(">III")
_RELEASE = Layout(">IIB")
_DELIVERIES = Layout(">IB")
_DELIVERY = Layout(">QQII")
_SETTLEMENT = Layout(">QIBQ")
_CALL_AND_CONSUMER: Final = 9
"""Bytes until the entries of a SETTLE."""

_U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Counted = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Seconds = Annotated[float, Meta(gt=0, le=1e9)]


# -- in JSON -----------------------------------------------------------------------------------


class Consume(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of CONSUME behind its call: a durable, and which consumer of it this is.

    `max_deliveries` 0 stands for no end.
    """

    consumer: _U32
    name: str
    pattern: str
    group: str | None = None
    start: _Counted | Literal["beginning", "end"] = "beginning"
    start_ns: _I64 | None = None
    ack_wait_s: _Seconds = 30.0
    max_deliveries: _U63 = 5
    max_unacked: _Counted = 1000
    codec: str | None = None


class DurableEntry(Struct, frozen=True, kw_only=True):
    """One durable in the answer to `durables`, or a part of it that has more of `dead`.

    It has the members of a `Consume`, and how it stands.
    """

    name: str
    pattern: str
    group: str | None
    start: _Counted | Literal["beginning", "end"]
    start_ns: _I64 | None
    ack_wait_s: float
    max_deliveries: _U63
    max_unacked: _U63
    floor: _U63
    delivered: _U63
    unacked: _U63
    redelivered: _U63
    lag: _U63
    consumers: _U63
    dead: list[_U63] = []


class DurableList(Struct, frozen=True, kw_only=True):
    """One answer to `durables`."""

    durables: list[DurableEntry]


def consume_of(durable: Durable, consumer: int, codec: str) -> Consume:
    """Return how a client asks to consume. Raises `UsageError` for a durable that cannot be."""
    if durable.max_deliveries == 0:
        raise UsageError(f"durable {durable.name!r:.100}: max_deliveries is at least 1, or None")
    members = _members(durable) | {"consumer": consumer, "codec": codec}
    try:
        return msgspec.convert(members, Consume)
    except msgspec.ValidationError as error:
        raise UsageError(f"durable {durable.name!r:.100}: {error}") from error


def durable_of(asked: Consume | DurableEntry) -> Durable:
    """Return the durable that was asked for, or told of."""
    return Durable(
        name=asked.name,
        pattern=asked.pattern,
        group=asked.group,
        start=asked.start,
        start_ns=asked.start_ns,
        ack_wait_s=asked.ack_wait_s,
        max_deliveries=asked.max_deliveries or None,
        max_unacked=asked.max_unacked,
    )


def parts_of(info: DurableInfo) -> Iterator[dict[str, Any]]:
    """Yield how the hub tells of a durable: once, or in parts for its many dead letters."""
    for at in range(0, len(info.dead) or 1, _DEAD_IN_PART):
        yield _entry_of(replace(info, dead=info.dead[at : at + _DEAD_IN_PART]))


def infos_of(entries: Iterable[DurableEntry]) -> list[DurableInfo]:
    """Return what the hub has told of all durables, the parts of one after the other."""
    infos: list[DurableInfo] = []
    for _, parts in groupby(map(_info_of, entries), key=lambda info: info.durable.name):
        first, *others = parts
        dead = (position for part in (first, *others) for position in part.dead)
        infos.append(replace(first, dead=tuple(dead)))
    return infos


def _entry_of(info: DurableInfo) -> dict[str, Any]:
    """Return how the hub tells of a durable."""
    figures: dict[str, Any] = to_builtins(info)
    del figures["durable"]
    return _members(info.durable) | figures


def _info_of(entry: DurableEntry) -> DurableInfo:
    """Return what the hub has told of a durable."""
    return DurableInfo(
        durable=durable_of(entry),
        floor=entry.floor,
        delivered=entry.delivered,
        unacked=entry.unacked,
        redelivered=entry.redelivered,
        lag=entry.lag,
        consumers=entry.consumers,
        dead=tuple(entry.dead),
    )


def _members(durable: Durable) -> dict[str, Any]:
    return to_builtins(durable) | {"max_deliveries": durable.max_deliveries or 0}


# -- writing -----------------------------------------------------------------------------------


def fetch(call: int, consumer: int, limit: int) -> bytes:
    """Return a FETCH of `limit` deliveries at most."""
    return frames.frame(frames.FETCH, _FETCH.pack(call, consumer, limit))


def deliveries(
    call: int, entries: Iterable[tuple[int, int, int, bytes]], *, more: bool = False
) -> bytes:
    """Return DELIVERIES of `(position, recorded_ns, attempt, envelope)`; `more` follow or not."""
    parts = [_DELIVERIES.pack(call, more)]
    for position, recorded_ns, attempt, envelope in entries:
        parts += (_DELIVERY.pack(position, recorded_ns, attempt, len(envelope)), envelope)
    return frames.frame(frames.DELIVERIES, *parts)


def settlement(settled: Settlement, max_text: int = MAX_TEXT) -> bytes:
    """Return one entry of a SETTLE.

    Texts are cut at `max_text` bytes each, delays at 2⁶² ns. Raises `UsageError` for numbers that
    cannot be.
    """
    try:
        delay_ns = int(min(settled.delay_s * _NS, _MAX_DELAY_NS))
        head = _SETTLEMENT.pack(
            settled.position, settled.attempt, _NUMBERS[settled.outcome], delay_ns
        )
    except (struct.error, ValueError, OverflowError) as error:
        raise UsageError(f"{settled!r:.200} names no delivery, or no delay: {error}") from error
    if settled.code == "UNKNOWN" and not settled.reason and max_text >= len("UNKNOWN"):
        return head + _NO_REASON
    code, reason = _text(settled.code, max_text), _text(settled.reason, max_text)
    return b"".join((head, frames.U16.pack(len(code)), code, frames.U16.pack(len(reason)), reason))


# Hot path: how nearly every settlement ends. Compared as it stands, 0.5 µs less at either end.
_NO_REASON = frames.U16.pack(len("UNKNOWN")) + b"UNKNOWN" + frames.U16.pack(0)


def _text(text: str, most: int) -> bytes:
    """Return a text that is for people, as much of it as has room."""
    encoded = text.encode("utf-8", "replace")
    most = min(most, MAX_TEXT)
    return encoded[:most].decode("utf-8", "ignore").encode() if len(encoded) > most else encoded


def settle(call: int, consumer: int, entries: Iterable[bytes]) -> bytes:
    """Return a SETTLE of entries, `MAX_SETTLED` at most, that `settlement` has made."""
    return frames.call_frame(frames.SETTLE, call, frames.U32.pack(consumer), *entries)


def release(call: int, consumer: int, flags: int = 0) -> bytes:
    """Return a RELEASE."""
    return frames.frame(frames.RELEASE, _RELEASE.pack(call, consumer, flags))


# -- reading -----------------------------------------------------------------------------------


def read_fetch(content: bytes) -> tuple[int, int, int]:
    """Return the call, the consumer, and how many deliveries it takes, at least 1."""
    call, consumer, limit = _exactly(_FETCH, content)
    if not limit:
        raise FrameError("a FETCH takes at least 1 delivery")
    return call, consumer, limit


def read_release(content: bytes) -> tuple[int, int, int]:
    """Return the call, the consumer, and the flags."""
    call, consumer, flags = _exactly(_RELEASE, content)
    return call, consumer, flags


def read_deliveries(content: bytes) -> tuple[int, bool, list[tuple[int, int, int, bytes]]]:
    """Return the call, whether more follow, `(position, recorded_ns, attempt, envelope)` each."""
    try:
        call, more = _DELIVERIES.unpack_from(content, 1)
    except struct.error:
        raise _cut_short(content) from None
    if more > 1:
        raise FrameError(f"more is 0 or 1, not {more}")
    entries: list[tuple[int, int, int, bytes]] = []
    at, end, unpack = 1 + _DELIVERIES.size, len(content), _DELIVERY.unpack_from
    while at < end:
        try:
            position, recorded_ns, attempt, length = unpack(content, at)
        except struct.error:
            raise _cut_short(content) from None
        at += _DELIVERY.size
        if at + length > end or not length:
            raise _cut_short(content)
        entries.append((position, recorded_ns, attempt, content[at : at + length]))
        at += length
    if more and not entries:
        raise FrameError("DELIVERIES that more follow hold none")
    return call, bool(more), entries


def read_settle(content: bytes) -> tuple[int, int, Sequence[Settlement]]:
    """Return the call, the consumer, and what became of deliveries, at least one."""
    call, consumer = frames.read_u32(content), frames.read_u32(content, 5)
    settlements: list[Settlement] = []
    at, end = _CALL_AND_CONSUMER, len(content)
    while at < end:
        if len(settlements) == MAX_SETTLED:
            raise FrameError(f"a SETTLE settles more than {MAX_SETTLED} deliveries")
        settled, at = _read_settlement(content, at)
        settlements.append(settled)
    if not settlements:
        raise FrameError("a SETTLE settles nothing")
    return call, consumer, settlements


def _read_settlement(content: bytes, at: int) -> tuple[Settlement, int]:
    try:
        fields: tuple[int, int, int, int] = _SETTLEMENT.unpack_from(content, at)
    except struct.error:
        raise _cut_short(content) from None
    position, attempt, number, delay_ns = fields
    if not 1 <= number <= len(OUTCOMES):
        raise FrameError(f"an outcome is 1 to {len(OUTCOMES)}, not {number}")
    if delay_ns > _MAX_DELAY_NS:
        raise FrameError(f"a delay is at most {_MAX_DELAY_NS} ns, not {delay_ns}")
    at += _SETTLEMENT.size
    if content.startswith(_NO_REASON, at):
        code, reason, at = "UNKNOWN", "", at + len(_NO_REASON)
    else:
        code, at = _read_text(content, at)
        reason, at = _read_text(content, at)
    settled = Settlement(
        position=position,
        attempt=attempt,
        outcome=OUTCOMES[number - 1],
        delay_s=delay_ns / _NS,
        code=code,
        reason=reason,
    )
    return settled, at


def _read_text(content: bytes, at: int) -> tuple[str, int]:
    try:
        (length,) = frames.U16.unpack_from(content, at)
    except struct.error:
        raise _cut_short(content) from None
    at += frames.U16.size
    if at + length > len(content):
        raise _cut_short(content)
    try:
        return content[at : at + length].decode(), at + length
    except UnicodeDecodeError as error:
        raise FrameError(f"a text of a SETTLE is no UTF-8: {error}") from error


def _exactly(layout: Layout, content: bytes) -> tuple[int, int, int]:
    if len(content) != 1 + layout.size:
        raise FrameError(
            f"a frame of kind 0x{content[0]:02x} has {len(content) - 1} bytes of content, "
            f"not {layout.size}"
        )
    first, second, third = layout.unpack_from(content, 1)
    return first, second, third


def _cut_short(content: bytes) -> FrameError:
    return FrameError(f"a frame of kind 0x{content[0]:02x} ends within its content")
