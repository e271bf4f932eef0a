"""Answers of many items: credit, numbers, the end, errors and leaving early."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import Bus, Envelope, Message, RemoteError, StatusError
from hms_bus.bus.protocol import CANCEL, CONTROL_TOPIC, CREDIT, END
from hms_bus.bus.requests import ReplyStream
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    DecodeError,
    NoRespondersError,
    StateError,
)
from tests.support.events import event
from tests.support.turns import turns


class Counter:
    """A bus that streams numbers, and notes how far it came and whether it was closed."""

    def __init__(self, url: str = "direct://", **settings: Any) -> None:
        self.bus = Bus(url, **settings)
        self.yielded = 0
        self.ended = asyncio.Event()

        @self.bus.serve("count")
        async def count(up_to: int) -> AsyncIterator[int]:
            try:
                for n in range(up_to):
                    self.yielded += 1
                    yield n
            finally:
                self.ended.set()

        @self.bus.serve("one")
        async def one() -> str:
            return "value"

        @self.bus.serve("fail")
        async def fail(after: int) -> AsyncIterator[int]:
            for n in range(after):
                yield n
            raise StatusError("DATA_LOSS", "that was all", details={"after": after})


@pytest.mark.parametrize("url", ["direct://", "direct://?codec=json"])
@pytest.mark.parametrize("log", [None, "memory:"])
@pytest.mark.parametrize("credit", [1, 2, 3, 64])
async def test_all_items_come_in_order(url: str, log: str | None, credit: int) -> None:
    counter = Counter(url, log=log)
    async with (
        counter.bus as bus,
        bus.request_stream("count", 150, returns=int, credit=credit) as items,
    ):
        assert [item async for item in items] == list(range(150))
        assert [item async for item in items] == []


async def test_a_stream_may_be_empty() -> None:
    async with Counter().bus as bus, bus.request_stream("count", 0) as items:
        assert [item async for item in items] == []


async def test_a_single_value_is_a_stream_of_one() -> None:
    async with Counter().bus as bus, bus.request_stream("one") as items:
        assert [item async for item in items] == ["value"]


async def test_a_stream_needs_to_be_asked_for_as_one() -> None:
    counter = Counter()
    async with counter.bus as bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("count", 5)
    assert caught.value.code == "FAILED_PRECONDITION"
    assert "request_stream" in caught.value.message
    assert counter.yielded == 0


# -- credit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("credit", [1, 2, 5, 64])
async def test_a_consumer_that_is_slow_holds_the_producer_up(credit: int) -> None:
    counter = Counter()
    async with counter.bus as bus, bus.request_stream("count", 1000, credit=credit) as items:
        await turns(20)
        for consumed in range(20):
            assert counter.yielded <= consumed + credit + 1
            assert await anext(items) == consumed
            await turns()


@pytest.mark.parametrize("credit", [0, -1])
async def test_a_stream_without_credit_is_refused(credit: int) -> None:
    async with Counter().bus as bus:
        with pytest.raises(ConfigError, match="at least 1 item"):
            bus.request_stream("count", 1, credit=credit)


# -- ends ------------------------------------------------------------------------------------------


async def test_leaving_early_cancels_the_handler() -> None:
    counter = Counter()
    async with counter.bus as bus:
        async with bus.request_stream("count", 10**9, credit=4) as items:
            assert await anext(items) == 0
        await counter.ended.wait()
        await turns()
        assert sum(stats.in_progress for stats in bus.stats().subscriptions) == 0
        assert sum(stats.failed for stats in bus.stats().subscriptions) == 0


async def test_leaving_before_the_first_item_cancels_the_handler() -> None:
    bus, began, ended = Bus(), asyncio.Event(), asyncio.Event()

    @bus.serve("slow")
    async def slow() -> AsyncIterator[int]:
        began.set()
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            ended.set()

    async with bus:
        async with bus.request_stream("slow"):
            await began.wait()
        await ended.wait()


async def test_an_exception_of_the_reader_cancels_the_handler() -> None:
    counter = Counter()
    async with counter.bus as bus:
        with pytest.raises(ValueError, match="reader"):
            await _fail_while_reading(bus.request_stream("count", 10**9))
        await counter.ended.wait()


async def _fail_while_reading(stream: ReplyStream[Any]) -> None:
    async with stream as items:
        async for _ in items:
            raise ValueError("reader")


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_reader_that_is_cancelled_while_it_asks_cancels_the_handler(
    *, middleware: bool
) -> None:
    """The request was accepted, its sender waits for room: nobody will ever read the items."""
    bus, gate, served = Bus(), asyncio.Event(), list[int]()
    if middleware:
        bus.publish_middleware(lambda publish: publish)

    @bus.serve("count", concurrency=1, max_queue=1, overflow="block")
    async def count(n: int) -> AsyncIterator[int]:
        await gate.wait()
        for item in range(100):
            served.append(n)
            yield item

    async def read(n: int) -> None:
        async with bus.request_stream("count", n, credit=2) as items:
            await anext(items)

    async with bus:
        reading = [asyncio.ensure_future(read(n)) for n in range(3)]
        await turns()
        reading[2].cancel()
        await turns()
        gate.set()
        await asyncio.gather(*reading, return_exceptions=True)
        await turns(20)
        assert 2 not in served
        assert [stats.in_progress for stats in bus.stats().subscriptions] == [0]


async def test_an_error_comes_after_the_items_before_it() -> None:
    async with Counter().bus as bus, bus.request_stream("fail", 3) as items:
        assert [await anext(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RemoteError) as caught:
            await anext(items)
        assert (caught.value.code, caught.value.details) == ("DATA_LOSS", {"after": 3})
        assert [item async for item in items] == []
    assert (caught.value.topic, caught.value.source) == ("fail", bus.source)


async def test_an_error_is_reported_where_it_was_raised_and_a_status_is_an_answer() -> None:
    counter, seen = Counter(), list[tuple[str, str]]()
    counter.bus.on_error(lambda error, message: seen.append((str(error), message.topic)))

    @counter.bus.serve("break")
    async def break_down() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    async with counter.bus as bus:
        for topic in ("fail", "break"):
            async with bus.request_stream(topic, 0) as items:
                with pytest.raises(RemoteError):
                    [item async for item in items]
        await turns()
    assert seen == [("broken", "break")]


async def test_an_item_of_another_type_is_refused_and_the_next_one_comes() -> None:
    bus = Bus()

    @bus.serve("mixed")
    async def mixed() -> AsyncIterator[object]:
        yield "text"
        yield 2

    async with bus, bus.request_stream("mixed", returns=int) as items:
        with pytest.raises(DecodeError):
            await anext(items)
        assert await anext(items) == 2


async def test_an_item_that_has_no_form_ends_the_stream_with_an_error() -> None:
    bus, closed = Bus("direct://?codec=json"), asyncio.Event()

    @bus.serve("odd")
    async def odd() -> AsyncIterator[object]:
        try:
            yield 1
            yield object()
        finally:
            closed.set()

    async with bus, bus.request_stream("odd") as items:
        assert await anext(items) == 1
        with pytest.raises(RemoteError, match="is no payload"):
            await anext(items)
    assert closed.is_set()


async def test_waiting_for_an_item_has_its_own_deadline() -> None:
    bus, ended = Bus(), asyncio.Event()

    @bus.serve("stops")
    async def stops() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with bus, bus.request_stream("stops", idle_timeout=0.01) as items:
        assert await anext(items) == 1
        with pytest.raises(DeadlineExceededError):
            await anext(items)
    await ended.wait()


async def test_a_slow_stream_may_take_longer_than_each_wait() -> None:
    bus = Bus()

    @bus.serve("slow")
    async def slow() -> AsyncIterator[int]:
        for n in range(6):
            await asyncio.sleep(0.02)
            yield n

    async with bus, bus.request_stream("slow", idle_timeout=0.1) as items:
        assert [item async for item in items] == list(range(6))


async def test_the_whole_stream_may_have_a_deadline() -> None:
    bus, ended = Bus(), asyncio.Event()

    @bus.serve("endless")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(0.001)
                yield 1
        finally:
            ended.set()

    async with bus, bus.request_stream("endless", timeout=0.03) as items:
        with pytest.raises(DeadlineExceededError):
            async for _ in items:
                pass
        await ended.wait()


async def test_a_stream_is_used_in_its_scope_and_once() -> None:
    async with Counter().bus as bus:
        items = bus.request_stream("count", 1)
        with pytest.raises(StateError, match="async with"):
            await anext(items)
        async with items:
            assert await anext(items) == 0
        with pytest.raises(StateError, match="read once"):
            await items.__aenter__()


async def test_a_handler_learns_that_its_caller_has_vanished() -> None:
    counter = Counter("direct://vanish")
    async with counter.bus as server:
        [link] = server._opened().links
        request = event("count", 10**9, source="/elsewhere").replace(credit=1000)
        link.transport.publish(request, reply_to="$inbox.vanished")
        await counter.ended.wait()
        await turns()
        [stats, *_] = server.stats().subscriptions
    assert counter.yielded == 1
    assert (stats.failed, stats.in_progress) == (0, 0)


async def test_middleware_sees_the_generator_as_the_value() -> None:
    counter, seen = Counter(), list[bool]()

    def note(handler: Any) -> Any:
        async def call(message: Message) -> Any:
            result = await handler(message)
            seen.append(isinstance(result, AsyncGenerator))
            return result

        return call

    counter.bus.middleware(note)
    async with counter.bus as bus, bus.request_stream("count", 3) as items:
        assert [item async for item in items] == [0, 1, 2]
    assert seen == [True]


async def test_control_goes_to_the_agent_that_serves() -> None:
    """Credit for one stream is nobody else's business."""
    server, other = Counter("direct://control"), Counter("direct://control")
    strays: list[Envelope] = []
    async with server.bus, other.bus, Bus("direct://control") as caller:
        caller.subscribe(CONTROL_TOPIC)(_collecting(strays))
        async with caller.request_stream("count", 100, credit=4) as items:
            assert [item async for item in items] == list(range(100))
        await turns()
    assert strays == []


