"""A run in figures: rates, sizes, and how long effects came after their causes."""

from array import array
from collections.abc import Callable
from typing import Literal, get_args

from msgspec import UNSET, Raw, Struct

from hms_bus import payload
from hms_bus.abc import Record
from hms_bus.bounces import ERROR
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.replay.events import EFFECT, EffectBody
from hms_bus.replay.instances import without_instance

Grouping = Literal["topic", "agent", "type"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)

REMEMBERED = 500_000
"""How many records back a cause may lie: what is further away counts as having none."""

_SEVERE = 17  # ERROR in the severity numbers of OpenTelemetry


class Latency(Struct, frozen=True, kw_only=True):
    """How long after their causes `count` effects were recorded, in seconds, by nearest rank."""

    count: int
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


class Figures(Struct, frozen=True, kw_only=True):
    """What is known of one topic, agent or type, or of the whole run (`name` is empty then).

    `rate` is records per second over the whole run, `None` where that took no time. `size` and
    `largest` are bytes of payload, on average and at most. `errors` are error replies, effects that
    failed, and what has a `severitynumber` of ERROR or above. `latency` is `None` where no cause is
    in the log.
    """

    name: str
    count: int
    rate: float | None
    bytes: int
    size: float
    largest: int
    errors: int
    latency: Latency | None


class RunStatistics:
    """Counts records, which come in recorded order, by topic, by agent or by type.

    Agents are told apart `without_instance`.

    Memory: 8 bytes for each effect, and the ids of the last `REMEMBERED` records.
    """

    def __init__(self, by: Grouping = "topic") -> None:
        self._name_of = _NAMES[by]
        self._groups: dict[str, _Group] = {}
        self._recorded: dict[str, int] = {}
        self._first_ns: int | None = None
        self._last_ns = 0

    def add(self, record: Record) -> None:
        """Count one record."""
        event = record.envelope
        if self._first_ns is None:
            self._first_ns = record.recorded_ns
        self._last_ns = record.recorded_ns
        name = self._name_of(event)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group()
        group.add(event)
        caused_ns = self._recorded.get(event.causationid or "")
        if caused_ns is not None:
            group.delays_ns.append(record.recorded_ns - caused_ns)
        self._remember(event.id, record.recorded_ns)

    def _remember(self, event_id: str, recorded_ns: int) -> None:
        self._recorded.setdefault(event_id, recorded_ns)
        if len(self._recorded) > REMEMBERED:
            del self._recorded[next(iter(self._recorded))]

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last record."""
        return 0.0 if self._first_ns is None else (self._last_ns - self._first_ns) / 1e9

    def total(self) -> Figures:
        """Return the figures of the whole run."""
        everything = _Group()
        for group in self._groups.values():
            everything.merge(group)
        return everything.figures("", self.span_s)

    def groups(self) -> list[Figures]:
        """Return the figures of each group, the one with most records first."""
        rows = [group.figures(name, self.span_s) for name, group in self._groups.items()]
        return sorted(rows, key=lambda row: (-row.count, row.name))


class _Group:
    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.largest = 0
        self.errors = 0
        self.delays_ns = array("q")

    def add(self, event: Envelope) -> None:
        size = _size(event)
        self.count += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        self.errors += _is_error(event)

    def merge(self, other: "_Group") -> None:
        self.count += other.count
        self.bytes += other.bytes
        self.largest = max(self.largest, other.largest)
        self.errors += other.errors
        self.delays_ns.extend(other.delays_ns)

    def figures(self, name: str, span_s: float) -> Figures:
        return Figures(
            name=name,
            count=self.count,
            rate=self.count / span_s if span_s else None,
            bytes=self.bytes,
            size=self.bytes / self.count if self.count else 0.0,
            largest=self.largest,
            errors=self.errors,
            latency=_latency(self.delays_ns),
        )


_NAMES: dict[Grouping, Callable[[Envelope], str]] = {
    "topic": lambda event: event.topic,
    "agent": lambda event: without_instance(event.source),
    "type": lambda event: event.type,
}


def _is_error(event: Envelope) -> bool:
    if event.type == EFFECT:
        try:
            return event.decode(EffectBody).error is not None
        except DecodeError:  # somebody else's, or redacted
            return False
    return event.type == ERROR or (event.severitynumber or 0) >= _SEVERE


def _latency(delays_ns: "array[int]") -> Latency | None:
    if not delays_ns:
        return None
    ordered = sorted(delays_ns)
    return Latency(
        count=len(ordered),
        p50_s=_rank(ordered, 50),
        p90_s=_rank(ordered, 90),
        p99_s=_rank(ordered, 99),
        max_s=ordered[-1] / 1e9,
    )


def _rank(ordered: list[int], percent: int) -> float:
    """Return the smallest value that at least `percent` of all do not exceed, in seconds."""
    return ordered[-(-len(ordered) * percent // 100) - 1] / 1e9


def _size(event: Envelope) -> int:
    data = event.data
    if data is UNSET:
        return 0
    if type(data) is Raw or type(data) is bytes:
        return len(bytes(data))
    return len(payload.to_octets(data) if payload.is_octets(data) else payload.to_json(data))
