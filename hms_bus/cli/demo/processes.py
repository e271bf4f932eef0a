"""The demo's team in processes of its own; the desk, which wants the report, is in this one."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from hms_bus import Bus, BusStats, demo
from hms_bus.cli.demo.member import READY
from hms_bus.demo import TEAM, Report
from hms_bus.errors import DisconnectedError

T = TypeVar("T")

_MODULE = "hms_bus.cli.demo.member"


async def run(
    url: str,
    *,
    processes: int,
    log: str | None = None,
    root: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Report, dict[str, BusStats]]:
    """Do what `hms_bus.demo.run` does, with the team in so many processes.

    All of them listen before the work begins, and all have ended when this returns or raises: each
    agent in turn, clients before servers; at once when the wait for that is cancelled. Raises what
    `Bus` raises, and `DisconnectedError` when a process ends of itself.
    """
    figures: dict[str, BusStats] = {}
    # The desk's bus is the first: what is wrong with the URL or the log is told once, and by us.
    async with Bus(url, log=log, source="/agents/desk") as desk:
        async with _hire(deal(list(TEAM), processes), url, log, figures) as team:
            report, seen = await _unless_one_ends(team, demo.commission(desk, root, progress))
        return report, {**{name: figures[name] for name in TEAM}, "desk": seen}


def deal(names: Sequence[str], processes: int) -> list[list[str]]:
    """Deal the names out, one to each process in turn. At most as many processes as names."""
    return [list(names[first::processes]) for first in range(min(processes, len(names)))]


class Member(Struct, frozen=True):
    """A process, and the agents that work in it."""

    names: list[str]
    process: Process

    async def begin(self) -> None:
        """Wait until its agents listen. Raises `DisconnectedError`."""
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        if (await self.process.stdout.readline()).decode().strip() != READY:
            await self.fail_at_end()

    async def dismiss(self, name: str) -> BusStats:
        """Let one agent finish and end; what its bus counted. Raises `DisconnectedError`."""
        assert self.process.stdin is not None  # noqa: S101 - as above
        assert self.process.stdout is not None  # noqa: S101 - as above
        with suppress(ConnectionError):  # it is gone, which the next line tells
            self.process.stdin.write(f"{name}\n".encode())
            await self.process.stdin.drain()
        if not (answer := await self.process.stdout.readline()):
            await self.fail_at_end()
        return msgspec.json.decode(answer, type=BusStats)

    async def end(self) -> None:
        """Wait until the process has ended, which nothing is left to do for."""
        assert self.process.stdin is not None  # noqa: S101 - as above
        self.process.stdin.close()
        await self.process.wait()

    async def fail_at_end(self) -> NoReturn:
        """Wait until the process has ended, which it should not. Raises `DisconnectedError`."""
        how = _how_it_ended(await self.process.wait())
        raise DisconnectedError(f"the process of {' and '.join(self.names)} {how} before its time")


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


@asynccontextmanager
async def _hire(
    hands: Sequence[Sequence[str]], url: str, log: str | None, figures: dict[str, BusStats]
) -> AsyncGenerator[list[Member]]:
    """Let the agents of each hand work in a process; `figures` gets what their buses counted.

    At the end they are drained in the reverse order of the team, also when the work is cancelled.
    After an error they are ended as they are.
    """
    async with AsyncExitStack() as stack:
        started = [_start(names, url, log) for names in hands]
        team = [await stack.enter_async_context(scope) for scope in started]
        await asyncio.gather(*(member.begin() for member in team))
        try:
            yield team
        except asyncio.CancelledError:
            await _dismiss(team, figures)
            raise
        await _dismiss(team, figures)


async def _dismiss(team: Sequence[Member], figures: dict[str, BusStats]) -> None:
    member_of = {name: member for member in team for name in member.names}
    for name in reversed(TEAM):
        figures[name] = await member_of[name].dismiss(name)
    for member in team:
        await member.end()


@asynccontextmanager
async def _start(names: Sequence[str], url: str, log: str | None) -> AsyncGenerator[Member]:
    """Start a process that has ended when the scope has."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, url, log or "", *names, stdin=PIPE, stdout=PIPE
    )
    try:
        yield Member(list(names), process)
    finally:
        while process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(asyncio.CancelledError):  # takes no time to speak of
                await process.wait()


async def _unless_one_ends(team: Sequence[Member], work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. Raises `DisconnectedError` when a process ends meanwhile."""
    working = asyncio.create_task(work)
    tasks = [working, *(asyncio.create_task(member.fail_at_end()) for member in team)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return (working if working in done else done.pop()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
