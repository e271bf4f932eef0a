"""Checks: bounded queues, priorities, expiry, and order under concurrency."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from hms_bus.bus import Bus, Message, SubscriptionStats
from hms_bus.errors import BusError, QueueFullError
from hms_bus.testing.conformance.probes import (
    Gate,
    Seen,
    equal,
    eventually,
    raises,
    standstill,
    that,
    within,
)
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


def _stats(bus: Bus) -> SubscriptionStats:
    return bus.stats().subscriptions[0]


@asynccontextmanager
async def _tasks() -> AsyncGenerator[Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]]:
    """Lend a way to start tasks; end them with the scope, so that a failed check leaves none."""
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _gated(bus: Bus, topic: str, gate: Gate, **options: object) -> Seen[int]:
    """Subscribe a handler that notes its number and stands at the gate."""
    seen = Seen[int]()

    @bus.subscribe(topic, **options)  # pyright: ignore[reportArgumentType] - of one check's choice
    async def handle(number: int) -> None:
        seen.add(number)
        await gate.passing()

    return seen


@check("backpressure")
async def a_full_queue_holds_its_publisher_back(subject: Subject) -> None:
    """With `overflow="block"` publishing waits for a full queue, and nothing is lost or moved."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen, published = _gated(listener, topic, gate, max_queue=4), Seen[int]()

    async def publish(sender: Bus) -> None:
        for number in range(200):
            await sender.publish(topic, number)
            published.add(number)

    async with listener, subject.publisher() as sender, _tasks() as start:
        publishing = start(publish(sender))
        await gate.entered()
        await standstill(lambda: len(published.items), "publishing into a queue of 4")
        that(not publishing.done(), "200 messages went into a queue of 4 that nobody empties")
        gate.open()
        equal(await seen.reach(200), list(range(200)), "what was handled")
        await within(publishing, "the publisher did not go on")


@check(survives={"delay"})
async def a_full_queue_can_drop_the_oldest(subject: Subject) -> None:
    """With `overflow="drop_oldest"` the newest messages are handled, the others counted."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen = _gated(listener, topic, gate, max_queue=3, overflow="drop_oldest")
    async with listener, subject.publisher() as sender:
        await sender.publish(topic, 0)
        await gate.entered()
        for number in range(1, 10):
            await sender.publish(topic, number)
        await eventually(lambda: _stats(listener).dropped == 6, "6 messages dropped")
        gate.open()
        equal(await seen.reach(4), [0, 7, 8, 9], "what was handled")


@check(survives={"delay"})
async def a_full_queue_can_drop_the_newest(subject: Subject) -> None:
    """With `overflow="drop_newest"` what waits already is handled, what comes then is counted."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen = _gated(listener, topic, gate, max_queue=3, overflow="drop_newest")
    async with listener, subject.publisher() as sender:
        await sender.publish(topic, 0)
        await gate.entered()
        for number in range(1, 10):
            await sender.publish(topic, number)
        await eventually(lambda: _stats(listener).dropped == 6, "6 messages dropped")
        gate.open()
        equal(await seen.reach(4), [0, 1, 2, 3], "what was handled")


@check("backpressure")
async def a_full_queue_can_refuse(subject: Subject) -> None:
    """With `overflow="error"` the publisher gets QueueFullError with the queue's limit."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen = _gated(listener, topic, gate, max_queue=2, overflow="error")
    async with listener, subject.publisher() as sender:
        await sender.publish(topic, 0)
        await gate.entered()
        await sender.publish(topic, 1)
        await sender.publish(topic, 2)
        with raises(QueueFullError, "publishing to a full queue") as caught:
            await sender.publish(topic, 3)
        equal(caught.error.limit, 2, "limit")
        gate.open()
        equal(await seen.reach(3), [0, 1, 2], "what was handled")


@check(survives={"delay"})
async def a_full_queue_is_nobody_elses_business(subject: Subject) -> None:
    """While one queue is full and drops, every other subscription gets every message."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    _gated(listener, topic, gate, max_queue=1, overflow="drop_newest")
    quick = Seen[int]()

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        quick.add(number)

    async with listener, subject.publisher() as sender:
        for number in range(30):
            await sender.publish(topic, number)
        equal(await quick.reach(30), list(range(30)), "what the other handled")
        gate.open()


@check("groups", survives={"delay"})
async def a_dropped_request_is_answered(subject: Subject) -> None:
    """A request that a full queue drops or refuses fails with RESOURCE_EXHAUSTED, retryable."""
    for overflow in ("drop_newest", "error"):
        await _refused_request(subject, subject.topic(overflow), overflow)


async def _refused_request(subject: Subject, topic: str, overflow: str) -> None:
    server, gate = subject.bus(), Gate()

    @server.serve(topic, concurrency=1, max_queue=1, overflow=overflow)  # pyright: ignore[reportArgumentType]
    async def answer() -> str:
        await gate.passing()
        return "done"

    async with server, subject.publisher(log=None) as caller, _tasks() as start:
        working = start(caller.request(topic))
        await gate.entered()
        queued = start(caller.request(topic))
        await eventually(lambda: _stats(server).queued == 1, "the second request waits")
        with raises(BusError, "a request to a full queue") as caught:
            await caller.request(topic)
        code, retryable = caught.error.code, caught.error.retryable
        equal((code, retryable), ("RESOURCE_EXHAUSTED", True), f"{caught.error!r}")
        gate.open()
        equal(await within(asyncio.gather(working, queued), "answers"), ["done"] * 2, "answers")