def _collecting(into: list[Envelope]) -> Any:
    async def take(envelope: Envelope) -> None:
        into.append(envelope)

    return take


async def test_a_stream_that_nobody_reads_any_more_is_cancelled_by_its_items() -> None:
    """The cancellation itself was lost on the way."""
    counter = Counter()
    async with counter.bus as bus:
        [link] = bus._opened().links
        request = event("count", 10**9, source=bus.source).replace(credit=10)
        link.transport.publish(request, reply_to=link.inbox.address)
        await counter.ended.wait()
    assert counter.yielded <= 11


async def test_a_request_that_is_cancelled_in_the_queue_is_not_begun() -> None:
    bus, gate, begun = Bus(), asyncio.Event(), list[int]()

    @bus.serve("slow", concurrency=1)
    async def slow(n: int) -> None:
        begun.append(n)
        await gate.wait()

    async with bus:
        asking = [asyncio.ensure_future(bus.request("slow", n)) for n in range(3)]
        await turns()
        asking[1].cancel()
        await turns()
        gate.set()
        await asyncio.gather(*asking, return_exceptions=True)
    assert begun == [0, 2]


async def test_cancellations_of_strangers_take_no_memory_for_long() -> None:
    async with Counter().bus as bus:
        runtime = bus._opened()
        [link] = runtime.links
        for n in range(10_000):
            runtime.control(link, event("x", id=str(n)), CANCEL, CONTROL_TOPIC, None)
        assert len(runtime._service._unwanted) <= 4096


