"""A worker whose tasks are known beforehand, for the tests of `benchmarks.worker`."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.worker import Run, serve


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
        {"multiply": multiply, "chatter": chatter, "fail": fail, "die": die},
    )
