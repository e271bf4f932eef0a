"""Asking: deadlines travel and cancellation arrives."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hms_bus import Bus, Envelope
from hms_bus.bus import context
from hms_bus.errors import (
    DeadlineExceededError,
)
from tests.support.asking import serving_bus
from tests.support.turns import turns


def time_left_s() -> float:
    call = context.deadline.get()
    assert call is not None
    return call.due - asyncio.get_running_loop().time()


async def test_a_nested_request_has_no_more_time_than_its_outer_one() -> None:
    bus, left = serving_bus(), list[float]()

    @bus.serve("outer")
    async def outer() -> None:
        left.append(time_left_s())
        await bus.request("inner", timeout=3600)

    @bus.serve("inner")
    async def inner(envelope: Envelope) -> None:
        left.append(time_left_s())
        assert envelope.expires_ns is not None
        left.append((envelope.expires_ns - time.time_ns()) / 1e9)

    async with bus:
        await bus.request("outer", timeout=30)
    assert all(0 < seconds <= 30.001 for seconds in left)
    assert left[1] <= left[0] + 0.001


async def test_a_nested_request_may_have_less_time() -> None:
    bus = serving_bus()

    @bus.serve("outer")
    async def outer() -> str:
        try:
            await bus.request("wait", timeout=0.01)
        except DeadlineExceededError as error:
            return f"gave up after {error.timeout_s:g}"
        return "?"

    async with bus:
        assert await bus.request("outer", timeout=30) == "gave up after 0.01"


async def test_a_stream_has_no_more_time_than_the_request_that_reads_it() -> None:
    bus, seen = Bus(), list[str | None]()

    @bus.serve("items")
    async def items(envelope: Envelope) -> AsyncIterator[int]:
        seen.append(envelope.expirytime)
        yield 1

    @bus.serve("sum")
    async def total() -> int:
        async with bus.request_stream("items") as stream:
            return sum([item async for item in stream])

    async with bus:
        assert await bus.request("sum", timeout=30) == 1
        async with bus.request_stream("items") as stream:
            assert [item async for item in stream] == [1]
    assert [time is None for time in seen] == [False, True]


async def test_an_event_has_no_deadline_of_the_request_before_it() -> None:
    bus, deadlines = Bus(), list[context.Deadline | None]()

    @bus.serve("a", concurrency=1)
    async def answer() -> None:
        deadlines.append(context.deadline.get())

    async with bus:
        await bus.request("a")
        await bus.publish("a")
    assert [deadline is None for deadline in deadlines] == [False, True]


async def test_a_deadline_ends_with_its_call_also_for_the_tasks_that_it_leaves_behind() -> None:
    bus, during, after = serving_bus(), list[float](), list[Any]()
    has_ended, left_behind = asyncio.Event(), list[asyncio.Task[None]]()

    async def work_on() -> None:
        during.append(time_left_s())
        await has_ended.wait()
        # More than the call had, so that its deadline would be the earlier one.
        after.append(await bus.request("time", timeout=7200, returns=float))
        async with bus.request_stream("time", returns=float) as items:
            after.extend([item async for item in items])

    @bus.serve("start")
    async def start() -> None:
        left_behind.append(asyncio.ensure_future(work_on()))
        await turns()

    @bus.serve("time")
    async def tell() -> float:
        return -1 if context.deadline.get() is None else time_left_s()

    async with bus:
        await bus.request("start", timeout=30)
        has_ended.set()
        await asyncio.gather(*left_behind)
    assert 0 < during[0] <= 30.001
    assert after[0] > 3600
    assert after[1] == -1


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_cancelling_the_caller_cancels_the_handler(log: str | None) -> None:
    bus, began, ended = Bus(log=log), asyncio.Event(), asyncio.Event()

    @bus.serve("slow")
    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with bus:
        for ask in (bus.request("slow"), bus.request_many("slow")):
            began.clear()
            ended.clear()
            asking = asyncio.ensure_future(ask)
            await began.wait()
            asking.cancel()
            await ended.wait()
            assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is (
                asyncio.CancelledError
            )
        await turns()
        assert await bus.request_many("slow", timeout=0) == []
        [stats] = bus.stats().subscriptions
    assert (stats.failed, stats.in_progress) == (0, 0)


async def test_cancellation_travels_along_a_chain() -> None:
    bus, began, ended = Bus(), asyncio.Event(), list[str]()

    @bus.serve("one")
    async def one() -> None:
        try:
            await bus.request("two")
        finally:
            ended.append("one")

    @bus.serve("two")
    async def two() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("two")

    async with bus:
        asking = asyncio.ensure_future(bus.request("one"))
        await began.wait()
        asking.cancel()
        await turns(20)
    assert ended == ["one", "two"]


async def test_a_handler_that_ignores_its_cancellation_keeps_its_lane() -> None:
    bus, began = Bus(), asyncio.Event()

    @bus.serve("stubborn", concurrency=1)
    async def stubborn(n: int) -> int:
        began.set()
        if n == 0:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return -1
        return n

    async with bus:
        asking = asyncio.ensure_future(bus.request("stubborn", 0))
        await began.wait()
        asking.cancel()
        assert await bus.request("stubborn", 1) == 1
