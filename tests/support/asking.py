"""A question, an answer, and a bus with agents that answer in three ways."""

import asyncio
from typing import Any

import msgspec

from hms_bus import Bus


class Query(msgspec.Struct):
    n: int


class Answer(msgspec.Struct):
    n: int


def serving_bus(**settings: Any) -> Bus:
    """A bus with an agent that doubles, one that waits for ever and one that fails."""
    bus = Bus(**settings)

    @bus.serve("double")
    async def double(query: Query) -> Answer:
        return Answer(query.n * 2)

    @bus.serve("wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    @bus.serve("fail")
    async def fail() -> None:
        raise ValueError("no luck")

    return bus
