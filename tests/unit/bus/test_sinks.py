"""What a transport may know of who it delivers to, and what it may tell them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from hms_bus import Bus
from hms_bus.abc import Overflow, Sink
from hms_bus.bus.requests import Inbox, Pending
from hms_bus.bus.subscription import Subscription
from hms_bus.errors import DeadlineExceededError, DisconnectedError
from hms_bus.testing import FaultyTransport
from tests.support.events import event
from tests.support.turns import turns


def handler_of(bus: Bus) -> Sink:
    """The sink of the only handler of an open bus."""
    [subscription] = bus._opened()._subscriptions
    assert isinstance(subscription, Subscription)
    return subscription


def inbox_of(bus: Bus) -> Inbox:
    [link] = bus._opened().links
    return link.inbox


# -- room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["block", "error", "drop_oldest", "drop_newest"])
async def test_a_handler_tells_how_much_room_it_has(overflow: Overflow) -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.subscribe("a", max_queue=3, overflow=overflow)
    async def slow() -> None:
        await gate.wait()

    async with bus:
        sink, rooms = handler_of(bus), list[int | None]()
        assert sink.overflow == overflow
        for _ in range(4):
            rooms.append(sink.room)
            await bus.publish("a")
            await turns()
        is_bounded = overflow in {"block", "error"}
        assert rooms == ([3, 3, 2, 1] if is_bounded else [None] * 4)
        gate.set()


async def test_room_is_never_less_than_none_at_all() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.subscribe("a", max_queue=1)
    async def slow() -> None:
        await gate.wait()

    async with bus:
        for _ in range(4):
            bus.emit("a")
        assert handler_of(bus).room == 0
        gate.set()


async def test_a_stream_tells_how_much_room_it_has() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=2, overflow="error") as messages:
        sink: Sink = messages
        assert (sink.overflow, sink.room) == ("error", 2)
        await bus.publish("a")
        assert sink.room == 1
        await anext(messages)
        assert sink.room == 2


async def test_replies_and_control_hold_nobody_back() -> None:
    bus = Bus()

    @bus.serve("ask")
    async def answer() -> None: ...

    async with bus:
        for sink in (inbox_of(bus), bus._opened()._service):
            each: Sink = sink
            assert (each.overflow, each.room, each.load) == ("drop_newest", None, 0)
            each.on_idle(lambda: pytest.fail("it never had a load"))
        await bus.request("ask")


# -- idle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_tells_when_it_has_nothing_left_to_do(concurrency: int) -> None:
    bus, loads, second = Bus(), list[int](), list[str]()

    @bus.subscribe("a", concurrency=concurrency)
    async def take(n: int) -> None:
        await turns(n)

    async with bus:
        sink = handler_of(bus)
        sink.on_idle(lambda: loads.append(sink.load))
        sink.on_idle(lambda: second.append("idle"))
        for _ in range(2):
            for n in range(5):
                await bus.publish("a", n, partitionkey="k")
            assert sink.load
            before = len(loads)
            while len(loads) == before:
                await turns(1)
    assert set(loads) == {0}
    assert len(second) == len(loads)


async def test_a_stream_tells_when_it_was_read_to_the_end() -> None:
    told = list[int]()
    async with Bus() as bus, bus.subscribe("a") as messages:
        messages.on_idle(lambda: told.append(messages.load))
        for n in range(2):
            await bus.publish("a", n)
        await bus.publish("a", 2, expirytime="2001-01-01T00:00:00Z")
        assert (await anext(messages)).data == 0
        assert (await anext(messages)).data == 1
        assert told == []
        reading = asyncio.ensure_future(anext(messages))
        await turns()
        assert told == [0]
        await bus.publish("a", 3)
        assert (await reading).data == 3
        assert told == [0]


# -- interrupted -----------------------------------------------------------------------------------


async def test_who_waits_for_an_answer_hears_that_the_line_was_cut() -> None:
    bus, ended = Bus(), list[str]()

    @bus.serve("ask")
    async def answer(how: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(how)

    async def one() -> None:
        await bus.request("ask", "one", timeout="1h")

    async def many() -> None:
        await bus.request_many("ask", "many", timeout="1h")

    async def stream() -> None:
        async with bus.request_stream("ask", "stream", idle_timeout="1h") as items:
            await anext(items)

    async with bus:
        asking = [asyncio.ensure_future(ask()) for ask in (one, many, stream)]
        await turns()
        inbox_of(bus).interrupt(None)
        for each in asking:
            with pytest.raises(DisconnectedError, match="the outcome is unknown"):
                await each
        await turns()
        assert sorted(ended) == ["many", "one", "stream"]


async def test_what_has_arrived_is_not_lost_when_the_line_is_cut() -> None:
    bus = Bus()

    @bus.serve("numbers")
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async with bus, bus.request_stream("numbers") as items:
        await turns()
        inbox_of(bus).interrupt(None)
        assert [item async for item in items] == [1, 2]


async def test_a_stream_ends_when_its_agent_has_gone_and_no_other_does() -> None:
    bus = Bus()

    @bus.serve("endless")
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    @bus.serve("ask")
    async def answer() -> str:
        await turns(20)
        return "answer"

    async with bus:
        inbox = inbox_of(bus)
        asking = asyncio.ensure_future(bus.request("ask"))
        async with bus.request_stream("endless", idle_timeout="1h") as items:
            assert await anext(items) == 1
            waiting = asyncio.ensure_future(anext(items))
            await turns()
            inbox.interrupt("$inbox.somebody.control")
            await turns()
            assert not waiting.done()
            inbox.interrupt(f"{inbox.address}.control")
            with pytest.raises(DisconnectedError, match="has gone"):
                await waiting
        assert await asking == "answer"


async def test_a_service_cancels_the_calls_of_a_caller_that_has_gone() -> None:
    server, here, gone = Bus("direct://gone"), Bus("direct://gone"), Bus("direct://gone")
    ended, gate = list[str](), asyncio.Event()

    @server.serve("ask")
    async def answer(name: str) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            ended.append(name)
            raise
        return name

    async with server, here, gone:
        staying = asyncio.ensure_future(here.request("ask", "here"))
        leaving = asyncio.ensure_future(gone.request("ask", "gone", timeout=0.05))
        await turns()
        service = server._opened()._service
        service.interrupt(None)
        await turns()
        assert ended == []
        service.interrupt(inbox_of(gone).address)
        await turns()
        assert ended == ["gone"]
        gate.set()
        assert await staying == "here"
        with pytest.raises(DeadlineExceededError):
            await leaving
        stats = server.stats().subscriptions[0]
        assert (stats.handled, stats.expired, stats.failed) == (1, 1, 0)


async def test_who_listens_goes_on() -> None:
    bus, got = Bus(), list[int]()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        got.append(n)

    async with bus, bus.subscribe("a") as messages:
        await bus.publish("a", 1)
        for sink in (handler_of(bus), messages):
            each: Sink = sink
            each.interrupt(None)
            each.interrupt("$inbox.gone")
        await bus.publish("a", 2)
        assert [(await anext(messages)).data for _ in range(2)] == [1, 2]
    assert got == [1, 2]


async def test_cutting_a_line_tells_those_behind_it() -> None:
    server, caller = Bus("direct://cut-waiting"), Bus("faulty:direct://cut-waiting")
    gate = asyncio.Event()

    @server.serve("ask")
    async def answer() -> None:
        await gate.wait()

    async with server, caller:
        line = caller._opened().links[0].transport
        assert isinstance(line, FaultyTransport)
        asking = asyncio.ensure_future(caller.request("ask", timeout="1h"))
        await turns()
        line.cut()
        with pytest.raises(DisconnectedError):
            await asking
        gate.set()


async def test_an_address_is_known_from_items_that_were_not_read_yet() -> None:
    async with Bus() as bus:
        inbox = inbox_of(bus)
        request = event("numbers", credit=4)
        with Pending(inbox, request.id, bus._opened().deadlines) as replies:
            inbox.offer(event("$reply.numbers", 1, causationid=request.id), "$inbox.a.control")
            assert replies.is_answered_from("$inbox.a.control")
            assert not replies.is_answered_from("$inbox.b.control")
