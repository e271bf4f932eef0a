"""What is measured (`Race`, `Gauge`), and what came out (`RaceResult`, `GaugeResult`)."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal

from msgspec import Struct

Run = Callable[[int], Awaitable[float]]
"""Does that many operations and returns how many seconds they took, set-up not included.

Where a race is about another time than that of the whole (`Race.each`), it returns that time of one
operation, times their number.
"""

Direction = Literal["at least", "at most"]


class PeerMissingError(Exception):
    """A peer cannot take part on this machine; says what is missing."""


class Contender(Struct, frozen=True, kw_only=True):
    """One side of a race. `open` sets it up once for all rounds; an async context manager.

    It raises `PeerMissingError` where a peer needs what is not there. The number of operations of a
    round is a multiple of `step`.
    """

    name: str
    open: Callable[[], AbstractAsyncContextManager[Run]]
    step: int = 1


class Target(Struct, frozen=True, kw_only=True):
    """What the ratio to the peer `against` has to be.

    `at least` is about speed (ours divided by theirs), `at most` about time (ours by theirs).
    """

    against: str
    limit: float
    direction: Direction = "at least"


class Race(Struct, frozen=True, kw_only=True):
    """The same work done by us and by each peer, in turn, round after round.

    `unit` is the plural of one operation. `operations` fixes how many a round has; without it each
    contender gets as many as fill the round. `order_of_magnitude` is a goal for our own rate,
    reached when the rate is nearer to it than to a tenth of it on a logarithmic scale; `at_least`
    is a target for that rate as it stands. `each` names the time of one operation that the table
    shows in place of a rate: `median`.
    """

    name: str
    title: str
    unit: str
    ours: Contender
    peers: tuple[Contender, ...] = ()
    targets: tuple[Target, ...] = ()
    operations: int | None = None
    order_of_magnitude: float | None = None
    at_least: float | None = None
    each: str | None = None


class Gauge(Struct, frozen=True, kw_only=True):
    """One figure that is measured `rounds` times and has no peer. `at_most` is its target.

    A short run measures `in_short` in its place: the same with less, as its title says.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[], Awaitable[float]]
    rounds: int = 1
    at_most: float | None = None
    in_short: "Gauge | None" = None


Row = Race | Gauge


class Timing(Struct, frozen=True, kw_only=True):
    """The rounds of one contender: seconds for `operations` operations each, in order."""

    name: str
    operations: int
    seconds: tuple[float, ...]


class Absent(Struct, frozen=True, kw_only=True):
    """A peer that could not take part, and why."""

    name: str
    reason: str


class RaceResult(Struct, frozen=True, kw_only=True, tag="race"):
    """What a race gave. Round `i` of every contender ran next to round `i` of the others."""

    name: str
    title: str
    unit: str
    ours: Timing
    peers: tuple[Timing, ...]
    targets: tuple[Target, ...]
    order_of_magnitude: float | None
    at_least: float | None = None
    each: str | None = None
    absent: tuple[Absent, ...] = ()


class GaugeResult(Struct, frozen=True, kw_only=True, tag="gauge"):
    """What a gauge gave."""

    name: str
    title: str
    unit: str
    values: tuple[float, ...]
    at_most: float | None


Result = RaceResult | GaugeResult


class Report(Struct, frozen=True, kw_only=True):
    """One run of the benchmark: the JSON file.

    `machine` and `versions` name what the figures depend on; `round_s` is the length of a round.
    """

    mode: str
    rounds: int
    round_s: float
    machine: dict[str, str]
    versions: dict[str, str]
    results: tuple[Result, ...]
