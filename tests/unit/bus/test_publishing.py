"""Publishing through a log: what is durable is delivered, all or none, and what `expect` means."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from hms_bus import Bus, Envelope, Message
from hms_bus.abc import EventLog, Expect, Receipt
from hms_bus.bus.middleware import Publish
from hms_bus.errors import (
    ConflictError,
    EncodeError,
    HopLimitError,
    QueueFullError,
    StateError,
    TopicError,
    UnsupportedError,
)
from tests.support.events import event
from tests.support.turns import turns


class SlowLog:
    """A log whose appends wait for the gate, in front of the real one."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.gate = asyncio.Event()
        self.appends: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        receipts = await self._log.append(envelopes, expect=expect)
        self.appends.append([envelope.topic for envelope in envelopes])
        await self.gate.wait()
        return receipts


@asynccontextmanager
async def opened_with_slow_log(bus: Bus) -> AsyncGenerator[SlowLog]:
    """Open `bus`, with a `SlowLog` in front of its own."""
    async with bus:
        runtime = bus._opened()
        slow: Any = SlowLog(bus.log)
        runtime.router._log = slow
        runtime.routes.clear()
        runtime.quick.clear()
        yield slow
        slow.gate.set()


def collecting(bus: Bus, pattern: str = ">") -> list[Any]:
    """The payloads of what a handler on `pattern` gets."""
    got: list[Any] = []

    @bus.subscribe(pattern)
    async def take(data: Any) -> None:
        got.append(data)

    return got


# -- one message -----------------------------------------------------------------------------------


async def test_a_receipt_tells_id_and_position() -> None:
    async with Bus(log="memory:") as bus:
        first = await bus.publish("a", 1)
        second = await bus.publish("a", 2, id="mine")
        again = await bus.publish("a", 3, id="mine")
        unlogged = await bus.publish("$system", 4)
        assert (await bus.log.head()).position == 2
    assert (first.position, second.position, unlogged.position) == (1, 2, None)
    assert (second.id, second.duplicate) == ("mine", False)
    assert (again.id, again.position, again.duplicate) == ("mine", 2, True)


async def test_what_the_log_holds_already_is_not_delivered_again() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with bus:
        for n in range(3):
            await bus.publish("a", n, id="same")
        await bus.publish_many([("a", "new")])
    assert got == [0, "new"]


async def test_delivery_comes_after_the_commit() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with opened_with_slow_log(bus) as log:
        publishing = asyncio.ensure_future(bus.publish("a", 1))
        await turns()
        assert (log.appends, got) == ([["a"]], [])
        log.gate.set()
        await publishing
        await turns()
        assert got == [1]


async def test_concurrent_publishers_are_delivered_in_the_order_of_positions() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with bus:
        receipts = await asyncio.gather(*(bus.publish("a", n) for n in range(100)))
    assert [receipt.position for receipt in receipts] == list(range(1, 101))
    assert got == list(range(100))


@pytest.mark.parametrize("many", [False, True])
async def test_a_cancelled_publish_that_is_durable_is_delivered(*, many: bool) -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with opened_with_slow_log(bus) as log:
        work = bus.publish_many([("a", 1), ("b", 2)]) if many else bus.publish("a", 1)
        publishing: asyncio.Future[Any] = asyncio.ensure_future(work)
        await turns()
        publishing.cancel()
        log.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await publishing
    assert got == ([1, 2] if many else [1])


async def test_a_cancelled_request_is_not_delivered_later() -> None:
    bus, served = Bus(log="memory:"), list[int]()

    @bus.serve("ask")
    async def answer(n: int) -> None:
        served.append(n)

    async with opened_with_slow_log(bus) as log:
        asking = asyncio.ensure_future(bus.request("ask", 1))
        await turns()
        asking.cancel()
        log.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert served == []


async def test_expect_guards_the_topic() -> None:
    async with Bus(log="memory:") as bus:
        await bus.publish("a", 1, expect="none")
        with pytest.raises(ConflictError) as caught:
            await bus.publish("a", 2, expect="none")
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        await bus.publish("b", 3)
        await bus.publish("a", 4, expect=1)
        with pytest.raises(ConflictError):
            await bus.publish("a", 5, expect=1)


