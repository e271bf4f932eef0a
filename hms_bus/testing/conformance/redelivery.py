"""Checks: durable subscriptions of a bus: at least once, with retries, until it is settled."""

import asyncio
from typing import Any, cast

from msgspec import Struct

from hms_bus.abc import ConsumingLog, DurableInfo
from hms_bus.bus import Backoff, Bus, Message
from hms_bus.errors import ConfigError, StateError, StatusError, UnsupportedError
from hms_bus.testing.conformance.probes import (
    Gate,
    Seen,
    equal,
    eventually,
    raises,
    standstill,
    take,
    that,
    within,
)
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import Fault, checks_of

check = checks_of("logged")

ALL: set[Fault] = {"drop", "duplicate", "delay", "reorder"}
"""Durable subscriptions read from the log, whatever the network does."""

QUICKLY = Backoff(first_s=0.01, max_s=0.05)


class Order(Struct):
    """What is ordered."""

    number: int


def _name(subject: Subject) -> str:
    return f"{subject.name}-d"


def _listener(subject: Subject) -> Bus:
    return subject.bus(log=subject.log_url)


async def _info(bus: Bus, subject: Subject) -> DurableInfo:
    log = cast("ConsumingLog", bus.log)
    [found] = [each for each in await log.durables() if each.durable.name == _name(subject)]
    return found


async def _settled(bus: Bus, subject: Subject, position: int = 0) -> None:
    """Return once nothing is unsettled, up to `position` at least."""

    async def look() -> None:
        stands = await _info(bus, subject)
        while stands.floor < max(stands.delivered, position):
            await asyncio.sleep(0.005)
            stands = await _info(bus, subject)

    await within(look(), "all is settled")


async def _letters(bus: Bus, subject: Subject) -> list[Any]:
    pattern = f"$dlq.{_name(subject)}"
    return [message.data async for message in bus.replay(pattern)]


@check("log-durable", survives=ALL)
async def a_durable_handler_gets_what_came_before_it(subject: Subject) -> None:
    """What was published before the subscription was made is handled, and what comes after."""
    topic, seen = subject.topic("orders"), Seen[int]()
    listener = _listener(subject)
    async with subject.publisher() as sender:
        for number in range(5):
            await sender.publish(topic, Order(number))

        @listener.subscribe(topic, durable=_name(subject))
        async def handle(order: Order) -> None:
            seen.add(order.number)

        async with listener:
            await sender.publish(topic, Order(5))
            equal(await seen.reach(6), list(range(6)), "handled")


@check("log-durable", survives=ALL)
async def a_durable_goes_on_where_its_bus_ended(subject: Subject) -> None:
    """What was handled is not handled again by the next bus; what came meanwhile is."""
    topic = subject.topic("orders")
    async with subject.publisher() as sender:
        for bus_number in range(3):
            seen, listener = Seen[int](), _listener(subject)

            @listener.subscribe(topic, durable=_name(subject))
            async def handle(order: Order, seen: Seen[int] = seen) -> None:
                seen.add(order.number)

            await sender.publish(topic, Order(2 * bus_number))
            async with listener:
                await sender.publish(topic, Order(2 * bus_number + 1))
                expected = [2 * bus_number, 2 * bus_number + 1]
                equal(await seen.reach(2), expected, f"handled by bus {bus_number}")
                await _settled(listener, subject)


@check("log-durable", survives=ALL)
async def a_message_that_fails_comes_again(subject: Subject) -> None:
    """A handler that raises gets the message again, marked, until it succeeds."""
    topic, seen, errors = subject.topic("orders"), Seen[tuple[int, int, bool]](), Seen[str]()
    listener = _listener(subject)
    listener.on_error(lambda error, _: errors.add(str(error)))

    @listener.subscribe(topic, durable=_name(subject), backoff=QUICKLY)
    async def handle(order: Order, message: Message) -> None:
        seen.add((order.number, message.attempt, message.redelivered))
        if message.attempt < 3:
            raise RuntimeError(f"attempt {message.attempt}")

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, Order(7))
        expected = [(7, 1, False), (7, 2, True), (7, 3, True)]
        equal(await seen.reach(3), expected, "handled")
        await _settled(listener, subject)
        equal(await _letters(listener, subject), [], "dead letters")
    equal(errors.items, ["attempt 1", "attempt 2"], "errors")


