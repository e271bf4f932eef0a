"""Leaving a bus: what is finished, what is ended, and what is refused."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hms_bus import Bus, Message, RemoteError
from hms_bus.errors import (
    NoRespondersError,
    StateError,
)
from tests.support.events import event
from tests.support.turns import turns

pytestmark = pytest.mark.usefixtures("no_task_is_left")


# -- draining --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["direct://", "direct://drain"])
async def test_leaving_handles_all_that_was_accepted(url: str) -> None:
    bus, got = Bus(url), list[int]()

    @bus.subscribe("a", concurrency=2)
    async def take(n: int) -> None:
        await turns(n % 7)
        got.append(n)

    async with bus:
        for n in range(100):
            bus.emit("a", n)
        assert got == []
    assert sorted(got) == list(range(100))


async def test_leaving_by_an_exception_drains_too() -> None:
    bus, got = Bus(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns()
        got.append(n)

    async def fail() -> None:
        async with bus:
            await bus.publish("a", 1)
            raise ValueError("body")

    with pytest.raises(ValueError, match="body"):
        await fail()
    assert got == [1]


async def test_being_cancelled_drains_too() -> None:
    bus, got, began = Bus(), list[int](), asyncio.Event()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns()
        got.append(n)

    async def live() -> None:
        async with bus:
            for n in range(10):
                await bus.publish("a", n)
            began.set()
            await asyncio.Event().wait()

    living = asyncio.ensure_future(live())
    await began.wait()
    living.cancel()
    await asyncio.wait([living])
    assert living.cancelled()
    assert got == list(range(10))


async def test_what_handlers_start_while_draining_is_finished() -> None:
    bus, got = Bus(), list[str]()

    @bus.serve("square")
    async def square(n: int) -> int:
        await turns(2)
        return n * n

    @bus.subscribe("a")
    async def first(n: int) -> None:
        await turns(2)
        await bus.publish("b", await bus.request("square", n))
        bus.emit("c", n)

    @bus.subscribe("b")
    async def second(n: int) -> None:
        await turns(2)
        got.append(f"b{n}")

    @bus.subscribe("c")
    async def third(n: int) -> None:
        async with bus.request_stream("items", n) as items:
            got.append(f"c{[item async for item in items]}")

    @bus.serve("items")
    async def items(n: int) -> AsyncIterator[int]:
        for item in range(n):
            yield item

    async with bus:
        for n in range(3):
            await bus.publish("a", n)
    assert sorted(got) == ["b0", "b1", "b4", "c[0, 1]", "c[0]", "c[]"]


async def test_on_a_shared_address_handlers_may_still_ask_their_own_services() -> None:
    bus, got = Bus("direct://ask-self"), list[int]()

    @bus.serve("square")
    async def square(n: int) -> int:
        await turns(2)
        return n * n

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns(2)
        got.append(await bus.request("square", n))

    async with bus:
        for n in range(5):
            await bus.publish("a", n)
    assert got == [0, 1, 4, 9, 16]


async def test_a_group_hands_its_work_to_the_members_that_stay() -> None:
    got: dict[str, list[int]] = {"leaves": [], "stays": []}

    def member(name: str) -> Bus:
        bus = Bus("direct://hand-over")

        @bus.subscribe("a", group="g")
        async def take(n: int) -> None:
            await turns(3)
            got[name].append(n)

        return bus

    leaves, stays = member("leaves"), member("stays")
    async with Bus("direct://hand-over") as publisher, stays:
        async with leaves:
            for n in range(10):
                await publisher.publish("a", n)
        finished = list(got["leaves"])
        for n in range(10, 20):
            await publisher.publish("a", n)
    assert got["leaves"] == finished
    assert sorted(got["leaves"] + got["stays"]) == list(range(20))


async def test_giving_up_draining_tells_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    bus, cancelled = Bus(drain_timeout_s=0.01), list[int]()

    @bus.subscribe("a.*", concurrency=2)
    async def stuck(msg: Message) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(msg.data)

    async with bus:
        for n in range(4):
            await bus.publish("a.b", n)
        await turns()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "gave up draining after 0.01 s: 4 messages left on a.* (" in record.getMessage()
    assert cancelled == [0, 1]


async def test_a_handler_that_swallows_its_cancellation_does_not_keep_the_bus_open() -> None:
    bus, swallowed = Bus(drain_timeout_s=0.01), list[int]()

    @bus.subscribe("a", concurrency=2)
    async def stubborn(n: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append(n)

    async with bus:
        await bus.publish("a", 0)
        await bus.publish("a", 1, partitionkey="k")
        for n in range(2, 5):
            await bus.publish("a", n, partitionkey="k")
        await turns()
    assert sorted(swallowed)[:2] == [0, 1]


async def test_a_call_that_was_cancelled_before_does_not_keep_the_bus_open() -> None:
    bus, began = Bus(drain_timeout_s=0.01), asyncio.Event()

    @bus.serve("slow", concurrency=1)
    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    async with bus:
        asking = asyncio.ensure_future(bus.request("slow"))
        await began.wait()
        asking.cancel()
        await turns()


async def test_requests_that_cannot_be_answered_any_more_are_answered_so() -> None:
    server, began = Bus("direct://gone", drain_timeout_s=0.01), asyncio.Event()

    @server.serve("slow", concurrency=1)
    async def slow() -> None:
        began.set()
        await asyncio.Event().wait()

    async with Bus("direct://gone") as caller:
        async with server:
            asking = [asyncio.ensure_future(caller.request("slow", timeout=60)) for _ in range(3)]
            await began.wait()
        results = await asyncio.gather(*asking, return_exceptions=True)
        with pytest.raises(NoRespondersError):
            await caller.request("slow")
    assert all(isinstance(result, RemoteError) for result in results)
    assert {result.code for result in results if isinstance(result, RemoteError)} == {"UNAVAILABLE"}


@pytest.mark.parametrize("log", [None, "memory:"])
@pytest.mark.parametrize("after_turns", [1, 10])
async def test_being_cancelled_while_draining_ends_everything(
    log: str | None, after_turns: int
) -> None:
    bus, ended, began = Bus(drain_timeout_s=60, log=log), list[str](), asyncio.Event()

    @bus.subscribe("a")
    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")

    async def live() -> None:
        async with bus:
            await bus.publish("a")
            began.set()

    living = asyncio.ensure_future(live())
    await began.wait()
    await turns(after_turns)
    assert not living.done()
    living.cancel()
    await asyncio.wait([living])
    assert living.cancelled()
    assert ended == ["handler"]
    assert not bus.is_open


async def test_background_work_that_is_stuck_is_ended() -> None:
    bus = Bus(drain_timeout_s=0.01)

    @bus.subscribe("a", max_queue=1)
    async def stuck() -> None:
        await asyncio.Event().wait()

    async with bus:
        for _ in range(5):
            bus.emit("a")


async def test_declaring_while_the_bus_is_draining_does_no_harm() -> None:
    bus = Bus()

    async def late() -> None: ...

    @bus.subscribe("a")
    async def declares() -> None:
        await turns()
        bus.subscribe("late")(late)

    async with bus:
        await bus.publish("a")


async def test_a_shared_log_is_closed_by_the_last_and_may_be_opened_while_it_closes(
    tmp_path: Any,
) -> None:
    url = f"sqlite:{tmp_path}/run.db"
    one, other = Bus(log=url), Bus(log=url)
    async with one, other:
        await one.publish("a", 1)
        await other.publish("a", 2)
        assert (await one.log.head()).position == 2
    for _ in range(5):
        await one.__aenter__()
        closing = asyncio.ensure_future(one.__aexit__(None, None, None))
        await turns(2)
        async with other:
            await other.publish("a")
        await closing


# -- what comes while the bus is being left ------------------------------------------------------


@pytest.mark.parametrize("url", ["direct://", "direct://leaving"])
async def test_nothing_new_is_taken_in_while_the_bus_is_drained(url: str) -> None:
    """What is accepted is handled, therefore what would not be handled is not accepted."""
    bus, gate, handled, accepted = Bus(url), asyncio.Event(), list[int](), list[int]()

    @bus.subscribe("a", max_queue=10_000)
    async def take(n: int) -> None:
        await gate.wait()
        handled.append(n)

    async def produce() -> None:
        n = 0
        while True:
            await bus.publish("a", n)
            accepted.append(n)
            n += 1
            await asyncio.sleep(0)

    async with bus:
        producing = asyncio.ensure_future(produce())
        await turns(20)
        asyncio.get_running_loop().call_later(0.01, gate.set)
    with pytest.raises(StateError, match="being closed"):
        await producing
    assert accepted
    assert handled == accepted


async def test_every_way_to_send_is_closed_while_the_bus_is_drained() -> None:
    bus, gate, refused = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a")
    async def take() -> None:
        await gate.wait()

    async def try_everything() -> None:
        await turns()
        for send in (
            lambda: bus.publish("a"),
            lambda: bus.publish("a", priority=3),
            lambda: bus.publish_many([("a", 1)]),
            lambda: bus.forward(event("a")),
            lambda: bus.request("a"),
            lambda: bus.request_many("a"),
        ):
            with pytest.raises(StateError, match="being closed"):
                await send()
            refused.append(1)
        with pytest.raises(StateError, match="being closed"):
            bus.emit("a")
        with pytest.raises(StateError, match="being closed"):
            bus.request_stream("a")
        assert bus.stats().published == 1
        gate.set()

    async with bus:
        await bus.publish("a")
        trying = asyncio.ensure_future(try_everything())
    await trying
    assert len(refused) == 6
