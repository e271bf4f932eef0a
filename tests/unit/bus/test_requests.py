"""Asking one agent: its answer, or why there is none."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn, TypedDict

import pytest

from hms_bus import Bus, Envelope, Message, RemoteError, StatusError
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    DecodeError,
    DisconnectedError,
    EncodeError,
    LogReadOnlyError,
    NoRespondersError,
    StateError,
    TopicError,
)
from tests.support.asking import Answer, Query, serving_bus
from tests.support.turns import turns


class Row(TypedDict):
    n: int


URLS = ["direct://", "direct://?codec=json"]


# -- one answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", URLS)
async def test_an_answer_becomes_what_is_asked_for(url: str) -> None:
    async with serving_bus(url=url) as bus:
        assert await bus.request("double", Query(4), returns=Answer) == Answer(8)
        assert await bus.request("double", {"n": 4}, returns=Row) == {"n": 8}
        assert await bus.request("double", Query(4)) == {"n": 8}
        with pytest.raises(DecodeError):
            await bus.request("double", Query(4), returns=int)


async def test_no_value_is_an_answer_too() -> None:
    bus = Bus("direct://?codec=json")

    @bus.serve("nothing")
    async def nothing() -> None: ...

    async with bus:
        assert await bus.request("nothing") is None


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_many_requests_at_once_get_their_own_answers(log: str | None) -> None:
    async with serving_bus(log=log) as bus:
        answers = await asyncio.gather(
            *(bus.request("double", Query(n), returns=Answer) for n in range(200))
        )
    assert [answer.n for answer in answers] == [2 * n for n in range(200)]


async def test_the_reply_is_caused_by_the_request() -> None:
    seen: list[Envelope] = []
    bus = serving_bus(log="memory:")
    async with bus:
        await bus.request("double", Query(1))
        seen = [message.envelope async for message in bus.replay("$reply.>")]
        [request] = [message.envelope async for message in bus.replay("double")]
    [reply] = seen
    assert (reply.topic, reply.causationid) == ("$reply.double", request.id)
    assert (reply.correlationid, reply.hops) == (request.id, request.hops)
    assert request.expirytime is not None


async def test_a_system_topic_can_be_served() -> None:
    bus = Bus("direct://?codec=json", log="memory:", logged=["$SRV.>", "$reply.>"])

    @bus.serve("$SRV.PING")
    async def ping() -> str:
        return "pong"

    async with bus:
        assert await bus.request("$SRV.PING") == "pong"
        topics = [message.topic async for message in bus.replay("$reply.>")]
    assert topics == ["$reply.SRV.PING"]


async def test_requests_are_shared_by_the_members_of_a_group() -> None:
    bus, counts = Bus(), [0, 0]

    def serve(place: int) -> None:
        @bus.serve("count")
        async def count() -> int:
            counts[place] += 1
            await turns()
            return place

    serve(0)
    serve(1)
    async with bus:
        await asyncio.gather(*(bus.request("count") for _ in range(10)))
    assert counts == [5, 5]


async def test_an_event_on_a_served_topic_is_handled_and_its_value_dropped() -> None:
    got: list[Any] = []
    bus = Bus()

    @bus.serve("a")
    async def answer(data: Any, msg: Message) -> str:
        got.append((data, msg.reply_to))
        return "dropped"

    @bus.serve("items")
    async def items() -> AsyncIterator[int]:
        got.append("never begun")
        yield 1

    async with bus:
        await bus.publish("a", 1)
        await bus.publish("items")
    assert got == [(1, None)]


# -- no answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_nobody_there_is_told_at_once(log: str | None) -> None:
    async with Bus(log=log) as bus:
        with pytest.raises(NoRespondersError) as caught:
            await bus.request("nobody", timeout=3600)
        assert caught.value.topic == "nobody"
        with pytest.raises(NoRespondersError):
            await bus.request_many("nobody", timeout=3600)
        with pytest.raises(NoRespondersError):
            async with bus.request_stream("nobody", idle_timeout=3600):
                pass


async def test_the_deadline_ends_the_wait_and_the_handler() -> None:
    bus, ended = Bus(), asyncio.Event()

    @bus.serve("slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with bus:
        with pytest.raises(DeadlineExceededError) as caught:
            await bus.request("slow", timeout="10ms")
        assert (caught.value.topic, caught.value.timeout_s) == ("slow", 0.01)
        await ended.wait()
        await turns()
        [stats] = bus.stats().subscriptions
    assert (stats.failed, stats.in_progress) == (0, 0)


async def test_the_deadline_of_the_configuration_is_the_default() -> None:
    async with serving_bus(request_timeout_s=0.01) as bus:
        with pytest.raises(DeadlineExceededError, match=r"within 0\.01 s"):
            await bus.request("wait")


async def test_no_time_at_all_is_too_little() -> None:
    async with serving_bus() as bus:
        with pytest.raises(DeadlineExceededError):
            await bus.request("wait", timeout=0)
        for wrong in (-1, "soon", float("nan")):
            with pytest.raises(ConfigError):
                await bus.request("wait", timeout=wrong)


@pytest.mark.parametrize("middleware", [False, True])
async def test_the_deadline_also_bounds_the_time_in_a_full_queue(*, middleware: bool) -> None:
    bus, gate = Bus(), asyncio.Event()
    if middleware:
        bus.publish_middleware(lambda publish: publish)

    @bus.serve("busy", concurrency=1, max_queue=1, overflow="block")
    async def busy() -> None:
        await gate.wait()

    async with bus:
        for _ in range(3):
            bus.emit("busy")
        await turns()
        with pytest.raises(DeadlineExceededError):
            await bus.request("busy", timeout=0.01)
        assert await bus.request_many("busy", timeout=0.01) == []
        async with bus.request_stream("busy", idle_timeout=0.01) as items:
            with pytest.raises(DeadlineExceededError):
                await anext(items)
        gate.set()


async def test_a_full_service_refuses() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.serve("busy", concurrency=1, max_queue=1)
    async def busy() -> None:
        await gate.wait()

    async with bus:
        waiting = [asyncio.ensure_future(bus.request("busy"))]
        await turns()
        waiting.append(asyncio.ensure_future(bus.request("busy")))
        await turns()
        with pytest.raises(RemoteError, match="is full") as caught:
            await bus.request("busy")
        assert (caught.value.code, caught.value.retryable) == ("RESOURCE_EXHAUSTED", True)
        assert bus.stats().subscriptions[0].dropped == 1
        gate.set()
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_a_dropped_request_is_answered(overflow: Any) -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.serve("busy", concurrency=1, max_queue=1, overflow=overflow)
    async def busy(n: int) -> int:
        await gate.wait()
        return n

    async with bus:
        asking: list[asyncio.Future[Any]] = []
        for n in range(3):
            asking.append(asyncio.ensure_future(bus.request("busy", n)))
            await turns()
        gate.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        [stats] = bus.stats().subscriptions
    dropped = results.pop(1 if overflow == "drop_oldest" else 2)
    assert isinstance(dropped, RemoteError)
    assert (dropped.code, dropped.retryable) == ("RESOURCE_EXHAUSTED", True)
    assert results == ([0, 2] if overflow == "drop_oldest" else [0, 1])
    assert stats.dropped == 1


async def test_what_is_no_topic_or_has_no_form_is_refused() -> None:
    async with serving_bus(url="direct://?codec=json") as bus:
        with pytest.raises(TopicError):
            await bus.request("a..b")
        with pytest.raises(TopicError):
            await bus.request("double.*")
        with pytest.raises(EncodeError):
            await bus.request("double", object())
        with pytest.raises(EncodeError):
            await bus.request("double", Query(1), priority=10)


# -- open and closed -------------------------------------------------------------------------------


async def test_a_closed_bus_refuses() -> None:
    bus = serving_bus()
    for ask in (lambda: bus.request("double"), lambda: bus.request_many("double")):
        with pytest.raises(StateError):
            await ask()
    with pytest.raises(StateError):
        bus.request_stream("double")


async def test_closing_the_bus_fails_who_still_waits_and_cancels_the_handlers() -> None:
    server = serving_bus(url="direct://closing")

    @server.serve("items")
    async def items() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def read(bus: Bus) -> None:
        async with bus.request_stream("items", idle_timeout=3600) as stream:
            async for _ in stream:
                pass

    async with server:
        caller = Bus("direct://closing")
        async with caller:
            waiting = [
                asyncio.ensure_future(work)
                for work in (
                    caller.request("wait", timeout=3600),
                    caller.request_many("wait", timeout=3600),
                    read(caller),
                )
            ]
            await turns()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await turns()
        assert [stats.in_progress for stats in server.stats().subscriptions] == [0] * 4
    assert [type(result) for result in results] == [DisconnectedError] * 3


async def test_cancelling_a_request_after_the_bus_was_closed_is_a_cancellation() -> None:
    server = serving_bus(url="direct://closing2")
    async with server:
        caller = Bus("direct://closing2")
        async with caller:
            asking = asyncio.ensure_future(caller.request("wait", timeout=3600))
            await turns()
        asking.cancel()
        with pytest.raises((asyncio.CancelledError, DisconnectedError)):
            await asking


async def test_late_replies_are_counted_and_nobody_minds() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.serve("slow", group=None)
    async def slow() -> int:
        await gate.wait()
        return 1

    async with bus:
        [link] = bus._opened().links
        await bus.request_many("slow", count=0)
        await turns()
        gate.set()
        await turns()
        assert link.inbox.late == 1
        assert link.inbox.waiting == {}


async def test_requests_are_counted_and_are_no_publications() -> None:
    async with serving_bus(log="memory:") as bus:
        await bus.request("double", Query(1))
        await bus.request_many("double", Query(1), count=1)
        stats = bus.stats()
    assert (stats.requests, stats.published) == (2, 0)


async def test_a_status_is_an_answer_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    bus, reported = Bus(), list[BaseException]()
    bus.on_error(lambda error, message: reported.append(error))

    @bus.serve("find")
    async def find(name: str) -> str:
        raise StatusError("NOT_FOUND", f"no {name}")

    @bus.serve("ask.for")
    async def ask(name: str) -> str:
        return await bus.request("find", name, returns=str)

    async with bus:
        for topic in ("find", "ask.for"):
            with pytest.raises(RemoteError, match="NOT_FOUND"):
                await bus.request(topic, "key")
        await turns()
        assert [type(error) for error in reported] == [RemoteError]
        stats = {row.pattern: row for row in bus.stats().subscriptions}
        assert (stats["find"].handled, stats["find"].failed) == (2, 0)
        assert (stats["ask.for"].handled, stats["ask.for"].failed) == (0, 1)
    assert "handler" in caplog.text
    assert caplog.text.count("failed on") == 1


async def test_a_request_that_is_asked_again_under_its_id_is_answered_again() -> None:
    bus = Bus(log="memory:")

    @bus.serve("double")
    async def double(n: int) -> int:
        return 2 * n

    async with bus:
        assert await bus.request("double", 1, id="req-1", returns=int) == 2
        assert await bus.request("double", 1, id="req-1", returns=int) == 2


async def test_a_caller_hears_of_a_reply_that_cannot_be_logged() -> None:
    bus = Bus(log="memory:", logged=("$reply.>",))

    @bus.serve("double")
    async def double(n: int) -> int:
        return 2 * n

    async with bus:

        async def fail(*_: object, **__: object) -> NoReturn:
            raise LogReadOnlyError("the disk is full", path="run.db")

        bus.log.append = fail  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(RemoteError, match="the disk is full"):
            await bus.request("double", 1)
