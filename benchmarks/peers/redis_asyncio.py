"""redis-py asyncio, with hiredis: pub/sub over a Unix socket."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# ... since redis-py leaves the types of its options and messages open.

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis
from redis.asyncio import Redis

from benchmarks.carried import document, reader
from benchmarks.orders import TOPIC, order_of
from benchmarks.sides import now, uvloop_if_there
from benchmarks.worker import Work, serve

PIPELINE = 500
"""Messages that are sent together: one at a time, each waits for the server's answer."""


@asynccontextmanager
async def send(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Publish."""
    async with Redis.from_url(address) as client:
        message = document(order_of(size))

        async def work(operations: int) -> dict[str, int]:
            started = now()
            for first in range(0, operations, PIPELINE):
                pipeline = client.pipeline(transaction=False)
                for _ in range(min(PIPELINE, operations - first)):
                    pipeline.publish(TOPIC, message)
                await pipeline.execute()
            return {"started": started}

        yield work


@asynccontextmanager
async def receive(*, address: str) -> AsyncGenerator[Work]:
    """Receive and read."""
    async with Redis.from_url(address) as client, client.pubsub() as subscriber:
        await subscriber.subscribe(TOPIC)
        messages = subscriber.listen()
        assert (await anext(messages))["type"] == "subscribe"
        read = reader()

        async def work(operations: int) -> dict[str, int]:
            for _ in range(operations):
                read((await anext(messages))["data"])
            return {"ended": now()}

        yield work


if __name__ == "__main__":
    serve(
        "redis-py",
        redis.__version__,
        {"send": send, "receive": receive},
        loop_factory=uvloop_if_there(),
    )
