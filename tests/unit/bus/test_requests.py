"""Asking: one answer, many answers, and every way not to get one."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn, TypedDict

import msgspec
import pytest

from hms_bus import Bus, Envelope, Message, RemoteError, ReplyStream, StatusError
from hms_bus.bus import context
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    DecodeError,
    DisconnectedError,
    EncodeError,
    HopLimitError,
    LogReadOnlyError,
    NoRespondersError,
    StateError,
    TopicError,
    UsageError,
)
from tests.support.turns import turns


class Query(msgspec.Struct):
    n: int


class Answer(msgspec.Struct):
    n: int


class Row(TypedDict):
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


# -- what handlers raise ---------------------------------------------------------------------------


@pytest.mark.parametrize("url", URLS)
async def test_any_exception_is_an_unknown_error_without_its_traceback(url: str) -> None:
    async with serving_bus(url=url, source="/agents/bank") as bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail")
    error = caught.value
    assert (error.code, error.message) == ("UNKNOWN", "ValueError: no luck")
    assert (error.topic, error.source) == ("fail", "/agents/bank")
    assert (error.retryable, error.details, error.remote_traceback) == (False, {}, None)


async def test_the_traceback_goes_along_when_it_is_asked_for() -> None:
    async with serving_bus(expose_tracebacks=True) as bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail")
    assert 'raise ValueError("no luck")' in (caught.value.remote_traceback or "")


class Unprintable(Exception):  # noqa: N818 - it is nothing but trouble
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    ("raised", "code", "message", "retryable", "details"),
    [
        (StatusError("NOT_FOUND", "no such"), "NOT_FOUND", "no such", False, {}),
        (
            StatusError("ABORTED", "again", details={"id": 5}, retryable=False),
            "ABORTED",
            "again",
            False,
            {"id": 5},
        ),
        (
            StatusError("NOT_FOUND", "why", details={"odd": object}),
            "NOT_FOUND",
            "why",
            False,
            {"repr": "{'odd': <class 'object'>}"},
        ),
        (
            DecodeError("no int", reason="payload", field="$.n"),
            "INVALID_ARGUMENT",
            "no int (field $.n)",
            False,
            {"field": "$.n"},
        ),
        (
            HopLimitError(topic="x", hops=5, limit=4),
            "ABORTED",
            str(HopLimitError(topic="x", hops=5, limit=4)),
            False,
            {},
        ),
        (
            NoRespondersError("x"),
            "UNAVAILABLE",
            str(NoRespondersError("x")),
            True,
            {},
        ),
        (KeyError(), "UNKNOWN", "KeyError", False, {}),
        (Unprintable(), "UNKNOWN", "Unprintable", False, {}),
        (
            asyncio.CancelledError(),
            "CANCELLED",
            "the handler awaited something that was cancelled",
            False,
            {},
        ),
    ],
)
async def test_an_error_crosses_with_its_status(
    url: str,
    raised: BaseException,
    code: str,
    message: str,
    details: dict[str, Any],
    *,
    retryable: bool,
) -> None:
    bus = Bus(url)

    @bus.serve("fail")
    async def fail() -> None:
        raise raised

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail", timeout=30)
        assert (await bus.request_many("fail", count=1))[0].error is not None
    error = caught.value
    assert (error.code, error.message, error.retryable) == (code, message, retryable)
    assert error.details == details


async def test_an_error_passes_through_an_agent_that_asks_another() -> None:
    bus = serving_bus()

    @bus.serve("ask")
    async def ask() -> None:
        await bus.request("inner")

    @bus.serve("inner")
    async def inner() -> None:
        raise StatusError("NOT_FOUND", "no such", details={"id": 5})

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("ask")
    assert (caught.value.code, caught.value.details) == ("NOT_FOUND", {"id": 5})


async def test_a_payload_that_does_not_fit_goes_back_to_the_caller_and_to_the_hook() -> None:
    bus, seen = serving_bus(), list[BaseException]()
    bus.on_error(lambda error, _: seen.append(error))
    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("double", {"n": "many"})
        await turns()
    assert (caught.value.code, caught.value.details) == ("INVALID_ARGUMENT", {"field": "$.n"})
    [error] = seen
    assert isinstance(error, DecodeError)
    assert error.topic == "double"


async def test_a_value_that_has_no_form_is_an_error_of_the_agent() -> None:
    bus = Bus("direct://?codec=json")

    @bus.serve("odd")
    async def odd() -> object:
        return object()

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("odd", timeout=30)
    assert caught.value.code == "INTERNAL"
    assert "is no payload" in caught.value.message


async def test_an_error_that_cannot_be_read_is_unknown() -> None:
    async with serving_bus() as bus:

        def garble(envelope: Envelope) -> Envelope:
            return envelope.replace(data=[1, 2]) if envelope.topic == "$reply.fail" else envelope

        with _rewriting(bus, garble), pytest.raises(RemoteError, match="could not be read"):
            await bus.request("fail")


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_transport_that_learns_later_that_sending_failed_is_heard(
    *, middleware: bool
) -> None:
    bus = serving_bus()
    if middleware:
        bus.publish_middleware(lambda publish: publish)
    async with bus:
        [link] = bus._opened().links

        async def fail_later(envelope: Envelope, **_: Any) -> None:
            await turns()
            raise NoRespondersError(envelope.topic)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link.transport, "publish", fail_later)
            with pytest.raises(NoRespondersError):
                await bus.request("double", Query(1), timeout=3600)
            with pytest.raises(NoRespondersError):
                await bus.request_many("double", Query(1), timeout=3600)
            with pytest.raises(NoRespondersError):
                await _first_of(bus.request_stream("double", Query(1), idle_timeout=3600))
            bus._opened().routes.clear()
        await turns(20)


async def _first_of(stream: ReplyStream[Any]) -> Any:
    async with stream as items:
        return await anext(items)


async def test_an_answer_may_come_before_the_transport_has_room() -> None:
    """The queue moves on only when the answer has been read: waiting for room would be for ever."""
    bus, got = Bus(), list[int]()

    @bus.serve("items", concurrency=1, max_queue=1, overflow="block")
    async def items(n: int) -> AsyncIterator[int]:
        for item in range(100):
            yield item

    async def read(n: int) -> None:
        async with bus.request_stream("items", n, credit=1) as stream:
            got.append(sum([item async for item in stream]))

    async with bus:
        await asyncio.gather(*(read(n) for n in range(5)))
    assert got == [4950] * 5


def _rewriting(bus: Bus, change: Any) -> Any:
    """Let `change` have each envelope before the transport does."""
    runtime = bus._opened()
    [link] = runtime.links
    publish = link.transport.publish
    patch = pytest.MonkeyPatch()

    def rewritten(envelope: Envelope, **addresses: Any) -> Any:
        return publish(change(envelope), **addresses)

    patch.setattr(link.transport, "publish", rewritten)
    runtime.routes.clear()
    return _Undo(patch)


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


# -- deadlines travel and cancellation arrives -----------------------------------------------------


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


# -- many answers ----------------------------------------------------------------------------------


def chorus(count: int) -> Bus:
    """A bus on which `count` agents answer each request with their number."""
    bus = Bus()

    def serve(number: int) -> None:
        @bus.serve("who", group=None)
        async def who() -> int:
            await turns(number)
            if number == 2:
                raise StatusError("NOT_FOUND", "not me")
            return number

    for number in range(count):
        serve(number)
    return bus


async def test_all_answer_and_errors_are_answers() -> None:
    async with chorus(4) as bus:
        replies = await bus.request_many("who", count=4)
        [stats, *_] = bus.stats().subscriptions
    assert [reply.value for reply in replies] == [0, 1, None, 3]
    error = replies[2].error
    assert isinstance(error, RemoteError)
    assert error.code == "NOT_FOUND"
    assert replies[0].result() == 0
    with pytest.raises(RemoteError):
        replies[2].result()
    assert {reply.source for reply in replies} == {bus.source}
    assert stats.failed == 0


async def test_the_deadline_ends_the_collection_without_an_error() -> None:
    async with chorus(3) as bus:
        replies = await bus.request_many("who", timeout=0.05)
        assert len(replies) == 3
        assert await bus.request_many("who", timeout=0) == []


async def test_a_count_ends_the_collection() -> None:
    async with chorus(4) as bus:
        assert len(await bus.request_many("who", count=2)) == 2
        assert await bus.request_many("who", count=0) == []


async def test_one_of_each_group_answers() -> None:
    bus = Bus()

    def serve(group: str | None, name: str) -> None:
        @bus.serve("who", group=group)
        async def who() -> str:
            return name

    for group, name in [("a", "a1"), ("a", "a2"), ("b", "b1"), (None, "none")]:
        serve(group, name)
    async with bus:
        replies = await bus.request_many("who", timeout=0.05)
    names = [reply.value for reply in replies]
    assert sorted(name[0] for name in names if name) == ["a", "b", "n"]


async def test_one_wrong_answer_does_not_spoil_the_others() -> None:
    bus = Bus()

    @bus.serve("who", group=None)
    async def number() -> int:
        return 1

    @bus.serve("who", group=None)
    async def text() -> str:
        return "one"

    async with bus:
        replies = await bus.request_many("who", returns=int, count=2)
    assert sorted(str(reply.value) for reply in replies) == ["1", "None"]
    [error] = [reply.error for reply in replies if reply.error]
    assert isinstance(error, DecodeError)


async def test_cancelling_reaches_every_agent_that_is_asked() -> None:
    bus, began, ended = Bus(), list[int](), list[int]()

    def serve(number: int) -> None:
        @bus.serve("slow", group=None)
        async def slow() -> None:
            began.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

    for number in range(3):
        serve(number)
    async with bus:
        asking = asyncio.ensure_future(bus.request_many("slow"))
        await turns()
        assert began == [0, 1, 2]
        asking.cancel()
        await turns()
        assert ended == [0, 1, 2]


async def test_a_request_that_is_repeated_is_served_once_at_a_time() -> None:
    bus, gate, calls = Bus(), asyncio.Event(), list[str]()

    @bus.serve("slow")
    async def slow(msg: Message) -> str:
        calls.append(msg.id)
        await gate.wait()
        return msg.id

    async with bus:
        [link] = bus._opened().links
        asking = asyncio.ensure_future(bus.request("slow", id="once"))
        await turns()
        again = Envelope(id="once", source=bus.source, type="slow", topic="slow")
        link.transport.publish(again, reply_to=link.inbox.address)
        await turns()
        gate.set()
        assert await asking == "once"
        await turns()
        assert link.inbox.late == 0
    assert calls == ["once"]


@pytest.mark.parametrize("way", ["request", "request_many", "request_stream"])
async def test_an_id_that_waits_for_its_answer_is_refused_to_another_request(way: str) -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.serve("echo")
    async def echo(n: int) -> int:
        await gate.wait()
        return n

    async def ask_again() -> Any:
        if way == "request_stream":
            async with bus.request_stream("echo", 2, id="same") as items:
                return [item async for item in items]
        return await getattr(bus, way)("echo", 2, id="same")

    async with bus:
        first = asyncio.ensure_future(bus.request("echo", 1, id="same"))
        await turns()
        with pytest.raises(UsageError, match="'same' is waiting for its answer"):
            await ask_again()
        gate.set()
        assert await first == 1
        assert await bus.request("echo", 3, id="same") == 3


@pytest.mark.parametrize(
    ("name", "value"), [("ttl", 60), ("expirytime", "2100-01-01T00:00:00Z"), ("ttl", 0)]
)
async def test_a_request_has_a_timeout_and_no_other_expiry(name: str, value: Any) -> None:
    option: dict[str, Any] = {name: value}
    async with serving_bus() as bus:
        for ask in (
            lambda: bus.request("double", Query(1), **option),
            lambda: bus.request_many("double", Query(1), count=1, **option),
            lambda: bus.request_stream("double", Query(1), **option).__aenter__(),
        ):
            with pytest.raises(EncodeError, match="use timeout=") as caught:
                await ask()
            assert caught.value.field == name
        assert await bus.request("double", Query(1), ttl=None, returns=Answer) == Answer(2)  # pyright: ignore[reportArgumentType]


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