async def test_a_conflict_delivers_nothing() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with bus:
        with pytest.raises(ConflictError):
            await bus.publish("a", 1, expect=5)
        with pytest.raises(ConflictError):
            await bus.publish_many([("a", 1), ("a", 2)], expect=5)
    assert got == []


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_expect_needs_a_log_for_the_topic(log: str | None) -> None:
    async with Bus(log=log, logged=["kept.>"]) as bus:
        with pytest.raises(UnsupportedError, match="no log keeps it"):
            await bus.publish("a", expect="none")
        with pytest.raises(UnsupportedError):
            await bus.publish_many([("kept.a", 1), ("b", 2)], expect="none")


# -- many messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_many_are_delivered_in_order_with_their_receipts(log: str | None) -> None:
    bus = Bus(log=log)
    got = collecting(bus)
    async with bus:
        receipts = await bus.publish_many((f"t.{n}", n) for n in range(50))
        assert await bus.publish_many([]) == []
    assert got == list(range(50))
    assert len({receipt.id for receipt in receipts}) == 50
    expected = list(range(1, 51)) if log else [None] * 50
    assert [receipt.position for receipt in receipts] == expected


@pytest.mark.parametrize("middleware", [False, True])
async def test_one_bad_topic_or_payload_stops_them_all(*, middleware: bool) -> None:
    bus = Bus(log="memory:")
    if middleware:
        bus.publish_middleware(lambda publish: publish)
    got = collecting(bus)
    async with bus:
        with pytest.raises(TopicError):
            await bus.publish_many([("a", 1), ("a..b", 2)])
        with pytest.raises(EncodeError):
            await bus.publish_many([("a", 1), ("b", object())])
        assert (await bus.log.head()).position == 0
    assert got == []


async def test_topics_with_and_without_a_log_keep_their_order() -> None:
    bus = Bus(log="memory:", logged=["kept.>"])
    got = collecting(bus)
    async with bus:
        receipts = await bus.publish_many([("kept.a", 1), ("b", 2), ("kept.c", 3), ("d", 4)])
    assert got == [1, 2, 3, 4]
    assert [receipt.position for receipt in receipts] == [1, None, 2, None]


async def test_a_refusal_comes_when_all_others_were_delivered() -> None:
    bus, gate = Bus(log="memory:"), asyncio.Event()
    got = collecting(bus)

    @bus.subscribe("a", max_queue=1, overflow="error")
    async def slow() -> None:
        await gate.wait()

    async with bus:
        with pytest.raises(QueueFullError):
            await bus.publish_many([("a", n) for n in range(5)])
        gate.set()
    assert got == [0, 1, 2, 3, 4]


async def test_a_batch_that_is_cancelled_while_it_waits_for_room_is_delivered() -> None:
    bus, gate, got = Bus(log="memory:"), asyncio.Event(), list[int]()

    @bus.subscribe("a", max_queue=1)
    async def slow(n: int) -> None:
        await gate.wait()
        got.append(n)

    async with bus:
        publishing = asyncio.ensure_future(bus.publish_many([("a", n) for n in range(5)]))
        await turns()
        publishing.cancel()
        await turns()
        gate.set()
    assert got == [0, 1, 2, 3, 4]


async def test_many_wait_for_room_as_one_does() -> None:
    bus, gate, got = Bus(), asyncio.Event(), list[int]()

    @bus.subscribe("a", max_queue=2)
    async def slow(n: int) -> None:
        await gate.wait()
        got.append(n)

    async with bus:
        publishing = asyncio.ensure_future(bus.publish_many([("a", n) for n in range(100)]))
        await turns(50)
        [stats] = bus.stats().subscriptions
        assert stats.queued <= 3
        gate.set()
        await publishing
    assert got == list(range(100))


# -- many messages through middleware --------------------------------------------------------------


