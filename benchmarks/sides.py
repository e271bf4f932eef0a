"""What the sides of a contender have in common: who sends, who receives, who asks.

A side is a task of a worker (`benchmarks.worker`), in a process of its own. A sender answers with
when it `started`, a receiver with when it `ended` (both ns of the clock that all processes of a
machine share); who asks, with the `seconds` that it took and the `median_s` of one question.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

from benchmarks.worker import LoopFactory, Work

ANSWER_S = 30.0
"""How long who asks waits for an answer: so long that only a lost one is missed."""


def now() -> int:
    """Return the time in nanoseconds on the clock that all processes of this machine share."""
    return time.monotonic_ns()


async def nothing(operations: int) -> float:
    """Do the work of a side that acts by itself: none."""
    return 0.0


def asking(ask: Callable[[], Awaitable[object]], in_flight: int) -> Work:
    """Return the work of asking, `in_flight` at a time, each of them in its own task."""

    async def ask_on(count: int, took: list[float]) -> None:
        for _ in range(count):
            started = time.perf_counter()
            await ask()
            took.append(time.perf_counter() - started)

    async def work(operations: int) -> dict[str, float]:
        took: list[float] = []
        each = operations // in_flight
        started = time.perf_counter()
        await asyncio.gather(*(ask_on(each, took) for _ in range(in_flight)))
        return {"seconds": time.perf_counter() - started, "median_s": median(took)}

    return work


def uvloop_if_there() -> LoopFactory | None:
    """Return the faster event loop, for everybody, where the extra is installed."""
    try:
        import uvloop  # noqa: PLC0415 - it may be absent
    except ImportError:
        return None
    return uvloop.new_event_loop
