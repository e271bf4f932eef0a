"""Checks: messages that are sent later."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from hms_bus.bus import Bus, Message
from hms_bus.errors import ConfigError, TopicError, UsageError
from hms_bus.testing.conformance.probes import Seen, equal, raises, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("logged")


def _bus(subject: Subject) -> Bus:
    return subject.bus(log=subject.log_url)


@check("log-durable")
async def a_delayed_message_is_sent_later(subject: Subject) -> None:
    """A message with a delay is overtaken by one without, and delivered like any other."""
    topic, bus = subject.topic("later"), _bus(subject)
    async with bus, bus.subscribe(topic) as messages:
        receipt = await bus.publish(topic, "later", delay=0.2, partitionkey="k")
        that(receipt.position, "the schedule has no position")
        before_ns = time.time_ns()
        await bus.publish(topic, "now")
        first, second = await take(messages, 2)
        equal((first.data, second.data), ("now", "later"), "order")
        equal((second.id, second.envelope.partitionkey), (receipt.id, "k"), "id and key")
        that((second.envelope.time_ns or 0) >= before_ns, "it says when it was scheduled, not sent")
        equal([message.data async for message in bus.replay(topic)], ["now", "later"], "the log")


@check("log-durable")
async def a_message_can_be_sent_at_a_time(subject: Subject) -> None:
    """`at` is a time as text or datetime; one that is over is sent at once."""
    topic, bus = subject.topic("later"), _bus(subject)
    soon = datetime.now(UTC) + timedelta(milliseconds=200)
    async with bus, bus.subscribe(topic) as messages:
        await bus.publish(topic, "soon", at=soon)
        await bus.publish(topic, "over", at="2026-01-01T00:00:00+02:00")
        got = await take(messages, 2)
    equal([message.data for message in got], ["over", "soon"], "order")
    that(datetime.now(UTC) >= soon, "it was sent before its time")


@check("log-durable")
async def a_schedule_can_be_replaced_and_ended(subject: Subject) -> None:
    """Of schedules with one name the last counts; one that was ended sends nothing."""
    topic, name = subject.topic("later"), subject.name
    bus = _bus(subject)
    async with bus, bus.subscribe(topic) as messages:
        await bus.schedule(name, topic, "replaced", delay=0.15)
        await bus.schedule(name, topic, "replacing", delay=0.1)
        await bus.schedule(f"{name}-2", topic, "ended", delay=0.1)
        await bus.unschedule(f"{name}-2")
        await bus.unschedule(f"{name}-3")
        await bus.schedule(f"{name}-4", topic, "end", delay=0.4)
        got = [message.data for message in await take(messages, 2)]
    equal(got, ["replacing", "end"], "what was sent")


@check("log-durable")
async def a_delayed_message_can_be_called_off(subject: Subject) -> None:
    """What was published with a delay has a schedule, named by the id in the receipt."""
    topic, bus = subject.topic("later"), _bus(subject)
    async with bus, bus.subscribe(topic) as messages:
        receipt = await bus.publish(topic, "called off", delay=0.1)
        await bus.unschedule(receipt.id)
        await bus.publish(topic, "end", delay=0.3)
        [message] = await take(messages, 1)
    equal(message.data, "end", "what was sent")


@check("log-durable", "log-survives-process")
async def publishers_that_choose_ids_do_not_replace_each_other(subject: Subject) -> None:
    """Delayed messages of two sources with one id are both sent, after a restart, too."""
    topic, name = subject.topic("later"), subject.name
    async with subject.bus(log=subject.log_url, source=f"/{name}/billing") as billing:
        await billing.publish(topic, 1, id="order 7", delay=0.3)
    shipping = subject.bus(log=subject.log_url, source=f"/{name}/shipping")
    async with shipping, shipping.subscribe(topic) as messages:
        await shipping.publish(topic, 2, id="order 7", delay=0.4)
        got = await take(messages, 2)
    equal({message.source for message in got}, {billing.source, shipping.source}, "sources")
    equal({message.id for message in got}, {"order 7"}, "ids")


@check("log-durable", "log-survives-process")
async def a_bus_that_only_listens_sends_what_is_due(subject: Subject) -> None:
    """Whoever has the log open sends what another one has scheduled."""
    topic = subject.topic("later")
    async with _bus(subject) as bus:
        await bus.publish(topic, "late", delay=0.3)
    listener = _bus(subject)
    async with listener, listener.subscribe(topic) as messages:
        [message] = await take(messages, 1)
    equal(message.data, "late", "what was sent")


@check("log-durable")
async def a_cron_schedule_comes_again(subject: Subject) -> None:
    """Each time that is due has a message with an id of its own, until the schedule is ended."""
    topic, bus = subject.topic("often"), _bus(subject)
    async with bus, bus.subscribe(topic) as messages:
        await bus.schedule(subject.name, topic, "tick", cron="* * * * * */1", timezone="Asia/Tokyo")
        first, second = await take(messages, 2)
        await bus.unschedule(subject.name)
    equal((first.data, second.data), ("tick", "tick"), "payloads")
    that(first.id != second.id, "two messages have one id")
    equal(first.envelope.causationid, second.envelope.causationid, "the cause, their schedule")


@check("log-durable", "log-survives-process")
async def a_schedule_outlives_its_bus(subject: Subject) -> None:
    """What was scheduled by one bus is sent by the next, late if it was due meanwhile, and once."""
    topic, name, seen = subject.topic("later"), subject.name, Seen[str]()
    async with _bus(subject) as bus:
        await bus.schedule(f"{name}-1", topic, "meanwhile", delay=0.3)
        await bus.schedule(f"{name}-2", topic, "ended", delay=0.35)
        await bus.unschedule(f"{name}-2")
        await bus.schedule(f"{name}-3", topic, "much later", delay=60)
    await asyncio.sleep(0.4)
    for _ in range(2):
        bus = _bus(subject)

        @bus.subscribe(topic, durable=f"{name}-d")
        async def handle(message: Message) -> None:
            seen.add(message.data)

        async with bus:
            await bus.publish(topic, "end", delay=0.1)
            await seen.reach(len(seen.items) + 1)
            while seen.items[-1] != "end":
                await seen.reach(len(seen.items) + 1)
    equal(seen.items, ["meanwhile", "end", "end"], "what was sent")


@check("log-durable")
async def a_schedule_is_checked_when_it_is_made(subject: Subject) -> None:
    """Names, times and topics that cannot work are refused, and nothing is kept."""
    topic = subject.topic("later")
    async with _bus(subject) as bus:
        wrongs: tuple[dict[str, Any], ...] = (
            {"cron": "every day"},
            {"cron": "* * * * *", "delay": 1},
            {"cron": "* * * * *", "timezone": "Middle/Earth"},
            {"at": "tomorrow"},
            {"at": datetime(2026, 1, 1)},  # noqa: DTZ001 - what is refused
            {"delay": "soon"},
            {},
        )
        for wrong in wrongs:
            with raises(ConfigError, f"a schedule with {wrong}"):
                await bus.schedule(subject.name, topic, 1, **wrong)
        for name in ("a.b", "", "a b"):
            with raises(ConfigError, f"a schedule named {name!r}"):
                await bus.schedule(name, topic, 1, delay=1)
        with raises(TopicError, "a schedule for no topic"):
            await bus.schedule(subject.name, "a..b", 1, delay=1)
        with raises(UsageError, "a delayed message with expect"):
            await bus.publish(topic, 1, delay=1, expect="none")
        kept = [message.id async for message in bus.replay(f"$schedule.{subject.name}")]
        equal(kept, [], "schedules that were kept")
