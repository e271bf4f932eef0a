"""A worker whose tasks are known beforehand, for the tests of `benchmarks.worker`."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.worker import Run, Work, serve


@asynccontextmanager
async def multiply(*, factor: float) -> AsyncGenerator[Run]:
    """Claim that an operation takes `factor` seconds."""

    async def run(operations: int) -> float:
        return operations * factor

    yield run


@asynccontextmanager
async def chatter() -> AsyncGenerator[Run]:
    """Print while it works."""

    async def run(operations: int) -> float:
        print("working ...")  # noqa: T201 - as a peer may do
        return float(operations)

    yield run


@asynccontextmanager
async def describe() -> AsyncGenerator[Work]:
    """Answer with an object."""

    async def run(operations: int) -> dict[str, int]:
        return {"operations": operations, "double": 2 * operations}

    yield run


@asynccontextmanager
async def beside() -> AsyncGenerator[Run]:
    """Have something to do besides the commands."""
    done = asyncio.create_task(asyncio.sleep(0))

    async def run(operations: int) -> float:
        return float(done.done())

    yield run


@asynccontextmanager
async def refuse_to_end() -> AsyncGenerator[Run]:
    """Go on when there are no commands any more."""

    async def run(operations: int) -> float:
        return 0.0

    yield run
    await asyncio.Event().wait()


@asynccontextmanager
async def fail() -> AsyncGenerator[Run]:
    """Raise."""

    async def run(operations: int) -> float:
        raise ZeroDivisionError("no operations")

    yield run


@asynccontextmanager
async def die() -> AsyncGenerator[Run]:
    """End the process at once."""

    async def run(operations: int) -> float:
        os._exit(3)

    yield run


if __name__ == "__main__":
    serve(
        "counter",
        "1.2.3",
        {
            "multiply": multiply,
            "chatter": chatter,
            "describe": describe,
            "beside": beside,
            "refuse_to_end": refuse_to_end,
            "fail": fail,
            "die": die,
        },
    )
