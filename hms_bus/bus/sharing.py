"""One open log for all buses of a process that name the same one.

A log has one writer. Agents that run in one process each have a bus of their own and yet write one
log, whatever they call it: the first bus opens it, the last one closes it. `memory:` without a name
is private.
"""

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager

from hms_bus.abc import EventLog
from hms_bus.plugins import identify_log, open_log, parse_address


class _Shared:
    """An open log, how many use it, and the scope that closes it."""

    def __init__(self) -> None:
        self.users = 0
        self.opening = asyncio.Lock()
        self.scope = AsyncExitStack()
        self.log: EventLog | None = None

    async def opened(self, url: str) -> EventLog:
        async with self.opening:
            if self.log is None:
                self.log = await self.scope.enter_async_context(open_log(url))
            return self.log


_logs: dict[tuple[asyncio.AbstractEventLoop, Hashable], _Shared] = {}


@asynccontextmanager
async def shared_log(url: str) -> AsyncGenerator[EventLog, None]:
    """Give the log at `url`, opened once per event loop. Raises what its opener raises."""
    if not parse_address(url).path:
        async with open_log(url) as private:
            yield private
        return
    key = (asyncio.get_running_loop(), await asyncio.to_thread(identify_log, url))
    shared = _logs.setdefault(key, _Shared())
    shared.users += 1
    try:
        yield await shared.opened(url)
    finally:
        shared.users -= 1
        async with shared.opening:
            # Who comes while it is being closed waits, and opens it anew.
            if shared.users == 0:
                shared.log = None
                await shared.scope.aclose()
        if shared.users == 0:
            _logs.pop(key, None)
