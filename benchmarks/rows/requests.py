"""Asking in the process: requests and their answers, both with typed payloads."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker, TestNatsBroker

from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, QUOTE, Order, Quote
from benchmarks.rows.autogen import autogen
from hms_bus import Bus

TOPIC = "quotes.get"
AUTOGEN = "autogen-core send_message"
FASTSTREAM = "FastStream TestNatsBroker"
IN_FLIGHT = 64


@asynccontextmanager
async def open_ours(in_flight: int) -> AsyncGenerator[Run]:
    """Request over direct://, from as many tasks as there are requests in flight."""
    bus = Bus("direct://")

    @bus.serve(TOPIC)
    async def quote(order: Order) -> Quote:
        return QUOTE

    async def ask(count: int) -> None:
        for _ in range(count):
            answer = await bus.request(TOPIC, ORDER, returns=Quote)
            assert type(answer) is Quote

    async def work(operations: int) -> None:
        await asyncio.gather(*(ask(operations // in_flight) for _ in range(in_flight)))

    async with bus:
        yield timed(work)


@asynccontextmanager
async def open_stream() -> AsyncGenerator[Run]:
    """Ask once for a stream of items, with the default credit."""
    bus = Bus("direct://")

    @bus.serve(TOPIC)
    async def quotes(count: int) -> AsyncIterator[Quote]:
        for _ in range(count):
            yield QUOTE

    async def work(operations: int) -> None:
        seen = 0
        async with bus.request_stream(TOPIC, operations, returns=Quote) as items:
            async for _ in items:
                seen += 1
        assert seen == operations

    async with bus:
        yield timed(work)


@asynccontextmanager
async def open_faststream() -> AsyncGenerator[Run]:
    """Request from its test broker and decode the answer; a fresh broker each round."""

    async def run(operations: int) -> float:
        broker = NatsBroker(serializer=MsgSpecSerializer(), logger=None)

        @broker.subscriber(TOPIC)
        async def quote(order: Order) -> Quote:
            return QUOTE

        async def work(operations: int) -> None:
            for _ in range(operations):
                answer = await broker.request(ORDER, TOPIC)
                assert await answer.decode() == {"number": QUOTE.number, "price": QUOTE.price}

        async with TestNatsBroker(broker):
            return await timed(work)(operations)

    yield run


ROWS = (
    Race(
        name="request",
        title="direct request/reply, one at a time",
        unit="requests",
        ours=Contender(name="hms-bus", open=partial(open_ours, 1)),
        peers=(
            autogen(AUTOGEN, "request", in_flight=1),
            Contender(name=FASTSTREAM, open=open_faststream),
        ),
        targets=(Target(against=AUTOGEN, limit=20),),
    ),
    Race(
        name="request-64",
        title=f"direct request/reply, {IN_FLIGHT} in flight",
        unit="requests",
        ours=Contender(name="hms-bus", open=partial(open_ours, IN_FLIGHT), step=IN_FLIGHT),
        peers=(autogen(AUTOGEN, "request", step=IN_FLIGHT, in_flight=IN_FLIGHT),),
    ),
    Race(
        name="stream",
        title="direct, items of one reply stream",
        unit="items",
        ours=Contender(name="hms-bus", open=open_stream),
    ),
)
