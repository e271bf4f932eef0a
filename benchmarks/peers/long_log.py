"""hms-bus on a log that is too long for the memory that it may take.

A task is a process of its own: what others have left in memory or in caches does not count.
"""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from benchmarks.carried import SOURCE
from benchmarks.orders import TOPIC
from benchmarks.sides import now, uvloop_if_there
from benchmarks.tally import Arrivals
from benchmarks.worker import Work, serve
from hms_bus import Bus, __version__, new_envelope
from hms_bus.abc import ConsumingLog, Selector
from hms_bus.plugins import open_log
from hms_bus.replay import ReplaySettings, open_rerun
from hms_bus.replay.settings import record_url

AT_ONCE = 4096
WARM = 100_000
NEW = "orders.eu.late"
KIB = 1024


@asynccontextmanager
async def build(*, path: str) -> AsyncGenerator[Work]:
    """Append that many small records, each with its number, as any publisher does."""
    async with open_log(f"sqlite:{path}") as log:

        async def work(operations: int) -> float:
            started = now()
            for first in range(0, operations, AT_ONCE):
                numbers = range(first, min(first + AT_ONCE, operations))
                await log.append([new_envelope(TOPIC, each, source=SOURCE) for each in numbers])
            return (now() - started) / 1e9

        yield work


@asynccontextmanager
async def start(*, path: str, where: Literal["beginning", "end"]) -> AsyncGenerator[Work]:
    """Open a bus with a new durable until it has handled a record; at the end, one that is new."""
    topic = TOPIC if where == "beginning" else NEW

    async def work(operations: int) -> float:
        name = f"from-the-{where}"
        bus = Bus("direct://", log=f"sqlite:{path}", source=SOURCE)
        arrivals = Arrivals()

        @bus.subscribe(topic, durable=name, start=where)
        async def handle(number: int) -> None:
            arrivals.add()

        started = now()
        async with bus:
            if where == "end":
                await bus.publish(topic, operations)
            ended = await arrivals.take(1)
        await _forget(path, name)
        return (ended - started) / 1e9

    yield work


async def _forget(path: str, name: str) -> None:
    async with open_log(f"sqlite:{path}") as log:
        assert isinstance(log, ConsumingLog)
        await log.forget(name)


@asynccontextmanager
async def replay(*, path: str) -> AsyncGenerator[Work]:
    """Read the log with `bus.replay` and decode each payload."""
    async with Bus("direct://", log=f"sqlite:{path}") as bus:

        async def read(records: int) -> int:
            seen = 0
            async for message in bus.replay(limit=records):
                message.decode(int)
                seen += 1
            return seen

        yield growth_of(read)


@asynccontextmanager
async def rerun(*, path: str) -> AsyncGenerator[Work]:
    """Let an agent handle the log again."""

    async def play(records: int) -> int:
        seen = 0

        def build(url: str) -> Bus:
            bus = Bus(url, source="/agents/reader")

            @bus.subscribe(TOPIC)
            async def handle(number: int) -> None:
                nonlocal seen
                seen += 1

            return bus

        settings = ReplaySettings(log=record_url(path), selector=Selector(last=records))
        async with open_rerun(settings, build) as running:
            await running.play()
        return seen

    yield growth_of(play)


def growth_of(read: Callable[[int], Awaitable[int]]) -> Work:
    """Return what reads so many records, once it is warm, and answers by how much it grew."""

    async def work(operations: int) -> dict[str, float]:
        await read(min(WARM, operations))
        _forget_peak()
        before = _memory("VmRSS")
        assert await read(operations) == operations
        return {"mib": (_memory("VmHWM") - before) / KIB}

    return work


def _forget_peak() -> None:
    """Let the peak of this process's memory begin anew (proc(5), clear_refs)."""
    if sys.platform != "linux":
        raise OSError("only Linux tells how much memory a process has, and had at most")
    Path("/proc/self/clear_refs").write_text("5")


def _memory(what: Literal["VmRSS", "VmHWM"]) -> int:
    """Return the memory that this process has, or had at most, in KiB (proc(5), status)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0])
    raise OSError(f"/proc/self/status does not say {what}")


if __name__ == "__main__":
    serve(
        "hms-bus",
        __version__,
        {"build": build, "start": start, "replay": replay, "rerun": rerun},
        loop_factory=uvloop_if_there(),
    )
