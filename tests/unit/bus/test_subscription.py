"""Lanes: what is handled when, in which order, and what a handler can do to others."""

import asyncio
import logging
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import Bus, Envelope, Message
from hms_bus.bus import context
from hms_bus.errors import DecodeError, QueueFullError
from tests.support.events import event
from tests.support.turns import turns

# -- order ---------------------------------------------------------------------------------------


async def test_one_lane_handles_in_the_order_of_publishing() -> None:
    got: list[int] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        await turns(n % 3)
        got.append(n)

    async with bus:
        for n in range(50):
            await bus.publish("a", n)
    assert got == list(range(50))


async def test_concurrency_is_the_number_of_handlers_at_once_and_no_more() -> None:
    running, most = 0, 0
    bus = Bus()

    @bus.subscribe("a", concurrency=3)
    async def take() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await turns()
        running -= 1

    async with bus:
        for _ in range(20):
            await bus.publish("a")
    assert most == 3


@given(
    messages=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40),
    concurrency=st.integers(2, 5),
)
async def test_messages_with_one_key_stay_in_order_whatever_the_handlers_take(
    messages: list[tuple[str, int]], concurrency: int
) -> None:
    got: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    bus = Bus()

    @bus.subscribe("a", concurrency=concurrency, max_queue=4)
    async def take(envelope: Envelope, data: list[int]) -> None:
        key = envelope.partitionkey or ""
        assert key not in running
        running.add(key)
        await turns(data[1])
        running.discard(key)
        got[key].append(data[0])

    async with bus:
        for number, (key, wait) in enumerate(messages):
            await bus.publish("a", [number, wait], partitionkey=key)
    for key in "abc":
        assert got[key] == [n for n, (of, _) in enumerate(messages) if of == key]


async def test_a_busy_key_does_not_hold_up_others() -> None:
    gate, got = asyncio.Event(), list[str]()
    bus = Bus()

    @bus.subscribe("a", concurrency=2)
    async def take(envelope: Envelope) -> None:
        if envelope.partitionkey == "slow":
            await gate.wait()
        got.append(envelope.partitionkey or "none")

    async with bus:
        for key in ("slow", "slow", "slow", "quick", None, "quick"):
            await bus.publish("a", **({} if key is None else {"partitionkey": key}))
        await turns()
        assert got == ["quick", "none", "quick"]
        gate.set()
    assert got[3:] == ["slow"] * 3


async def test_a_failure_does_not_end_its_key() -> None:
    got: list[int] = []
    bus = Bus()

    @bus.subscribe("a", concurrency=2)
    async def take(n: int) -> None:
        await turns(1)
        got.append(n)
        if n == 1:
            raise ValueError("one")

    async with bus:
        for n in range(4):
            await bus.publish("a", n, partitionkey="k")
    assert got == [0, 1, 2, 3]


async def test_a_hot_key_does_not_empty_the_bounded_queue() -> None:
    gate = asyncio.Event()
    bus = Bus()

    @bus.subscribe("a", concurrency=4, max_queue=10, overflow="drop_newest")
    async def take() -> None:
        await gate.wait()

    async with bus:
        for _ in range(1000):
            await bus.publish("a", partitionkey="hot")
            await turns(1)
        [stats] = bus.stats().subscriptions
        assert stats.queued + stats.in_progress <= 2 * 10 + 4
        assert stats.queued + stats.in_progress + stats.dropped == 1000
        gate.set()
    assert stats.dropped > 900


async def test_a_hot_key_makes_its_publisher_wait() -> None:
    gate, handled = asyncio.Event(), 0
    bus = Bus()

    @bus.subscribe("a", concurrency=4, max_queue=2)
    async def take() -> None:
        nonlocal handled
        await gate.wait()
        handled += 1

    async def publish() -> None:
        for _ in range(50):
            await bus.publish("a", partitionkey="hot")

    async with bus:
        publishing = asyncio.ensure_future(publish())
        await turns(300)
        assert not publishing.done()
        gate.set()
        await publishing
    assert handled == 50


async def test_priority_goes_before_arrival() -> None:
    gate, got = asyncio.Event(), list[int | None]()
    bus = Bus()

    @bus.subscribe("a")
    async def take(envelope: Envelope) -> None:
        await gate.wait()
        got.append(envelope.priority)

    async with bus:
        await bus.publish("a", priority=0)
        await turns()
        for priority in (1, 9, 5, 9, 0):
            await bus.publish("a", priority=priority)
        gate.set()
    assert got == [0, 9, 9, 5, 1, 0]