# -- what a bad transport or a foreign agent may do ------------------------------------------------


class Arrivals:
    """A `ReplyStream` that is fed by hand."""

    def __init__(self, credit: int = 4) -> None:
        self.controls: list[tuple[str, str, int | None]] = []
        self.stream = ReplyStream[Any](
            lambda: pytest.fail("not opened here"),
            lambda kind, to, more: self.controls.append((kind, to, more)),
            topic="t",
            returns=Any,
            credit=credit,
            idle_timeout_s=60,
            due=None,
        )
        self.feed: list[tuple[Envelope, str | None]] = []
        self.stream._pending = self  # pyright: ignore[reportAttributeAccessIssue]

    async def next(self, due: float) -> tuple[Envelope, str | None]:
        return self.feed.pop(0)

    def item(self, number: int, reply_to: str | None = None) -> None:
        envelope = event("$reply.t", number).replace(sequence=f"{number:010d}")
        self.feed.append((envelope, reply_to))

    def end(self, total: int) -> None:
        envelope = event("$reply.t", None, type=END).replace(sequence=f"{total:010d}")
        self.feed.append((envelope, None))


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8), st.integers(0, 16))
async def test_items_that_overtake_or_come_twice_are_put_in_order(
    order: list[int], repeated: list[int], end_at: int
) -> None:
    arrivals = Arrivals()
    for number in [*order, *repeated]:
        arrivals.item(number)
    arrivals.feed.insert(end_at, (event("$reply.t", type=END).replace(sequence="8"), None))
    assert [item async for item in arrivals.stream] == list(range(8))


async def test_an_end_before_what_came_already_ends_all_the_same() -> None:
    arrivals = Arrivals()
    arrivals.item(0)
    arrivals.item(1)
    arrivals.end(1)
    assert [item async for item in arrivals.stream] == [0, 1]


async def test_a_reply_without_a_number_is_item_0() -> None:
    arrivals = Arrivals()
    arrivals.feed.append((event("$reply.t", "only"), None))
    arrivals.end(1)
    assert [item async for item in arrivals.stream] == ["only"]


@pytest.mark.parametrize("sequence", ["x", "-1", "", "1.5", "٣", "9" * 5000])
async def test_a_number_that_is_none_is_refused(sequence: str) -> None:
    arrivals = Arrivals()
    arrivals.feed.append((event("$reply.t").replace(sequence=sequence), None))
    with pytest.raises(DecodeError) as caught:
        await anext(arrivals.stream)
    assert caught.value.field == "sequence"


async def test_credit_is_granted_by_halves_to_who_serves() -> None:
    arrivals = Arrivals(credit=4)
    for number in range(6):
        arrivals.item(number, reply_to="$inbox.server")
    for _ in range(6):
        await anext(arrivals.stream)
    assert arrivals.controls == [(CREDIT, "$inbox.server", 2)] * 3


async def test_nobody_serves_is_told_when_the_stream_is_opened() -> None:
    async with Bus() as bus:
        with pytest.raises(NoRespondersError):
            async with bus.request_stream("nobody"):
                pass
