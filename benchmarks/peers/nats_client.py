"""nats-py: core NATS with callbacks, request/reply, and JetStream's asynchronous publishing."""
# pyright: reportUnknownMemberType=false
# ... since nats-py leaves the types of its options open.

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import count

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType

from benchmarks.carried import document, reader
from benchmarks.orders import TOPIC, Order, order_of
from benchmarks.sides import ANSWER_S, asking, nothing, now, uvloop_if_there
from benchmarks.tally import Arrivals
from benchmarks.worker import Work, serve

UNLIMITED = 0
STREAM = "orders"
IN_FLIGHT = 1000
FETCHED_AT_ONCE = 100


@asynccontextmanager
async def _connected(address: str) -> AsyncGenerator[Client]:
    client = await nats.connect(address, skip_subject_validation=True)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def send(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Publish."""
    async with _connected(address) as client:
        message = document(order_of(size))

        async def work(operations: int) -> dict[str, int]:
            started = now()
            for _ in range(operations):
                await client.publish(TOPIC, message)
            await client.flush()
            return {"started": started}

        yield work


@asynccontextmanager
async def receive(*, address: str) -> AsyncGenerator[Work]:
    """Receive and read, in a callback."""
    async with _connected(address) as client:
        arrivals = Arrivals()
        read = reader()

        async def handle(message: Msg) -> None:
            read(message.data)
            arrivals.add()

        await client.subscribe(
            TOPIC, cb=handle, pending_msgs_limit=UNLIMITED, pending_bytes_limit=UNLIMITED
        )
        await client.flush()

        async def work(operations: int) -> dict[str, int]:
            return {"ended": await arrivals.take(operations)}

        yield work


@asynccontextmanager
async def answer(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Read each question and answer it, until the end."""
    async with _connected(address) as client:
        reply = document(order_of(size))
        read = reader()

        async def handle(message: Msg) -> None:
            read(message.data)
            await message.respond(reply)

        await client.subscribe(TOPIC, cb=handle)
        await client.flush()
        yield nothing


@asynccontextmanager
async def ask(*, address: str, size: int, in_flight: int) -> AsyncGenerator[Work]:
    """Ask."""
    async with _connected(address) as client:
        question = document(order_of(size))
        read = reader()

        async def one() -> None:
            read((await client.request(TOPIC, question, timeout=ANSWER_S)).data)

        yield asking(one, in_flight)


@asynccontextmanager
async def append(*, address: str, size: int, in_flight: int) -> AsyncGenerator[Work]:
    """Publish to a stream in files, and wait for every acknowledgement."""
    async with _connected(address) as client:
        stream = client.jetstream(publish_async_max_pending=in_flight)
        await stream.add_stream(name=STREAM, subjects=[TOPIC], storage=StorageType.FILE)
        message = document(order_of(size))
        appended = 0

        async def work(operations: int) -> dict[str, float]:
            nonlocal appended
            started = now()
            for _ in range(operations):
                await stream.publish_async(TOPIC, message)
            await stream.publish_async_completed()
            seconds = (now() - started) / 1e9
            appended += operations
            assert (await stream.stream_info(STREAM)).state.messages == appended
            return {"seconds": seconds}

        yield work


@asynccontextmanager
async def consume(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Fetch what is in a stream in files, handle and acknowledge each message.

    Each round has a durable of its own, which begins so many messages before the end. The clock
    runs from its making until the server says that all is acknowledged.
    """
    async with _connected(address) as client:
        stream = client.jetstream(publish_async_max_pending=IN_FLIGHT)
        await stream.add_stream(name=STREAM, subjects=[TOPIC], storage=StorageType.FILE)
        message = document(order_of(size))
        read = reader()
        arrivals = Arrivals()
        numbers = count()

        async def handle(order: Order) -> None:
            arrivals.add()

        async def round_of(operations: int, last: int, name: str) -> None:
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=last - operations + 1,
                ack_policy=AckPolicy.EXPLICIT,
            )
            consumer = await stream.pull_subscribe(TOPIC, name, STREAM, config)
            left = operations
            while left:
                for fetched in await consumer.fetch(min(FETCHED_AT_ONCE, left)):
                    await handle(read(fetched.data))
                    await fetched.ack()
                    left -= 1
            await _acknowledged(stream, name, last)

        async def work(operations: int) -> dict[str, float]:
            name = f"round-{next(numbers)}"
            last = await _filled(stream, message, operations)
            started = now()
            await round_of(operations, last, name)
            seconds = (now() - started) / 1e9
            await arrivals.take(operations)
            await stream.delete_consumer(STREAM, name)
            return {"seconds": seconds}

        yield work


async def _filled(stream: JetStreamContext, message: bytes, least: int) -> int:
    """Return the last sequence of a stream of `least` messages or more; append what is missing."""
    last = (await stream.stream_info(STREAM)).state.last_seq
    for _ in range(least - last):
        await stream.publish_async(TOPIC, message)
    await stream.publish_async_completed()
    return max(last, least)


async def _acknowledged(stream: JetStreamContext, name: str, last: int) -> None:
    """Return when all up to `last` is acknowledged."""
    while True:
        floor = (await stream.consumer_info(STREAM, name)).ack_floor
        if floor is not None and floor.stream_seq == last:
            return


if __name__ == "__main__":
    serve(
        "nats-py",
        version("nats-py"),
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