async def test_a_burst_lets_others_have_their_turn() -> None:
    ticks = 0
    bus = Bus()

    @bus.subscribe("a", max_queue=100_000)
    async def take() -> None: ...

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with bus:
        for _ in range(5000):
            bus.emit("a")
        ticking = asyncio.ensure_future(tick())
    ticking.cancel()
    assert ticks > 10


# -- queues ----------------------------------------------------------------------------------------


async def test_publish_waits_for_room_but_the_message_is_accepted() -> None:
    gate, got = asyncio.Event(), list[int]()
    bus = Bus()

    @bus.subscribe("a", max_queue=1)
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    async with bus:
        for n in range(2):
            await bus.publish("a", n)
            await turns()
        publishing = asyncio.ensure_future(bus.publish("a", 2))
        await turns()
        assert not publishing.done()
        publishing.cancel()
        await turns()
        gate.set()
    assert publishing.cancelled()
    assert got == [0, 1, 2]


async def test_a_slow_subscriber_does_not_slow_another() -> None:
    gate, got = asyncio.Event(), list[int]()
    bus = Bus()

    @bus.subscribe("a", max_queue=1)
    async def slow() -> None:
        await gate.wait()

    @bus.subscribe("a")
    async def quick(n: int) -> None:
        got.append(n)

    async with bus:
        publishing = [asyncio.ensure_future(bus.publish("a", n)) for n in range(5)]
        await turns()
        assert got == [0, 1, 2, 3, 4]
        gate.set()
        await asyncio.gather(*publishing)


async def test_dropped_messages_are_counted() -> None:
    gate = asyncio.Event()
    bus = Bus()

    @bus.subscribe("a", max_queue=2, overflow="drop_oldest")
    async def take() -> None:
        await gate.wait()

    async with bus:
        await bus.publish("a")
        await turns()
        for _ in range(5):
            await bus.publish("a")
        [stats] = bus.stats().subscriptions
        assert (stats.queued, stats.in_progress, stats.dropped) == (2, 1, 3)
        gate.set()


async def test_the_error_policy_refuses_the_publisher() -> None:
    gate, got = asyncio.Event(), list[int]()
    bus = Bus()

    @bus.subscribe("a", max_queue=1, overflow="error")
    async def take(n: int) -> None:
        await gate.wait()
        got.append(n)

    async with bus:
        await bus.publish("a", 0)
        await turns()
        await bus.publish("a", 1)
        with pytest.raises(QueueFullError):
            await bus.publish("a", 2)
        gate.set()
    assert got == [0, 1]


# -- waiting for oneself ---------------------------------------------------------------------------


async def test_a_handler_that_would_wait_for_itself_is_told() -> None:
    errors: list[BaseException] = []
    bus = Bus(max_hops=1000)

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.append(error)

    @bus.subscribe("a", max_queue=2)
    async def again(n: int) -> None:
        if n < 1:
            for _ in range(10):
                await bus.publish("a", n + 1)

    async with bus:
        await bus.publish("a", 0)
    [error] = errors
    assert isinstance(error, QueueFullError)
    assert len(error.cycle) == 2
    assert all("a (" in name for name in error.cycle)


async def test_a_cycle_of_two_is_found_and_the_rest_goes_on() -> None:
    errors: list[BaseException] = []
    handled: dict[str, int] = defaultdict(int)
    bus = Bus(max_hops=1000)

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.append(error)

    @bus.subscribe("ping", max_queue=1)
    async def ping(n: int) -> None:
        handled["ping"] += 1
        if n < 3:
            await bus.publish("pong", n + 1)
            await bus.publish("pong", n + 1)

    @bus.subscribe("pong", max_queue=1)
    async def pong(n: int) -> None:
        handled["pong"] += 1
        if n < 3:
            await bus.publish("ping", n + 1)
            await bus.publish("ping", n + 1)

    async with bus:
        for _ in range(5):
            await bus.publish("ping", 0)
    assert handled["ping"] >= 5
    assert all(isinstance(error, QueueFullError) and error.cycle for error in errors)
    assert errors


