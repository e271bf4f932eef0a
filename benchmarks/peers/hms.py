"""hms-bus through its hub: the sides of our own, beside those of the peers."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from benchmarks.carried import SOURCE, TRACE, new_envelope
from benchmarks.orders import TOPIC, Order, order_of
from benchmarks.sides import ANSWER_S, asking, nothing, now, uvloop_if_there
from benchmarks.tally import Arrivals
from benchmarks.worker import Work, serve
from hms_bus import Bus, __version__
from hms_bus.abc import ConsumingLog, EventLog

APPENDED_AT_ONCE = 500


@asynccontextmanager
async def _at_work(bus: Bus, work: Work) -> AsyncGenerator[Work]:
    """Do `work` as agents do, in the handler of a message that has a trace.

    So what is sent has a cause, a conversation, a trace and hops: the whole envelope.
    """
    begin = f"begin.{os.getpid()}"
    results: asyncio.Queue[float | Mapping[str, Any] | Exception] = asyncio.Queue()

    @bus.subscribe(begin)
    async def handle(operations: int) -> None:
        try:
            results.put_nowait(await work(operations))
        except Exception as error:  # noqa: BLE001 - raised below, where the worker tells it
            results.put_nowait(error)

    async def run(operations: int) -> float | Mapping[str, Any]:
        await bus.publish(begin, operations, traceparent=TRACE)
        result = await results.get()
        if isinstance(result, Exception):
            raise result
        return result

    async with bus:
        yield run


@asynccontextmanager
async def publishing(bus: Bus, order: Order) -> AsyncGenerator[Work]:
    """Publish on that bus."""

    async def work(operations: int) -> dict[str, int]:
        started = now()
        for _ in range(operations):
            await bus.publish(TOPIC, order)
        return {"started": started}

    async with _at_work(bus, work) as run:
        yield run


@asynccontextmanager
async def send(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Publish."""
    async with publishing(Bus(address, source=SOURCE), order_of(size)) as run:
        yield run


@asynccontextmanager
async def receive(*, address: str) -> AsyncGenerator[Work]:
    """Handle what is published."""
    bus = Bus(address)
    arrivals = Arrivals()

    @bus.subscribe(TOPIC)
    async def handle(order: Order) -> None:
        arrivals.add()

    async def work(operations: int) -> dict[str, int]:
        return {"ended": await arrivals.take(operations)}

    async with bus:
        yield work


@asynccontextmanager
async def answer(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Answer each question, until the end."""
    bus = Bus(address, source=SOURCE)
    reply = order_of(size)

    @bus.serve(TOPIC)
    async def handle(order: Order) -> Order:
        return reply

    async with bus:
        yield nothing


@asynccontextmanager
async def ask(*, address: str, size: int, in_flight: int) -> AsyncGenerator[Work]:
    """Ask."""
    bus = Bus(address, source=SOURCE, request_timeout_s=ANSWER_S)
    question = order_of(size)

    async def one() -> None:
        await bus.request(TOPIC, question, returns=Order)

    async with _at_work(bus, asking(one, in_flight)) as run:
        yield run


@asynccontextmanager
async def append(*, address: str, size: int, in_flight: int) -> AsyncGenerator[Work]:
    """Publish through the hub into its log, from as many tasks as there are messages in flight."""
    bus = Bus(address, source=SOURCE)
    order = order_of(size)

    async def one() -> None:
        receipt = await bus.publish(TOPIC, order)
        assert receipt.position is not None

    async with _at_work(bus, asking(one, in_flight)) as run:
        yield run


@asynccontextmanager
async def consume(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Handle, durably, what is in the log: the hub's, or that of this process at `sqlite:`.

    Each round has a durable of its own, which begins so many records before the end. The clock runs
    from when its bus is opened until it is closed, which settles all; the log is asked whether.
    """
    order = order_of(size)
    numbers = count()

    def new_bus() -> Bus:
        is_local = address.startswith("sqlite:")
        return Bus("direct://", log=address) if is_local else Bus(address)

    async def round_of(operations: int, first: int, name: str) -> float:
        bus = new_bus()
        arrivals = Arrivals()

        @bus.subscribe(TOPIC, durable=name, start=first)
        async def handle(order: Order) -> None:
            arrivals.add()

        started = now()
        async with bus:
            await arrivals.take(operations)
        return (now() - started) / 1e9

    async def work(operations: int) -> dict[str, float]:
        name = f"round-{next(numbers)}"
        async with new_bus() as bus:
            last = await _filled(bus.log, order, operations)
        seconds = await round_of(operations, last - operations + 1, name)
        async with new_bus() as bus:
            await _check_settled(bus.log, name, last)
        return {"seconds": seconds}

    yield work


async def _filled(log: EventLog | None, order: Order, least: int) -> int:
    """Return the last position of a log of `least` records or more; append what is missing."""
    assert log is not None
    while (missing := least - (last := (await log.head()).position)) > 0:
        await log.append([new_envelope(order) for _ in range(min(missing, APPENDED_AT_ONCE))])
    return last


async def _check_settled(log: EventLog | None, name: str, last: int) -> None:
    """Let what was not settled end the benchmark; then the durable is forgotten."""
    assert isinstance(log, ConsumingLog)
    [info] = [info for info in await log.durables() if info.durable.name == name]
    assert (info.floor, info.unacked, info.dead) == (last, 0, ())
    await log.forget(name)


@asynccontextmanager
async def chat(*, address: str, size: int, own: int, other: int) -> AsyncGenerator[Work]:
    """Be one of many clients: publish to the `other` one's topic, handle what comes on the own."""
    bus = Bus(address, source=SOURCE)
    order = order_of(size)
    arrivals = Arrivals()
    topic = f"desks.{other}"

    @bus.subscribe(f"desks.{own}")
    async def handle(order: Order) -> None:
        arrivals.add()

    async def work(operations: int) -> dict[str, int]:
        for _ in range(operations):
            await bus.publish(topic, order)
        return {"ended": await arrivals.take(operations)}

    async with _at_work(bus, work) as run:
        yield run


if __name__ == "__main__":
    serve(
        "hms-bus",
        __version__,
        {
            "send": send,
            "receive": receive,
            "answer": answer,
            "ask": ask,
            "append": append,
            "consume": consume,
        },
        loop_factory=uvloop_if_there(),
    )
