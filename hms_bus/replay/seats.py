"""Who listens in a replay, and which of them a recorded message goes to."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from hms_bus.abc import Sink
from hms_bus.bus.subscription import Subscription
from hms_bus.topics import Pattern

_MAX_BURST = 256


class Seat:
    """One subscription of an agent; it tells when all that it was offered is handled."""

    __slots__ = ("_waiter", "agent", "burst", "group", "has_left", "is_muted", "pattern", "sink")

    def __init__(
        self, sink: Sink, *, agent: str, pattern: Pattern, group: str | None, is_muted: bool
    ) -> None:
        self.sink = sink
        self.agent = agent
        self.pattern = pattern
        self.group = group
        self.is_muted = is_muted
        self._waiter: asyncio.Future[None] | None = None
        self.has_left = False
        self.burst = _burst(sink)
        """How many messages it may be offered at once and still handles one after the other."""
        sink.on_idle(self._wake)

    async def idle(self) -> None:
        """Return when it has handled everything, or has left."""
        while self.sink.load and not self.has_left:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def leave(self) -> None:
        """Note that it is offered nothing more, and that nobody needs to wait for it."""
        self.has_left = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _burst(sink: Sink) -> int:
    if not isinstance(sink, Subscription) or sink.options.concurrency > 1 or sink.answers:
        return 1
    return max(1, min(_MAX_BURST, sink.options.max_queue))


class Seating(Struct, frozen=True, eq=False):
    """The seats that a topic goes to: each of `single`, and one of each of `groups`.

    `alone` is the only one that gets all of them, if it takes several at once (its `burst`).
    """

    single: tuple[Seat, ...] = ()
    groups: tuple[tuple[Seat, ...], ...] = ()
    alone: Seat | None = None
    is_empty: bool = True

    def chosen(self, handlers: set[str]) -> list[Seat]:
        """Return who gets a message that `handlers` have answered in the record.

        Of a group it is the member that did; where nobody is known to have, the first one.
        """
        seats = [*self.single, *(_member(group, handlers) for group in self.groups)]
        return [seat for seat in seats if not seat.is_muted]

    def is_settled(self, handlers: set[str]) -> bool:
        """Whether one of `handlers` is in each group that has several members."""
        return all(
            len(group) == 1 or any(seat.agent in handlers for seat in group)
            for group in self.groups
        )


def _member(group: Sequence[Seat], handlers: set[str]) -> Seat:
    return next((seat for seat in group if seat.agent in handlers), group[0])


def compile_seats(seats: list[Seat]) -> Seating:
    """Return where messages go that `seats` wait for."""
    single: list[Seat] = []
    groups: dict[tuple[str, str], list[Seat]] = {}
    for seat in seats:
        if seat.group is None:
            single.append(seat)
        else:
            groups.setdefault((seat.pattern.plain, seat.group), []).append(seat)
    heard = [seat for seat in seats if not seat.is_muted]
    shared = any(len(group) > 1 for group in groups.values())
    takes_bursts = len(heard) == 1 and not shared and heard[0].burst > 1
    return Seating(
        single=tuple(single),
        groups=tuple(tuple(group) for group in groups.values()),
        alone=heard[0] if takes_bursts else None,
        is_empty=not heard,
    )