async def test_waiting_for_another_who_goes_on_is_no_cycle() -> None:
    gate, got = asyncio.Event(), list[int]()
    bus = Bus()

    @bus.subscribe("out", max_queue=1)
    async def slow(n: int) -> None:
        await gate.wait()
        got.append(n)

    @bus.subscribe("in", max_queue=1)
    async def forward(n: int) -> None:
        await bus.publish("out", n)

    async with bus:
        publishing = [asyncio.ensure_future(bus.publish("in", n)) for n in range(10)]
        await turns()
        gate.set()
        await asyncio.gather(*publishing)
    assert got == list(range(10))


async def test_one_of_two_full_queues_is_enough_for_a_cycle() -> None:
    """The lane waits for both; when the one has room, it still waits for the other."""
    errors: list[BaseException] = []
    gate, released = asyncio.Event(), asyncio.Event()
    bus = Bus(max_hops=1000)

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.append(error)
        released.set()

    @bus.subscribe("start", max_queue=1)
    async def start(n: int) -> None:
        if n == 0:
            await bus.publish("both", 0)
            await bus.publish("both", 0)
            await bus.publish("both", 0)

    @bus.subscribe("both", max_queue=1)
    async def quick() -> None: ...

    @bus.subscribe("both", max_queue=1)
    async def back(n: int) -> None:
        await gate.wait()
        for _ in range(3):
            await bus.publish("start", n + 1)

    async with bus:
        await bus.publish("start", 0)
        await turns(20)
        gate.set()
        await asyncio.wait_for(released.wait(), 5)
    assert all(isinstance(error, QueueFullError) and error.cycle for error in errors)


async def test_a_refused_publish_leaves_no_wait_behind() -> None:
    """Otherwise the lane would seem to wait, and others would see cycles that are none."""
    gate = asyncio.Event()
    errors: list[BaseException] = []
    bus = Bus()

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.append(error)

    @bus.subscribe("both", max_queue=1)
    async def waits(n: int) -> None:
        await gate.wait()
        for _ in range(4):
            await bus.publish("start", n + 1)

    @bus.subscribe("both", max_queue=1, overflow="error")
    async def refuses() -> None:
        await gate.wait()

    @bus.subscribe("start", max_queue=1)
    async def start(n: int) -> None:
        if n == 0:
            for _ in range(3):
                try:
                    await bus.publish("both", 0)
                except QueueFullError:
                    break
                await turns()
            gate.set()
            await turns(20)

    async with bus:
        await bus.publish("start", 0)
    assert errors == []


async def test_handlers_of_one_name_are_told_apart() -> None:
    """A long way through namesakes is no cycle."""
    got: list[str] = []
    gate = asyncio.Event()
    bus = Bus()

    def make(final: bool) -> None:
        @bus.subscribe("x.*", max_queue=1, group="final" if final else "first")
        async def step(msg: Message) -> None:
            if final:
                await gate.wait()
                got.append(msg.topic)
            elif msg.topic != "x.end":
                await bus.publish("x.end")

    make(final=False)
    make(final=True)
    async with bus:
        publishing = [asyncio.ensure_future(bus.publish("x.start")) for _ in range(3)]
        await turns(20)
        gate.set()
        await asyncio.gather(*publishing)
    assert sorted(set(got)) == ["x.end", "x.start"]


# -- expiry --------------------------------------------------------------------------------------


async def test_what_has_expired_is_counted_and_not_handled() -> None:
    got: list[str] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take(data: str) -> None:
        got.append(data)

    async with bus:
        await bus.publish("a", "late", ttl=0)
        await bus.publish("a", "late", expirytime="2020-01-01T00:00:00Z")
        await bus.publish("a", "in time", ttl="1h")
        await turns()
        [stats] = bus.stats().subscriptions
    assert got == ["in time"]
    assert (stats.expired, stats.handled) == (2, 1)


async def test_what_expires_while_it_waits_is_not_handled() -> None:
    gate, got = asyncio.Event(), list[str]()
    bus = Bus()

    @bus.subscribe("a", concurrency=2)
    async def take(data: str) -> None:
        await gate.wait()
        got.append(data)

    async with bus:
        for name in ("first", "second"):
            await bus.publish("a", name)
        await bus.publish("a", "late", ttl="1ms")
        await bus.publish("a", "late", ttl="1ms", partitionkey="k")
        await turns()
        await asyncio.sleep(0.005)
        gate.set()
    assert got == ["first", "second"]


# -- what handlers raise ---------------------------------------------------------------------------


