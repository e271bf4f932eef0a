"""A socket between clients and their hub, which a test can cut, and through which it can look."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.support.hub_process import HubProcess


class HubLine:
    """Passes on what clients and hub say. Clients connect to `url`."""

    def __init__(self, door: Path, hub: Path) -> None:
        self.url = f"ipc://{door}?spawn=false"
        self.connections = 0
        """How often a client has come so far."""
        self._hub = hub
        self._ends: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = True
        self._joined = asyncio.Condition()

    async def until_connected(self, count: int) -> None:
        """Return when clients have come so often."""
        async with self._joined:
            await self._joined.wait_for(lambda: self.connections >= count)

    def cut(self) -> None:
        """Cut all connections, as they are; whoever connects afterwards is let through."""
        ends, self._ends = self._ends, []
        for end in ends:
            end.transport.abort()

    def bar(self) -> None:
        """Cut all connections, and let nobody through until `let_in`."""
        self._is_open = False
        self.cut()

    def let_in(self) -> None:
        """Let clients through again."""
        self._is_open = True

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one client with the hub until one of them closes."""
        self._ends.append(writer)
        async with self._joined:
            self.connections += 1
            self._joined.notify_all()
        if not self._is_open:
            writer.transport.abort()
            return
        try:
            from_hub, to_hub = await asyncio.open_unix_connection(self._hub)
        except OSError:
            writer.transport.abort()
            return
        self._ends.append(to_hub)
        for source, target in ((reader, to_hub), (from_hub, writer)):
            task = asyncio.create_task(_pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut everything for good."""
        self.bar()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(65_536):
            target.write(chunk)
            await target.drain()
    with suppress(OSError):
        target.close()


@asynccontextmanager
async def line_to(hub: HubProcess) -> AsyncGenerator[HubLine]:
    """Listen at another socket beside the hub's."""
    door = hub.place.socket.with_name("line.sock")
    line = HubLine(door, hub.place.socket)
    server = await asyncio.start_unix_server(line.join, door)
    try:
        yield line
    finally:
        server.close()
        await line.close()
        await server.wait_closed()
