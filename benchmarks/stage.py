"""The processes of a contender: a server in the middle, and sides in processes of their own."""

import asyncio
import ctypes
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.pinning import pinned
from benchmarks.servers import Server
from benchmarks.worker import Worker, WorkerError, start_worker

PATIENCE_S = 60.0
"""How long a round may take: longer means that messages were lost."""


class System(Struct, frozen=True, kw_only=True):
    """A way to carry messages between processes.

    `server` runs what stands in the middle, for as long as its scope. `module` has the sides.
    """

    server: Callable[[], AbstractAsyncContextManager[Server]]
    module: str


class Stage(Struct, frozen=True, kw_only=True):
    """The processes of a contender: its server, and the sides that were asked for."""

    server: Server
    sides: list[Worker]

    async def run(self, operations: int) -> list[dict[str, Any]]:
        """Let all sides work at once; return their answers, in order."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.gather(*(side.ask(run=operations) for side in self.sides))
        except TimeoutError:
            raise WorkerError(f"messages were lost: not all arrived in {PATIENCE_S:g} s") from None


@asynccontextmanager
async def staged(
    system: System, *sides: dict[str, Any], cores: int | None = None
) -> AsyncGenerator[Stage]:
    """Start a server and its sides, then set up the sides in their order, each behind the last."""
    # The server ends last, since clients take leave of it.
    async with AsyncExitStack() as last, AsyncExitStack() as first:
        with pinned(cores):
            starting = (start_worker(Path(sys.executable), system.module) for _ in sides)
            server, workers = await asyncio.gather(
                last.enter_async_context(system.server()),
                asyncio.gather(*map(first.enter_async_context, starting)),
            )
        for worker, side in zip(workers, sides, strict=True):
            await worker.ask(address=server.address, **side)
        yield Stage(server=server, sides=workers)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, all its threads, to the nanosecond.

    /proc counts in ticks of 10 ms, a quarter of what a short round takes. Raises `WorkerError` for
    a process that is not there, and on a system without this clock (macOS).
    """
    clock = ctypes.c_int()
    try:
        error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    except AttributeError:
        raise WorkerError("this system does not tell the CPU time of another process") from None
    if error:
        raise WorkerError(f"no process {pid}")
    return time.clock_gettime(clock.value)
