"""A healthy client of a hub that others try to break."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from hms_bus import Bus


class Witness:
    """Asks over the hub all the time, and is answered: `count` times so far."""

    def __init__(self, bus: Bus) -> None:
        self.count = 0
        self._bus = bus
        self._answered = asyncio.Event()

    async def ask(self) -> None:
        """Ask on, until the task is cancelled. Raises what comes in place of an answer."""
        while True:
            n = self.count
            assert await self._bus.request("witness.square", n, returns=int, timeout=30) == n * n
            self.count += 1
            self._answered.set()

    async def more(self, count: int) -> None:
        """Return when it has got so many answers more."""
        wanted = self.count + count
        while self.count < wanted:
            self._answered.clear()
            await self._answered.wait()


@asynccontextmanager
async def witness_at(url: str) -> AsyncGenerator[Witness]:
    """Serve and ask at the hub; at the end, all that was asked must have been answered."""
    server, asker = Bus(url), Bus(url)

    @server.serve("witness.square")
    async def square(n: int) -> int:
        return n * n

    async with server, asker, asyncio.TaskGroup() as group:
        witness = Witness(asker)
        asking = group.create_task(witness.ask())
        yield witness
        assert not asking.done()
        asking.cancel()
