"""Order per `partitionkey` while several lanes work: one lane at a time has a key."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from hms_bus.bus.mailbox import Item

Handle = Callable[[Item], Awaitable[None]]
"""Handles one message to the end; raises only what ends the lane."""


class KeyedOrder:
    """The keys that lanes of one subscription have in hand, and what is parked behind them.

    A lane that takes a message whose key another lane has parks it there and goes on; the lane
    that has the key handles what was parked, in order, before it lets the key go. No more than
    `limit` messages are parked: then lanes wait, for else one hot key would empty the bounded
    mailbox into an unbounded list.
    """

    def __init__(
        self,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        before_wait: Callable[[asyncio.Future[None]], list[str]],
    ) -> None:
        self.parked = 0
        self._limit = limit
        self._loop = loop
        self._before_wait = before_wait
        self._keys: dict[str, deque[Item]] = {}
        self._held_up: list[asyncio.Future[None]] = []

    @property
    def held_up(self) -> int:
        """How many lanes wait because too much is parked."""
        return len(self._held_up)

    async def handle(self, item: Item, key: str, handle: Handle) -> None:
        """Handle one message, then those with the same key that came meanwhile, in order."""
        if (parked := self._keys.get(key)) is not None:
            parked.append(item)
            self.parked += 1
            await self._parked_enough()
            return
        parked = self._keys[key] = deque()
        try:
            await handle(item)
            while parked:
                self._unpark(1)
                await handle(parked.popleft())
        finally:
            del self._keys[key]
            self._unpark(len(parked))

    def waiting(self) -> list[Item]:
        """Return what is parked."""
        return [item for parked in self._keys.values() for item in parked]

    async def _parked_enough(self) -> None:
        """Keep this lane from parking more. It parks on where waiting would never end."""
        while self.parked >= self._limit:
            room = self._loop.create_future()
            if self._before_wait(room):
                return
            self._held_up.append(room)
            await room

    def _unpark(self, count: int) -> None:
        self.parked -= count
        if self._held_up and self.parked <= self._limit // 2:
            for room in self._held_up:
                if not room.done():
                    room.set_result(None)
            self._held_up.clear()