@check("log-durable", survives=ALL)
async def a_message_that_never_succeeds_becomes_a_dead_letter(subject: Subject) -> None:
    """After `max_deliveries` failures the message is put aside, with the last error."""
    topic, seen = subject.topic("orders"), Seen[int]()
    listener = _listener(subject)

    @listener.subscribe(topic, durable=_name(subject), max_deliveries=2, backoff=QUICKLY)
    async def handle(order: Order, message: Message) -> None:
        seen.add(order.number)
        if order.number == 1:
            raise RuntimeError(f"no. {message.attempt}")

    async with listener, subject.publisher() as sender:
        for number in range(3):
            await sender.publish(topic, Order(number))
        equal(sorted(await seen.reach(4)), [0, 1, 1, 2], "handled")
        await _settled(listener, subject)
        [letter] = await _letters(listener, subject)
        equal((letter["attempts"], letter["envelope"]["data"]), (2, {"number": 1}), "letter")
        that("no. 2" in letter["reason"], f"the reason is {letter['reason']!r}")


@check("log-durable", survives=ALL)
async def an_error_for_good_is_not_tried_again(subject: Subject) -> None:
    """A payload that does not fit, and a status that will not change, end at the first attempt."""
    topic, seen = subject.topic("orders"), Seen[int]()
    listener = _listener(subject)

    @listener.subscribe(topic, durable=_name(subject), backoff=QUICKLY)
    async def handle(order: Order) -> None:
        seen.add(order.number)
        if order.number == 1:
            raise StatusError("INVALID_ARGUMENT", "never")

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, {"number": "none"})
        await sender.publish(topic, Order(1))
        await sender.publish(topic, Order(2))
        equal(await seen.reach(2), [1, 2], "handled")
        await _settled(listener, subject)
        letters = await _letters(listener, subject)
        equal([letter["attempts"] for letter in letters], [1, 1], "attempts")
        equal([letter["code"] for letter in letters], ["INVALID_ARGUMENT"] * 2, "codes")


@check("log-durable", survives=ALL)
async def a_handler_can_settle_by_hand(subject: Subject) -> None:
    """With ack="manual" only what the handler says counts: ack, nak, term, or nothing yet."""
    topic, seen = subject.topic("orders"), Seen[tuple[int, int]]()
    listener, name = _listener(subject), _name(subject)

    @listener.subscribe(topic, durable=name, ack="manual", ack_wait=0.3)
    async def handle(order: Order, message: Message) -> None:
        seen.add((order.number, message.attempt))
        if message.redelivered or order.number == 0:
            await message.ack()
        elif order.number == 1:
            await message.nak()
        elif order.number == 2:
            await message.term("not mine")

    async with listener, subject.publisher() as sender:
        for number in range(4):
            await sender.publish(topic, Order(number))
        handled = await seen.reach(6)
        equal(sorted(handled), [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1), (3, 2)], "handled")
        await _settled(listener, subject)
        [letter] = await _letters(listener, subject)
        equal((letter["envelope"]["data"], letter["reason"]), ({"number": 2}, "not mine"), "letter")


@check("log-durable", survives=ALL)
async def what_was_settled_by_hand_stays_so(subject: Subject) -> None:
    """A handler that raises after its ack is reported, and its message does not come again."""
    topic, seen, errors = subject.topic("orders"), Seen[int](), Seen[str]()
    listener = _listener(subject)
    listener.on_error(lambda error, _: errors.add(type(error).__name__))

    @listener.subscribe(topic, durable=_name(subject), backoff=QUICKLY)
    async def handle(order: Order, message: Message) -> None:
        seen.add(order.number)
        await message.ack()
        with raises(StateError, "settling twice"):
            await message.term()
        raise RuntimeError("afterwards")

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, Order(0))
        await errors.reach(1)
        await sender.publish(topic, Order(1))
        equal(await seen.reach(2), [0, 1], "handled")
        equal(await errors.reach(2), ["RuntimeError"] * 2, "errors")
        await _settled(listener, subject)
        equal(await _letters(listener, subject), [], "dead letters")


