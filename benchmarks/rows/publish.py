"""Publishing in the process: N messages are published, and all their handlers have run."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from blinker import Signal
from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker, TestNatsBroker

from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.rows.autogen import autogen
from benchmarks.tally import Tally
from hms_bus import Bus

BLINKER = "blinker send_async"
AUTOGEN = "autogen-core publish_message"
FASTSTREAM = "FastStream TestNatsBroker"


@asynccontextmanager
async def open_ours(subscribers: int) -> AsyncGenerator[Run]:
    """Publish over direct://."""
    bus = Bus("direct://")
    tally = Tally()

    async def handle(order: Order) -> None:
        tally.add()

    for _ in range(subscribers):
        bus.subscribe(TOPIC)(handle)

    async def work(operations: int) -> None:
        tally.expect(operations * subscribers)
        for _ in range(operations):
            await bus.publish(TOPIC, ORDER)
        await tally.complete()

    async with bus:
        yield timed(work)


@asynccontextmanager
async def open_emit(subscribers: int) -> AsyncGenerator[Run]:
    """Fire and forget: the publisher turns the loop only once per thousand messages."""
    bus = Bus("direct://")
    tally = Tally()

    @bus.subscribe(TOPIC)
    async def handle(order: Order) -> None:
        tally.add()

    async def work(operations: int) -> None:
        for _ in range(operations // 1000):
            tally.expect(1000)
            for _ in range(1000):
                bus.emit(TOPIC, ORDER)
            await tally.complete()

    async with bus:
        yield timed(work)


@asynccontextmanager
async def open_group(members: int) -> AsyncGenerator[Run]:
    """Publish to a group: one member handles each message."""
    bus = Bus("direct://")
    tally = Tally()

    async def handle(order: Order) -> None:
        tally.add()

    for _ in range(members):
        bus.subscribe(TOPIC, group="billing")(handle)

    async def work(operations: int) -> None:
        tally.expect(operations)
        for _ in range(operations):
            await bus.publish(TOPIC, ORDER)
        await tally.complete()

    async with bus:
        yield timed(work)


@asynccontextmanager
async def open_blinker(subscribers: int) -> AsyncGenerator[Run]:
    """Send a signal to receivers that are coroutine functions."""
    signal = Signal(TOPIC)
    tally = Tally()

    def make_receiver() -> object:
        async def handle(sender: str, order: Order) -> None:
            tally.add()

        return signal.connect(handle, weak=False)

    for _ in range(subscribers):
        make_receiver()

    async def work(operations: int) -> None:
        tally.expect(operations * subscribers)
        for _ in range(operations):
            await signal.send_async("shop", order=ORDER)
        await tally.complete()

    yield timed(work)


@asynccontextmanager
async def open_faststream(subscribers: int) -> AsyncGenerator[Run]:
    """Publish to its test broker, which is its way to stay in the process.

    It records every message, so each round gets a fresh one, and it is spared its log lines.
    """
    tally = Tally()

    async def run(operations: int) -> float:
        broker = NatsBroker(serializer=MsgSpecSerializer(), logger=None)
        for _ in range(subscribers):

            async def handle(order: Order) -> None:
                tally.add()

            broker.subscriber(TOPIC)(handle)

        async def work(operations: int) -> None:
            tally.expect(operations * subscribers)
            for _ in range(operations):
                await broker.publish(ORDER, TOPIC)
            await tally.complete()

        async with TestNatsBroker(broker):
            return await timed(work)(operations)

    yield run


def _race(subscribers: int) -> Race:
    plural = "" if subscribers == 1 else "s"
    return Race(
        name=f"publish-{subscribers}",
        title=f"direct, publish → awaited handler, {subscribers} subscriber{plural}",
        unit="messages",
        ours=Contender(name="hms-bus", open=partial(open_ours, subscribers)),
        peers=(
            Contender(name=BLINKER, open=partial(open_blinker, subscribers)),
            autogen(AUTOGEN, "publish", subscribers=subscribers),
            Contender(name=FASTSTREAM, open=partial(open_faststream, subscribers)),
        ),
        targets=(
            Target(against=BLINKER, limit=1.0),
            Target(against=AUTOGEN, limit=80),
            Target(against=FASTSTREAM, limit=80),
        ),
    )


ROWS = (
    _race(1),
    _race(10),
    Race(
        name="emit",
        title="direct, emit → awaited handler, 1 subscriber",
        unit="messages",
        ours=Contender(name="hms-bus", open=partial(open_emit, 1), step=1000),
    ),
    Race(
        name="group-4",
        title="direct, publish → awaited handler, group of 4",
        unit="messages",
        ours=Contender(name="hms-bus", open=partial(open_group, 4)),
    ),
)