async def test_a_batch_stays_whole_behind_middleware_that_takes_its_time() -> None:
    bus, running = Bus(log="memory:"), 0
    got = collecting(bus)

    @bus.publish_middleware
    def hesitate(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            nonlocal running
            running += 1
            await turns(10 - running)
            return await publish(envelope)

        return send

    async with opened_with_slow_log(bus) as log:
        log.gate.set()
        receipts = await bus.publish_many([(f"t.{n}", n) for n in range(5)])
    assert log.appends == [[f"t.{n}" for n in range(5)]]
    assert [receipt.position for receipt in receipts] == [1, 2, 3, 4, 5]
    assert got == [0, 1, 2, 3, 4]


async def test_middleware_may_keep_one_of_a_batch_back() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)

    @bus.publish_middleware
    def censor(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            if envelope.data == 2:
                return Receipt("censored")
            return await publish(envelope)

        return send

    async with bus:
        receipts = await bus.publish_many([("a", 1), ("a", 2), ("a", 3)])
        assert await bus.publish_many([("a", 2)]) == [Receipt("censored")]
    assert got == [1, 3]
    assert [receipt.position for receipt in receipts] == [1, None, 2]


async def test_middleware_that_fails_for_one_stops_the_batch() -> None:
    bus, calls = Bus(log="memory:"), list[Any]()
    got = collecting(bus)

    @bus.publish_middleware
    def picky(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            calls.append(envelope.data)
            if envelope.data == 2:
                await turns()
                raise ValueError("not this one")
            return await publish(envelope)

        return send

    async with bus:
        with pytest.raises(ValueError, match="not this one"):
            await bus.publish_many([("a", 1), ("a", 2), ("a", 3)])
        await turns()
        assert (await bus.log.head()).position == 0
    assert (got, calls) == ([], [1, 2])


async def test_middleware_that_sends_twice_sends_one_of_a_batch_once() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)

    @bus.publish_middleware
    def twice(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            await publish(envelope)
            return await publish(envelope)

        return send

    async with bus:
        receipts = await bus.publish_many([("a", 1), ("a", 2)])
    assert got == [1, 2]
    assert [receipt.position for receipt in receipts] == [1, 2]


@pytest.mark.parametrize("log", [None, "memory:"])
async def test_middleware_that_lets_one_pass_at_a_time_holds_up_no_batch(log: str | None) -> None:
    bus, lock = Bus(log=log), asyncio.Lock()
    got = collecting(bus)

    @bus.publish_middleware
    def one_at_a_time(publish: Publish) -> Publish:
        async def send(envelope: Envelope) -> Receipt:
            async with lock:
                return await publish(envelope)

        return send

    async with bus, asyncio.timeout(10):
        await bus.publish_many([("a", n) for n in range(5)])
    assert got == [0, 1, 2, 3, 4]


async def test_a_duplicate_is_not_delivered_again_when_its_publish_is_cancelled() -> None:
    bus = Bus(log="memory:")
    got = collecting(bus)
    async with bus:
        await bus.publish("a", "one", id="1")
    async with opened_with_slow_log(bus) as log:
        log.gate.set()
        await bus.publish("a", "one", id="2")
        log.gate.clear()
        again = asyncio.ensure_future(bus.publish("a", "one", id="2"))
        await turns()
        again.cancel()
        await turns()
        log.gate.set()
    assert got == ["one", "one"]


async def test_what_the_log_took_is_delivered_also_when_much_was_cancelled() -> None:
    bus = Bus(log="memory:", max_emits=1)
    got = collecting(bus)
    async with opened_with_slow_log(bus) as log:
        tasks = [asyncio.ensure_future(bus.publish("a", n)) for n in range(10)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        log.gate.set()
    assert sorted(got) == list(range(10))


async def test_a_refusal_on_a_logged_topic_tells_where_the_message_is_kept() -> None:
    bus, gate = Bus(log="memory:"), asyncio.Event()

    @bus.subscribe("a", max_queue=1, overflow="error")
    async def slow() -> None:
        await gate.wait()

    async with bus:
        await bus.publish("a", 1)
        await turns()
        await bus.publish("a", 2)
        with pytest.raises(QueueFullError, match="keeps the message at position 3") as refused:
            await bus.publish("a", 3)
        assert (refused.value.position, refused.value.retryable) == (3, False)
        assert (await bus.log.head()).position == 3
        gate.set()


async def test_publishers_that_give_up_waiting_do_not_fill_the_queue_without_bound() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.subscribe("a", max_queue=2)
    async def slow() -> None:
        await gate.wait()

    async def publish_impatiently() -> None:
        for n in range(5000):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await bus.publish("a", n)

    async with bus:
        with pytest.raises(QueueFullError):
            await publish_impatiently()
        assert bus.stats().subscriptions[0].queued < 1100
        gate.set()
        await turns(50)
        await bus.publish("a", "again")


async def test_a_conflict_reaches_the_caller_of_a_batch_behind_middleware() -> None:
    bus = Bus(log="memory:")
    bus.publish_middleware(lambda publish: publish)
    async with bus:
        with pytest.raises(ConflictError):
            await bus.publish_many([("a", 1), ("a", 2)], expect=7)


# -- as it is --------------------------------------------------------------------------------------


async def test_forward_changes_nothing_but_the_hops() -> None:
    bus, seen = Bus(log="memory:"), list[Envelope]()

    @bus.subscribe("a")
    async def take(envelope: Envelope) -> None:
        seen.append(envelope)

    sent = event("a", {"n": 1}, source="/elsewhere", hops=60)
    async with bus:
        receipt = await bus.forward(sent)
    assert (seen, receipt.id, receipt.position) == ([sent.replace(hops=61)], sent.id, 1)


@pytest.mark.parametrize("is_new", [False, True])
async def test_a_handler_that_forwards_in_a_loop_is_stopped(*, is_new: bool) -> None:
    """Also one that forwards an envelope of its own making, whose hops would start again."""
    bus, hops, errors = Bus(max_hops=5), list[int](), list[BaseException]()
    bus.on_error(lambda error, _: errors.append(error))

    @bus.subscribe("a")
    async def again(envelope: Envelope) -> None:
        hops.append(envelope.hops or 0)
        if len(hops) < 100:
            await bus.forward(event("a") if is_new else envelope)

    async with bus:
        await bus.publish("a")
    assert hops == list(range(6))
    [error] = errors
    assert isinstance(error, HopLimitError)
    assert (error.topic, error.hops, error.limit) == ("a", 6, 5)


async def test_a_closed_bus_refuses() -> None:
    bus = Bus()
    for publish in (
        lambda: bus.publish("a"),
        lambda: bus.publish_many([("a", 1)]),
        lambda: bus.forward(event("a")),
    ):
        with pytest.raises(StateError, match="async with bus"):
            await publish()
    with pytest.raises(StateError):
        bus.emit("a")


@pytest.mark.parametrize("topic", ["", "a..b", "a.*", "a.>", "{a}", "a b"])
async def test_what_is_no_topic_is_refused_everywhere(topic: str) -> None:
    async with Bus() as bus:
        with pytest.raises(TopicError):
            await bus.publish(topic)
        with pytest.raises(TopicError):
            await bus.publish(topic, priority=1)
        with pytest.raises(TopicError):
            await bus.publish_many([(topic, 1)])
        with pytest.raises(TopicError):
            bus.emit(topic)
        assert bus.stats().published == 0


async def test_the_message_of_a_handler_is_read_from_the_log_as_it_was() -> None:
    bus = Bus(log="memory:")
    async with bus:
        await bus.publish("orders.eu", {"n": 1})
        await bus.publish("orders.us", {"n": 2})
        messages: list[Message] = [m async for m in bus.replay("orders.{region}", after=1)]
    [message] = messages
    assert (message.position, message.captures, message.data) == (2, {"region": "us"}, {"n": 2})
    assert message.recorded is not None


@pytest.mark.parametrize("many", [False, True])
async def test_a_refusal_that_comes_late_says_where_the_log_keeps_the_message(
    *, many: bool
) -> None:
    async def refuse(_: Envelope, *, reply_to: str | None) -> None:
        raise QueueFullError(queue="far away", limit=1)

    async with Bus(log="memory:") as bus:
        route = bus._opened().router.route("a")
        bus._opened().routes["a"] = replace(route, publish=refuse)
        with pytest.raises(QueueFullError) as caught:
            await (bus.publish_many([("a", 1)]) if many else bus.publish("a", 1))
    assert (caught.value.position, caught.value.retryable) == (1, False)
