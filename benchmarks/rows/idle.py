"""Subscriptions that do not match: what they cost a publisher, and what they weigh."""

import gc
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.measuring import timed
from benchmarks.model import Contender, Gauge, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.tally import Tally
from hms_bus import Bus

MANY = 10_000
FEW = 10
PEER = f"hms-bus, {FEW} idle"


async def _idle(order: Order) -> None:
    raise AssertionError("an idle subscription got a message")


def _bus_with(idle: int, topic: str) -> Bus:
    bus = Bus("direct://")
    for number in range(idle):
        bus.subscribe(f"{topic}.{number}.>")(_idle)
    return bus


@asynccontextmanager
async def open_ours(idle: int) -> AsyncGenerator[Run]:
    """Publish to one subscriber, beside `idle` ones of other topics."""
    bus = _bus_with(idle, "agents")
    tally = Tally()

    @bus.subscribe(TOPIC)
    async def handle(order: Order) -> None:
        tally.add()

    async def work(operations: int) -> None:
        tally.expect(operations)
        for _ in range(operations):
            await bus.publish(TOPIC, ORDER)
        await tally.complete()

    async with bus:
        yield timed(work)


async def bytes_each() -> float:
    """Return the bytes that Python holds for one idle subscription of an open bus."""
    tracemalloc.start()
    try:
        few = await _held_by(FEW)
        many = await _held_by(MANY)
    finally:
        tracemalloc.stop()
    return (many - few) / (MANY - FEW)


async def _held_by(idle: int) -> int:
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    # Topics of their own: what the process has cached of those above would not be counted.
    async with _bus_with(idle, "models"):
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        return after - before


ROWS = (
    Race(
        name="idle-publish",
        title=f"publish beside {MANY:,} idle subscriptions",
        unit="messages",
        ours=Contender(name="hms-bus", open=partial(open_ours, MANY)),
        peers=(Contender(name=PEER, open=partial(open_ours, FEW)),),
        targets=(Target(against=PEER, limit=1.2, direction="at most"),),
    ),
    Gauge(
        name="idle-memory",
        title="memory of one idle subscription",
        unit="bytes",
        measure=bytes_each,
        at_most=2048,
    ),
)
