"""Many clients of our hub: a worker that forks them, since so many interpreters start slowly."""

import asyncio
import multiprocessing
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.context import ForkServerContext
from typing import Any, Protocol

from benchmarks.peers.hms import chat
from benchmarks.sides import uvloop_if_there
from benchmarks.worker import STOP_S, Work, serve
from hms_bus import __version__

PRELOADED = [chat.__module__, "hms_bus.transports.ipc", "hms_bus.codecs.json", "uvloop"]
"""What every client needs, loaded once."""


class Member(Protocol):
    """Our end of the pipe to a client's process, or its own."""

    def send(self, obj: Any, /) -> None: ...  # noqa: D102
    def recv(self) -> Any: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@asynccontextmanager
async def ring(*, address: str, size: int, clients: int) -> AsyncGenerator[Work]:
    """Let so many processes publish, each to the next one; each does its share of the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(
                _member(context, address=address, size=size, own=own, other=(own + 1) % clients)
            )
            for own in range(clients)
        ]
        await _heard(members)

        async def work(operations: int) -> float:
            for member in members:
                member.send(operations // clients)
            await _heard(members)
            return 0.0

        yield work
        for member in members:
            member.close()


async def _heard(members: list[Member]) -> None:
    """Wait until each of them has said something; one that has died raises EOFError."""
    for member in members:
        await asyncio.to_thread(member.recv)


@asynccontextmanager
async def _member(context: ForkServerContext, **options: Any) -> AsyncGenerator[Member]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, options), daemon=True)
    await asyncio.to_thread(process.start)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        await asyncio.to_thread(process.join, STOP_S)


def _main(connection: Member, options: dict[str, Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop_if_there()) as runner:
        runner.run(_chat(connection, options))


async def _chat(connection: Member, options: dict[str, Any]) -> None:
    async with chat(**options) as work:
        connection.send("ready")
        while (operations := await asyncio.to_thread(_next, connection)) is not None:
            await work(operations)
            connection.send("done")


def _next(connection: Member) -> int | None:
    try:
        return connection.recv()
    except EOFError:
        return None


if __name__ == "__main__":
    serve("hms-bus", __version__, {"ring": ring}, loop_factory=uvloop_if_there())