@check("log-durable", survives=ALL)
async def keys_keep_their_order_through_failures(subject: Subject) -> None:
    """With many handlers at once and failures, each key's messages succeed in order."""
    topic, done = subject.topic("orders"), Seen[tuple[str, int]]()
    listener, name = _listener(subject), _name(subject)

    @listener.subscribe(topic, durable=name, concurrency=8, backoff=QUICKLY)
    async def handle(order: Order, message: Message) -> None:
        await asyncio.sleep(0)
        if order.number % 4 == 3 and not message.redelivered:
            raise RuntimeError("once")
        done.add((message.envelope.partitionkey or "", order.number))

    async with listener, subject.publisher() as sender:
        for number in range(40):
            await sender.publish(topic, Order(number), partitionkey=f"k{number % 3}")
        handled = await done.reach(40)
        for key in ("k0", "k1", "k2"):
            order = [number for its, number in handled if its == key]
            equal(order, sorted(order), f"order of {key}")
        equal(len(set(handled)), 40, "different messages")


@check("log-durable", survives=ALL)
async def members_of_a_group_share_a_durable(subject: Subject) -> None:
    """Two buses with one durable and group handle each message once between them."""
    topic, seen = subject.topic("orders"), Seen[int]()
    name = _name(subject)
    one, other = _listener(subject), _listener(subject)
    for bus in (one, other):

        @bus.subscribe(topic, durable=name, group="workers")
        async def handle(order: Order) -> None:
            seen.add(order.number)
            await asyncio.sleep(0)

    async with one, other, subject.publisher() as sender:
        for number in range(60):
            await sender.publish(topic, Order(number))
        equal(sorted(await seen.reach(60)), list(range(60)), "handled")
        await _settled(one, subject)


@check("log-durable", survives=ALL)
async def a_bus_that_closes_leaves_the_rest_to_others(subject: Subject) -> None:
    """What it has handled does not come again; the rest comes to the next, as first attempts."""
    topic, gate, seen = subject.topic("orders"), Gate(), Seen[int]()
    listener, name = _listener(subject), _name(subject)

    @listener.subscribe(topic, durable=name)
    async def handle(order: Order) -> None:
        await gate.passing()
        seen.add(order.number)

    async with subject.publisher() as sender:
        for number in range(5):
            await sender.publish(topic, Order(number))
        async with listener:
            await gate.entered()
            closing = asyncio.create_task(listener.__aexit__(None, None, None))
            await asyncio.sleep(0)
            gate.open()
            await within(closing, "closing")
        finished, rest = list(seen.items), Seen[tuple[int, int]]()
        next_one = _listener(subject)

        @next_one.subscribe(topic, durable=name)
        async def handle_rest(order: Order, message: Message) -> None:
            rest.add((order.number, message.attempt))

        async with next_one:
            left = [number for number in range(5) if number not in finished]
            expected = [(number, 1) for number in left]
            equal(await rest.reach(len(left)), expected, "left to the next bus")


@check("log-durable", survives=ALL)
async def who_stops_leaves_what_it_has_not_begun_at_once(subject: Subject) -> None:
    """While its last handler finishes, others handle what was queued behind that, uncounted."""
    topic, gate, seen = subject.topic("orders"), Gate(), Seen[tuple[int, int]]()
    stopping, other = _listener(subject), _listener(subject)
    name, begun, published = _name(subject), 20, 26

    @stopping.subscribe(topic, durable=name, group="workers")
    async def handle(order: Order) -> None:
        if order.number == begun:
            await gate.passing()

    @other.subscribe(topic, durable=name, group="workers")
    async def handle_rest(order: Order, message: Message) -> None:
        seen.add((order.number, message.attempt))

    async with subject.publisher() as sender:
        for number in range(published):
            await sender.publish(topic, Order(number))
        async with stopping:
            await gate.entered()
            await standstill(lambda: stopping.stats().subscriptions[0].queued, "fetching")
            async with other:
                leaving = asyncio.create_task(stopping.unsubscribe(handle))
                expected = [(number, 1) for number in range(begun + 1, published)]
                equal(sorted(await seen.reach(len(expected))), expected, "handled by the other")
                gate.open()
                await within(leaving, "unsubscribing")
                await _settled(other, subject)
        equal(sorted(seen.items), expected, "handled by the other at last")


