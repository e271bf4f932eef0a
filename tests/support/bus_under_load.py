"""A program that publishes as fast as it can, and tells what was accepted and what was handled.

    python -m tests.support.bus_under_load main|run LOG

`main` opens its bus in `asyncio.run(main())`, `run` leaves that to `Bus.run`.
"""

import asyncio
import contextlib
import sys
from typing import Self

from hms_bus import Bus
from hms_bus.errors import StateError

PRODUCERS = 8


class LoadedBus(Bus):
    """A bus that publishes by itself while it is open."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.producing = [asyncio.create_task(self.produce(n)) for n in range(PRODUCERS)]
        say("ready")
        return self

    async def produce(self, producer: int) -> None:
        """Publish until the bus takes in nothing more."""
        with contextlib.suppress(StateError):
            for n in range(10**9):
                name = f"{producer}.{n}"
                await self.publish(f"jobs.{producer}", name)
                say(f"accepted {name}")


def say(line: str) -> None:
    """Print `line`, whole and at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make_bus(log: str) -> LoadedBus:
    """Return the bus, with a handler that takes its time."""
    bus = LoadedBus(log=log, source="/agents/load", max_queue=100)

    @bus.subscribe("jobs.*", concurrency=3)
    async def handle(name: str) -> None:
        await asyncio.sleep(0.0001)
        say(f"handled {name}")

    return bus


async def main(log: str) -> None:
    """Live until somebody cancels."""
    async with make_bus(log) as bus:
        await asyncio.gather(*bus.producing)


if __name__ == "__main__":
    mode, url = sys.argv[1:]
    if mode == "run":
        make_bus(url).run()
    else:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(url))
    say("closed")