class NotAnException(BaseException):
    """Like what test runners raise to fail."""


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("key", [{}, {"partitionkey": "k"}], ids=["plain", "keyed"])
@pytest.mark.parametrize(
    "error",
    [ValueError("bad"), asyncio.CancelledError(), NotAnException(), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_is_reported_and_ends_nothing(
    error: BaseException, concurrency: int, key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []
    reported: list[tuple[BaseException, str]] = []
    bus = Bus()

    @bus.on_error
    def note(error: BaseException, message: Message) -> None:
        reported.append((error, message.topic))

    @bus.subscribe("a.*", concurrency=concurrency)
    async def take(n: int) -> None:
        await turns(1)
        if n == 1:
            raise error
        got.append(n)

    async with bus:
        for n in range(4):
            await bus.publish(f"a.{n}", n, **key)
        await turns(20)
        [stats] = bus.stats().subscriptions
    assert got == [0, 2, 3]
    assert reported == [(error, "a.1")]
    assert (stats.handled, stats.failed) == (3, 1)
    [line] = [record.getMessage() for record in caplog.records]
    assert "take failed on a.1 (id " in line
    assert f"source {bus.source}" in line
    assert type(error).__name__ in line


async def test_a_handler_may_await_a_task_that_somebody_cancelled() -> None:
    got: list[int] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        if n == 0:
            task = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(task.cancel)
            await task
        got.append(n)

    async with bus:
        for n in range(3):
            await bus.publish("a", n)
    assert got == [1, 2]


async def test_a_payload_that_does_not_fit_goes_to_the_error_handler() -> None:
    reported: list[BaseException] = []
    bus = Bus()

    @bus.on_error
    async def note(error: BaseException, _: Message) -> None:
        await turns(1)
        reported.append(error)

    @bus.subscribe("a")
    async def take(n: int) -> None: ...

    async with bus:
        await bus.publish("a", {"n": 1})
    [error] = reported
    assert isinstance(error, DecodeError)
    assert (error.topic, error.type, error.field) == ("a", "a", None)


async def test_hooks_that_fail_are_logged_and_the_others_are_still_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[str] = []
    bus = Bus()

    @bus.on_error
    def broken(error: BaseException, message: Message) -> None:
        raise RuntimeError("hook")

    @bus.on_error
    async def broken_later(error: BaseException, message: Message) -> None:
        raise RuntimeError("later")

    @bus.on_error
    def odd(error: BaseException, message: Message) -> Any:
        called.append("odd")
        return True

    @bus.subscribe("a")
    async def take() -> None:
        raise ValueError("bad")

    async with bus:
        await bus.publish("a")
        await bus.publish("a")
    assert called == ["odd", "odd"]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("the error hook" in message for message in messages) == 2
    assert sum("later" in message for message in messages) == 2


async def test_our_own_errors_are_logged_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = Bus()

    @bus.subscribe("a")
    async def take(n: int) -> None:
        raise ValueError("bad")

    async with bus:
        await bus.publish("a", "no number")
        await bus.publish("a", 1)
    assert [record.exc_info is None for record in caplog.records] == [True, False]
    assert caplog.records[0].levelno == logging.ERROR


# -- context -------------------------------------------------------------------------------------


async def test_effects_name_their_cause_also_from_tasks() -> None:
    seen: dict[str, Envelope] = {}
    bus = Bus()

    @bus.subscribe("a")
    async def take() -> None:
        await bus.publish("b.direct")
        await asyncio.create_task(publish())
        await asyncio.gather(*(bus.publish(f"b.{n}") for n in range(2)))
        bus.emit("b.emitted")

    async def publish() -> None:
        await bus.publish("b.task")

    @bus.subscribe("b.*")
    async def note(envelope: Envelope) -> None:
        seen[envelope.topic] = envelope
        await bus.publish("c" if envelope.topic == "b.direct" else "d")

    @bus.subscribe("c")
    async def third(envelope: Envelope) -> None:
        seen["c"] = envelope

    async with bus:
        first = await bus.publish("a")
    assert len(seen) == 6
    assert {envelope.correlationid for envelope in seen.values()} == {first.id}
    effects = [envelope for topic, envelope in seen.items() if topic != "c"]
    assert {envelope.causationid for envelope in effects} == {first.id}
    assert seen["c"].causationid == seen["b.direct"].id
    assert (seen["b.task"].hops, seen["c"].hops) == (1, 2)


async def test_two_lanes_do_not_mix_up_their_causes() -> None:
    pairs: list[tuple[str | None, str]] = []
    bus = Bus()

    @bus.subscribe("a", concurrency=5)
    async def take(msg: Message) -> None:
        await turns(msg.data)
        await bus.publish("b", msg.id)

    @bus.subscribe("b")
    async def note(envelope: Envelope, cause: str) -> None:
        pairs.append((envelope.causationid, cause))

    async with bus:
        for n in (4, 0, 3, 1, 2, 0, 0):
            await bus.publish("a", n)
    assert len(pairs) == 7
    assert all(left == right for left, right in pairs)


async def test_a_bus_that_is_opened_by_a_handler_does_not_inherit_its_message() -> None:
    inner, outer = Bus(), Bus()
    seen: list[tuple[Envelope | None, context.Deadline | None]] = []

    @inner.subscribe("a")
    async def take() -> None:
        await inner.publish("effect")
        seen.append((context.cause.get(), context.deadline.get()))

    @outer.serve("ask")
    async def answer() -> None:
        async with inner:
            await inner.forward(event("a", id="foreign"))

    async with outer:
        await outer.request("ask", timeout=5)
    [(cause, deadline)] = seen
    assert cause is not None
    assert cause.id == "foreign"
    assert deadline is None


# -- counters --------------------------------------------------------------------------------------


async def test_stats_tell_what_was_done() -> None:
    bus = Bus()

    @bus.subscribe("a.>", group="g")
    async def take(msg: Message) -> None:
        if msg.topic == "a.bad":
            raise ValueError("bad")

    async with bus:
        for topic in ("a.good", "a.bad", "a.good", "b"):
            await bus.publish(topic)
        bus.emit("a.good")
        await turns()
        stats = bus.stats()
    [subscription] = stats.subscriptions
    assert (stats.published, stats.requests, stats.handled) == (5, 0, 3)
    assert (subscription.pattern, subscription.group) == ("a.>", "g")
    assert (subscription.handled, subscription.failed) == (3, 1)
    assert (subscription.queued, subscription.in_progress) == (0, 0)
    assert "take" in subscription.handler
    assert subscription.mean_handler_s > 0


async def test_the_mean_counts_the_time_of_a_lane_that_is_still_busy() -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.subscribe("a", concurrency=2)
    async def take(n: int) -> None:
        if n:
            await gate.wait()

    async with bus:
        for n in (0, 1, 0, 1):
            await bus.publish("a", n)
        await turns()
        [early] = bus.stats().subscriptions
        await asyncio.sleep(0.001)
        [later] = bus.stats().subscriptions
        gate.set()
        await turns()
        [ended] = bus.stats().subscriptions
        await asyncio.sleep(0.001)
        assert bus.stats().subscriptions == [ended]
    assert (early.in_progress, early.handled) == (2, 2)
    assert 0 < early.mean_handler_s < later.mean_handler_s
    assert (ended.in_progress, ended.handled) == (0, 4)
    assert ended.mean_handler_s > 0


# -- with and without a key ------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_message_with_a_key_fares_like_one_without(key: str | None) -> None:
    """One loop handles those without, another function those with a key: both do the same."""
    causes: list[Any] = []
    errors: list[BaseException] = []
    bus = Bus()
    bus.on_error(lambda error, _: errors.append(error))
    option: dict[str, Any] = {} if key is None else {"partitionkey": key}

    @bus.subscribe("events", concurrency=2)
    async def take(envelope: Envelope, data: str) -> None:
        causes.append((data, context.cause.get() is envelope))
        if data == "fail":
            raise ValueError(data)
        if data == "cancelled":
            raise asyncio.CancelledError

    @bus.serve("asked", concurrency=2)
    async def answer(data: str) -> None:
        causes.append(data)

    async with bus:
        for data in ("good", "fail", "cancelled", "good"):
            await bus.publish("events", data, **option)
        await bus.publish("events", "late", ttl=0, **option)
        await bus.publish("asked", "event", **option)
        # To a server the transport says nothing of the time: it looks for itself, and is too late.
        await bus.publish("asked", "late", ttl=0, **option)
        await bus.request("asked", "request", **option)
        await turns(20)
        events, asked = bus.stats().subscriptions
    assert causes[:4] == [(data, True) for data in ("good", "fail", "cancelled", "good")]
    assert causes[4:] == ["event", "request"]
    assert [type(error) for error in errors] == [ValueError, asyncio.CancelledError]
    assert (events.handled, events.failed, events.expired, events.in_progress) == (2, 2, 1, 0)
    assert (asked.handled, asked.failed, asked.expired, asked.in_progress) == (2, 0, 1, 0)