@check(survives={"delay"})
async def urgent_messages_are_handled_first(subject: Subject) -> None:
    """Of the messages that wait, those of a higher `priority` are handled first, 4 without one."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen = _gated(listener, topic, gate)
    async with listener, subject.publisher() as sender:
        await sender.publish(topic, 100)
        await gate.entered()
        for priority in (0, 5, 9, 3):
            await sender.publish(topic, priority, priority=priority)
        await sender.publish(topic, 4)
        await eventually(lambda: _stats(listener).queued == 5, "5 messages wait")
        gate.open()
        equal(await seen.reach(6), [100, 9, 5, 4, 3, 0], "order")


@check(survives={"delay"})
async def equally_urgent_messages_keep_their_order(subject: Subject) -> None:
    """Among messages of one priority the order of publishing holds."""
    topic, listener, gate = subject.topic("numbers"), subject.bus(), Gate()
    seen = _gated(listener, topic, gate)
    async with listener, subject.publisher() as sender:
        await sender.publish(topic, 100)
        await gate.entered()
        for number in range(12):
            await sender.publish(topic, number, priority=(9, 1)[number % 2])
        await eventually(lambda: _stats(listener).queued == 12, "12 messages wait")
        gate.open()
        order = [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
        equal((await seen.reach(13))[1:], order, "order")


@check(survives={"delay"})
async def expired_messages_are_not_handled(subject: Subject) -> None:
    """A message whose `expirytime` is over is counted, not handled; the next one is."""
    topic, listener, seen = subject.topic("numbers"), subject.bus(), Seen[int]()

    @listener.subscribe(topic)
    async def handle(number: int) -> None:
        seen.add(number)

    async with (
        listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        await sender.publish(topic, 1, expirytime="2001-01-01T00:00:00Z")
        await sender.publish(topic, 2, ttl="1h")
        equal(await seen.reach(1), [2], "what was handled")
        equal((await within(anext(messages), "a message")).data, 2, "what a loop gets first")
        equal(_stats(listener).expired, 1, "messages counted as expired")


@check(survives={"delay", "reorder"})
async def as_many_are_handled_at_once_as_allowed(subject: Subject) -> None:
    """`concurrency` messages are handled at once, and never more."""
    topic, listener = subject.topic("numbers"), subject.bus()
    all_here, running, most = asyncio.Barrier(3), 0, 0
    seen = Seen[int]()

    @listener.subscribe(topic, concurrency=3)
    async def handle(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if number < 3:
            await all_here.wait()
        await asyncio.sleep(0)
        running -= 1
        seen.add(number)

    async with listener, subject.publisher() as sender:
        for number in range(30):
            await sender.publish(topic, number)
        await seen.reach(30, "handled with 3 at once")
    equal(most, 3, "the most that were handled at once")


@check(survives={"delay"})
async def one_key_keeps_its_order_under_concurrency(subject: Subject) -> None:
    """Messages with one `partitionkey` are handled in order, however many are handled at once."""
    topic, listener, seen = subject.topic("keyed"), subject.bus(), Seen[tuple[str, int]]()
    running = set[str]()

    @listener.subscribe(topic, concurrency=4)
    async def handle(number: int, message: Message) -> None:
        key = message.envelope.partitionkey or ""
        that(key not in running, f"two messages with the key {key} are handled at once")
        running.add(key)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        running.discard(key)
        seen.add((key, number))

    async with listener, subject.publisher() as sender:
        for number in range(60):
            await sender.publish(topic, number, partitionkey=f"k{number % 5}")
        await seen.reach(60, "handled in the order of their keys")
    for key in ("k0", "k1", "k2", "k3", "k4"):
        expected = [number for number in range(60) if f"k{number % 5}" == key]
        equal([number for k, number in seen.items if k == key], expected, f"order of {key}")


@check(survives={"delay"})
async def a_slow_key_delays_no_other_key(subject: Subject) -> None:
    """With two lanes a key whose handler waits does not keep another key from being handled."""
    topic, listener, gate = subject.topic("keyed"), subject.bus(), Gate()
    seen = Seen[str]()

    @listener.subscribe(topic, concurrency=2)
    async def handle(name: str) -> None:
        if name == "slow 1":
            await gate.passing()
        seen.add(name)

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, "slow 1", partitionkey="slow")
        await gate.entered()
        await sender.publish(topic, "slow 2", partitionkey="slow")
        await sender.publish(topic, "quick", partitionkey="quick")
        equal(await seen.reach(1), ["quick"], "what was handled first")
        gate.open()
        equal(await seen.reach(3), ["quick", "slow 1", "slow 2"], "order")
