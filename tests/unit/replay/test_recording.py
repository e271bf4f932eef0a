"""The record read ahead: damage and cancellation in one place take nothing from the others."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from hms_bus.abc import Record
from hms_bus.errors import LogCorruptError
from hms_bus.replay.recording import Recording
from tests.support.runs import recorded, said

DAMAGE = LogCorruptError("unreadable", path="run.db", position=4)


async def damaged(records: Sequence[Record]) -> AsyncGenerator[list[Record]]:
    yield list(records)
    raise DAMAGE


def made(batches: AsyncGenerator[list[Record]]) -> Recording:
    return Recording(batches, ahead=1000, remap={})


async def test_what_lies_before_damage_is_played_whoever_meets_the_damage() -> None:
    records = recorded([said("a", number) for number in range(3)])
    recording = made(damaged(records))
    assert await recording.find(lambda: None) is None
    assert recording.failure is DAMAGE
    assert await recording.peek(10) == records
    recording.forget(3)
    for _ in range(2):
        with pytest.raises(LogCorruptError):
            await recording.peek(10)


async def test_who_is_cancelled_while_reading_ends_it_for_nobody_else() -> None:
    records = recorded([said("a", number) for number in range(3)])
    may_read = asyncio.Event()

    async def slow() -> AsyncGenerator[list[Record]]:
        for record in records:
            await may_read.wait()
            yield [record]

    recording = made(slow())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await recording.find(lambda: None)
    may_read.set()
    assert await recording.peek(10) == records
    await recording.close()


async def test_what_is_read_is_closed_also_when_closing_is_cancelled() -> None:
    is_reading, is_closed = asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncGenerator[list[Record]]:
        try:
            is_reading.set()
            await asyncio.Event().wait()
            yield []
        finally:
            is_closed.set()

    recording = made(stuck())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await recording.peek(1)
    await is_reading.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await recording.close()
    assert is_closed.is_set()


async def test_what_was_caused_is_found_until_it_was_passed() -> None:
    cause = said("a")
    effects = [said("b", number, cause=cause) for number in range(2)]
    records = recorded([cause, *effects])

    async def whole() -> AsyncGenerator[list[Record]]:
        yield records

    recording = made(whole())
    await recording.peek(1)
    assert recording.caused_by(cause.id) == effects
    assert recording.caused_by(None) == [cause]
    assert recording.read_to_ns == records[-1].recorded_ns
    recording.forget(2)
    assert recording.caused_by(cause.id) == effects[1:]
