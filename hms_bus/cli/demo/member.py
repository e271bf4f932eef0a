"""A process of the demo's team: `python -m hms_bus.cli.demo.member URL LOG NAME…`.

It says `ready` on stdout when its agents listen. Then each line of stdin names one whose work is
over: what its bus has counted comes back as a line of JSON (`BusStats`), once it is drained. When
stdin ends before all were named, the parent was killed, and the process ends where it stands.

Ctrl-C in a terminal reaches every process of it; it is the parent's to decide what ends, and when.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress

import msgspec

from hms_bus import Bus, BusError, demo
from hms_bus.cli.lines import read_lines
from hms_bus.cli.running import report_on_stderr

READY = "ready"

_STDIN = 0


async def work(url: str, log: str | None, names: Sequence[str]) -> None:
    """Let the agents work until they are told to end. Raises what `Bus` raises."""
    async with AsyncExitStack() as team:
        agents: dict[str, tuple[Bus, AsyncExitStack]] = {}
        for name in names:
            scope = await team.enter_async_context(AsyncExitStack())
            buses = await scope.enter_async_context(demo.at_work([name], url, log))
            agents[name] = buses[name], scope
        print(READY, flush=True)  # noqa: T201 - what the parent waits for
        async with aclosing(read_lines(_STDIN)) as orders:
            async for lines in orders:
                for line in lines:
                    await _end(*agents.pop(line.decode()))
        if agents:
            # Nobody wants the report. Drained side by side, with nobody to keep the order, clients
            # would complain about servers that have gone.
            os._exit(1)


async def _end(bus: Bus, scope: AsyncExitStack) -> None:
    stats = bus.stats()
    await scope.aclose()
    with suppress(BrokenPipeError):  # nobody wants to know any more
        print(msgspec.json.encode(stats).decode(), flush=True)  # noqa: T201 - as above


def main(url: str, log: str, *names: str) -> None:
    """Run the process; without a log, `log` is empty. An error is a line on stderr, status 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report_on_stderr()
    try:
        asyncio.run(work(url, log or None, names))
    except BusError as error:
        sys.exit(f"error: {', '.join(names)}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
