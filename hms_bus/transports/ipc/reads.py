"""One read of the hub's log by a client: what has arrived, and where it goes on."""

import asyncio

from msgspec.structs import replace

from hms_bus.abc import Record, Selector
from hms_bus.errors import BusError
from hms_bus.ipc.session import Read

_CREDIT = 2048
"""Records that a read has under way at most."""


class Reading:
    """One read: what has arrived, and where it goes on when the line was cut."""

    def __init__(
        self, selector: Selector, *, follow: bool, codec: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._selector = selector
        self._follow = follow
        self._codec = codec
        self._loop = loop
        self._arrived: list[list[Record]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BusError | None = None
        self._has_ended = False
        self._unread = 0
        self._handed_out = 0
        self._last: int | None = None
        self._count = 0

    def wanted(self) -> Read:
        """Return what the hub is asked for: all, or what is behind the last record that came."""
        selector = self._selector
        if self._last is not None:
            after = {"last": self._last - 1} if selector.backwards else {"first": self._last + 1}
            limit = None if selector.limit is None else selector.limit - self._count
            selector = replace(selector, limit=limit, **after)
        self._handed_out = 0
        return Read(
            pattern=selector.pattern,
            first=selector.first,
            last=selector.last,
            since_ns=selector.since_ns,
            until_ns=selector.until_ns,
            types=sorted(selector.types),
            correlation=selector.correlation,
            source=selector.source,
            backwards=selector.backwards,
            limit=selector.limit,
            follow=self._follow,
            codec=self._codec,
            credit=max(1, _CREDIT - self._unread),
        )

    def take(self, records: list[Record]) -> None:
        """Keep what has arrived until it is asked for."""
        self._arrived.append(records)
        self._unread += len(records)
        self._count += len(records)
        self._last = records[-1].position
        self._wake()

    def end(self) -> None:
        """There is no more."""
        self._has_ended = True
        self._wake()

    def fail(self, error: BusError) -> None:
        """Raise `error` behind what has arrived."""
        self._failure = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[Record] | None:
        """Return what has arrived; `None` at the end."""
        while not self._arrived:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter
        batch = self._arrived.pop(0)
        self._unread -= len(batch)
        self._handed_out += len(batch)
        return batch

    def more_credit(self) -> int:
        """Return how many records more the hub may send now."""
        if self._handed_out < _CREDIT // 2 or self._has_ended:
            return 0
        more, self._handed_out = self._handed_out, 0
        return more