@check("log-durable", survives=ALL)
async def a_handler_that_hangs_keeps_nothing_from_others(subject: Subject) -> None:
    """What is queued behind it comes to the others of its group, and in the end what it has."""
    topic, gate, seen = subject.topic("orders"), Gate(), Seen[int]()
    hanging, other = _listener(subject), _listener(subject)
    name, begun, published = _name(subject), 20, 26

    @hanging.subscribe(topic, durable=name, group="workers", ack_wait=0.3, max_deliveries=None)
    async def handle(order: Order) -> None:
        if order.number == begun:
            await gate.passing()

    @other.subscribe(topic, durable=name, group="workers", ack_wait=0.3, max_deliveries=None)
    async def handle_rest(order: Order) -> None:
        seen.add(order.number)

    async with subject.publisher() as sender:
        for number in range(published):
            await sender.publish(topic, Order(number))
        async with hanging:
            await gate.entered()
            await standstill(lambda: hanging.stats().subscriptions[0].queued, "fetching")
            async with other:
                rest = set(range(begun, published))
                await eventually(lambda: rest <= set(seen.items), "handled by the other")
                await _settled(other, subject)
                gate.open()


@check("log-durable", survives=ALL)
async def a_handler_that_was_cancelled_has_made_an_attempt(subject: Subject) -> None:
    """What a bus was closed in the midst of comes again, marked, but as no dead letter."""
    topic, seen = subject.topic("orders"), Seen[tuple[int, bool]]()
    async with subject.publisher() as sender:
        await sender.publish(topic, Order(0))
        for is_last in (False, False, False, True):
            gate, listener = Gate(), subject.bus(log=subject.log_url, drain_timeout_s=0.01)
            if is_last:
                gate.open()

            @listener.subscribe(topic, durable=_name(subject), max_deliveries=2)
            async def handle(message: Message, gate: Gate = gate) -> None:
                seen.add((message.attempt, message.redelivered))
                await gate.passing()

            async with listener:
                await gate.entered()
                if is_last:
                    await _settled(listener, subject)
                    equal(await _letters(listener, subject), [], "dead letters")
    equal(seen.items, [(1, False), (2, True), (2, True), (2, True)], "attempts")


@check("log-durable", survives=ALL)
async def what_a_durable_handler_publishes_names_its_cause(subject: Subject) -> None:
    """Cause and conversation go on through a durable subscription."""
    topic, answers = subject.topic("orders"), subject.topic("bills")
    listener = _listener(subject)

    @listener.subscribe(topic, durable=_name(subject))
    async def handle(order: Order) -> None:
        await listener.publish(answers, order.number)

    async with listener, subject.publisher() as sender:
        receipt = await sender.publish(topic, Order(3))
        await _settled(listener, subject, receipt.position or 0)
        [bill] = [message async for message in listener.replay(answers)]
        equal(bill.envelope.causationid, receipt.id, "cause")
        equal(bill.envelope.correlationid, receipt.id, "conversation")


@check("log-durable", survives=ALL)
async def stats_count_what_a_durable_handles(subject: Subject) -> None:
    """A durable subscription is among the bus's statistics: handled and failed."""
    topic, listener = subject.topic("orders"), _listener(subject)

    @listener.subscribe(topic, durable=_name(subject), backoff=QUICKLY)
    async def handle(order: Order, message: Message) -> None:
        if order.number == 1 and not message.redelivered:
            raise RuntimeError("once")

    async with listener, subject.publisher() as sender:
        for number in range(3):
            await sender.publish(topic, Order(number))
        stats = listener.stats
        await eventually(lambda: stats().subscriptions[0].handled == 3, "handled")
        [counted] = stats().subscriptions
        equal((counted.handled, counted.failed), (3, 1), "handled and failed")


@check("log-durable", survives={"delay", "reorder", "duplicate"})
async def only_durable_messages_are_settled(subject: Subject) -> None:
    """A live message has nothing to ack, and options of durables need one."""
    topic, bus = subject.topic("orders"), _listener(subject)
    async with bus, bus.subscribe(topic) as messages, subject.publisher() as sender:
        await sender.publish(topic, 1)
        [message] = await take(messages, 1)
        for settle in (message.ack, message.nak, message.term, message.progress):
            with raises(UnsupportedError, "settling a live message"):
                await settle()
    with raises(ConfigError, "an ack wait without a durable"):
        bus.subscribe(topic, ack_wait=3)
