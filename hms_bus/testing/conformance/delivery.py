"""Checks: who gets a message, how often, and in which order."""

import asyncio
from collections.abc import Sequence

from hms_bus.attributes import new_envelope, to_values
from hms_bus.bus import Bus, Message
from hms_bus.testing.conformance.probes import Gate, Seen, equal, payloads, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


@check(survives={"delay"})
async def every_subscription_gets_the_message_once(subject: Subject) -> None:
    """Each subscription whose pattern matches gets a message once, on whatever bus it is."""
    topic = subject.topic("news")
    async with (
        subject.bus() as near,
        subject.bus() as far,
        subject.publisher() as sender,
        near.subscribe(topic) as first,
        near.subscribe(topic) as second,
        far.subscribe(topic) as third,
    ):
        await sender.publish(topic, "one")
        await sender.publish(topic, "two")
        for messages in (first, second, third):
            equal(payloads(await take(messages, 2)), ["one", "two"], "payloads")


@check(survives={"delay", "reorder", "duplicate"})
async def a_bus_hears_itself(subject: Subject) -> None:
    """A bus's own subscriptions get what it publishes."""
    topic = subject.topic("echo")
    async with subject.publisher() as bus, bus.subscribe(topic) as messages:
        await bus.publish(topic, "mine")
        equal(payloads(await take(messages, 1)), ["mine"], "payload")


@check(survives={"delay", "reorder"})
async def nothing_is_kept_for_who_subscribes_later(subject: Subject) -> None:
    """A subscription gets what is published after it was made, and nothing from before."""
    topic = subject.topic("news")
    async with subject.publisher() as bus:
        async with bus.subscribe(topic) as witness:
            await bus.publish(topic, "before")
            await take(witness, 1)
        async with bus.subscribe(topic) as messages:
            await bus.publish(topic, "after")
            equal(payloads(await take(messages, 1)), ["after"], "first message")


@check(survives={"delay"})
async def a_subscription_that_ended_gets_nothing(subject: Subject) -> None:
    """After its scope is left a subscription gets nothing, and the others still do."""
    topic = subject.topic("news")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as witness,
    ):
        async with listener.subscribe(topic) as left:
            await sender.publish(topic, 1)
            await take(left, 1)
        await sender.publish(topic, 2)
        equal(payloads(await take(witness, 2)), [1, 2], "the subscription that stays")
        equal([message async for message in left], [], "the subscription that ended")


@check(survives={"delay", "duplicate", "reorder"})
async def publishing_to_nobody_is_no_error(subject: Subject) -> None:
    """An event that nobody listens to is published all the same."""
    async with subject.publisher() as sender:
        receipt = await sender.publish(subject.topic("unheard"), 1)
        that(receipt.id, "the receipt has no id")


@check(survives={"delay"})
async def messages_of_one_publisher_keep_their_order(subject: Subject) -> None:
    """What one bus publishes on one topic arrives in the order of the calls."""
    topic = subject.topic("numbers")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        for number in range(50):
            await sender.publish(topic, number)
        await sender.publish_many([(topic, number) for number in range(50, 100)])
        equal(payloads(await take(messages, 100)), list(range(100)), "order")


@check(survives={"delay"})
async def emitted_messages_keep_their_order(subject: Subject) -> None:
    """What is emitted without waiting arrives in the order of the calls."""
    topic = subject.topic("numbers")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        for number in range(100):
            sender.emit(topic, number)
        equal(payloads(await take(messages, 100)), list(range(100)), "order")


@check(survives={"delay"})
async def each_of_two_publishers_keeps_its_order(subject: Subject) -> None:
    """Messages of two publishers on one topic may mix, those of each stay in order."""
    topic = subject.topic("numbers")

    async def publish(bus: Bus, numbers: Sequence[int]) -> None:
        for number in numbers:
            await bus.publish(topic, number)

    async with (
        subject.bus() as listener,
        subject.publisher() as one,
        subject.bus() as other,
        listener.subscribe(topic) as messages,
    ):
        await asyncio.gather(publish(one, range(40)), publish(other, range(100, 140)))
        arrived = payloads(await take(messages, 80))
    equal([n for n in arrived if n < 100], list(range(40)), "order of the first")
    equal([n for n in arrived if n >= 100], list(range(100, 140)), "order of the second")


@check("publisher-order", survives={"delay"})
async def one_publisher_keeps_its_order_over_topics(subject: Subject) -> None:
    """What one bus publishes on several topics arrives in the order of the calls."""
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(subject.topic("*")) as messages,
    ):
        for number in range(60):
            await sender.publish(subject.topic(f"t{number % 7}"), number)
        equal(payloads(await take(messages, 60)), list(range(60)), "order")


@check(survives={"delay"})
async def a_slow_handler_delays_no_other(subject: Subject) -> None:
    """A handler that does not return keeps its own subscription waiting, nobody else's."""
    topic = subject.topic("numbers")
    listener, gate = subject.bus(), Gate()
    slow, quick = Seen[int](), Seen[int]()

    @listener.subscribe(topic)
    async def stand(number: int) -> None:
        slow.add(number)
        await gate.passing()

    @listener.subscribe(topic)
    async def run(number: int) -> None:
        quick.add(number)

    async with listener, subject.publisher() as sender:
        await sender.publish_many([(topic, number) for number in range(20)])
        equal(await quick.reach(20), list(range(20)), "the quick one")
        equal(await slow.reach(1), [0], "the slow one")
        gate.open()
        equal(await slow.reach(20), list(range(20)), "the slow one, afterwards")


@check(survives={"delay", "reorder", "duplicate"})
async def a_forwarded_envelope_keeps_its_identity(subject: Subject) -> None:
    """A forwarded envelope arrives with the id, source, time and cause it had, one hop further."""
    topic = subject.topic("elsewhere")
    envelope = new_envelope(
        topic,
        {"n": 1},
        id="x-1",
        source=subject.source,
        time="2026-01-31T12:00:00.123456Z",
        causationid="x-0",
    )
    async with (
        subject.bus() as listener,
        subject.publisher() as bridge,
        listener.subscribe(topic) as messages,
    ):
        await bridge.forward(envelope)
        [message] = await take(messages, 1)
    equal(to_values(message.envelope), to_values(envelope.replace(hops=1)), "attributes")
    equal(message.data, {"n": 1}, "payload")


@check(survives={"delay", "duplicate"})
async def a_loop_over_a_subscription_and_a_handler_agree(subject: Subject) -> None:
    """A handler and `async for` over a subscription get the same messages in the same order."""
    topic = subject.topic("numbers")
    listener, handled = subject.bus(), Seen[str]()

    @listener.subscribe(topic)
    async def handle(message: Message) -> None:
        handled.add(message.id)

    async with (
        listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        await sender.publish_many([(topic, number) for number in range(10)])
        looped = [message.id for message in await take(messages, 10)]
        equal((await handled.reach(10))[:10], looped, "the handler's and the loop's messages")
