"""hms-bus through its hub: the sides of our own, beside those of the peers."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.carried import SOURCE, TRACE
from benchmarks.orders import TOPIC, Order, order_of
from benchmarks.sides import ANSWER_S, asking, nothing, now, uvloop_if_there
from benchmarks.tally import Arrivals
from benchmarks.worker import Work, serve
from hms_bus import Bus, __version__


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
        },
        loop_factory=uvloop_if_there(),
    )
