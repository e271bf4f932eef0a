"""Checks: a bus with a log: appended first, delivered after, and read again."""

import asyncio
from typing import Any

from hms_bus.bus import Bus, Message
from hms_bus.errors import ConflictError, UnsupportedError
from hms_bus.testing.conformance.probes import Seen, equal, raises, take, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import Fault, checks_of

check = checks_of("logged")
unlogged = checks_of("unlogged")

ALL: set[Fault] = {"drop", "duplicate", "delay", "reorder"}
"""What only looks at the log survives whatever the network does."""


async def _replayed(bus: Bus, pattern: str, **options: Any) -> list[Message]:
    async def collect() -> list[Message]:
        return [message async for message in bus.replay(pattern, **options)]

    return await within(collect(), "the end of the replay")


@check(survives=ALL)
async def a_receipt_tells_the_place_in_the_log(subject: Subject) -> None:
    """Publishing returns the position at which the message can be read again."""
    topic = subject.topic("kept")
    async with subject.publisher() as bus:
        receipts = [await bus.publish(topic, number) for number in range(5)]
        replayed = await _replayed(bus, topic)
    equal([m.position for m in replayed], [r.position for r in receipts], "positions")
    equal([m.id for m in replayed], [r.id for r in receipts], "ids")
    equal([m.data for m in replayed], list(range(5)), "payloads")
    that(not any(receipt.duplicate for receipt in receipts), "a new message is no duplicate")


@check(survives={"delay", "reorder", "duplicate"})
async def what_is_delivered_is_in_the_log(subject: Subject) -> None:
    """When a handler gets a message, the log holds it: nobody sees what a crash can take back."""
    topic, sender, listener = subject.topic("kept"), subject.publisher(), subject.bus()
    found = Seen[tuple[str, list[str]]]()

    @listener.subscribe(topic)
    async def handle(message: Message) -> None:
        logged = [record.id for record in await _replayed(sender, topic)]
        found.add((message.id, logged))

    async with listener, sender:
        for number in range(5):
            await sender.publish(topic, number)
        for delivered, logged in await found.reach(5):
            that(delivered in logged, f"{delivered} was delivered, and is not in the log")


@check("log-dedup", survives={"delay"})
async def the_same_id_is_published_once(subject: Subject) -> None:
    """A second publish with the same id is answered as duplicate and delivered to nobody."""
    topic = subject.topic("once")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        first = await sender.publish(topic, "first", id="order-7")
        again = await sender.publish(topic, "again", id="order-7")
        await sender.publish(topic, "end")
        equal([m.data for m in await take(messages, 2)], ["first", "end"], "what was delivered")
        equal((again.position, again.duplicate), (first.position, True), "second receipt")
        equal([m.data for m in await _replayed(sender, topic)], ["first", "end"], "the log")


@check("log-expect", survives={"delay"})
async def a_conflict_publishes_nothing(subject: Subject) -> None:
    """`expect` that does not hold raises ConflictError; nothing is kept or delivered."""
    topic = subject.topic("account")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        first = await sender.publish(topic, 1, expect="none")
        with raises(ConflictError, "publish with expect='none'") as caught:
            await sender.publish(topic, 2, expect="none")
        equal(caught.error.actual, first.position, "actual position")
        await sender.publish(topic, 3, expect=first.position or 0)
        equal([m.data for m in await take(messages, 2)], [1, 3], "what was delivered")
        equal([m.data for m in await _replayed(sender, topic)], [1, 3], "the log")


@check("log-batch", survives={"delay"})
async def a_batch_is_kept_and_delivered_as_one(subject: Subject) -> None:
    """Batches that are published at once stand in the log as neighbours, and arrive in order."""
    topic = subject.topic("batch")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        batches = [[(topic, [batch, item]) for item in range(5)] for batch in range(8)]
        receipts = await asyncio.gather(*map(sender.publish_many, batches))
        for receipt in receipts:
            first = receipt[0].position or 0
            equal([r.position for r in receipt], list(range(first, first + 5)), "positions")
        arrived = [m.data for m in await take(messages, 40)]
        logged = [m.data for m in await _replayed(sender, topic)]
    for batch in range(8):
        mine = [item for item in arrived if item[0] == batch]
        equal(mine, [[batch, item] for item in range(5)], "order within a batch")
    equal(sorted(arrived), sorted(logged), "what arrived and what was kept")


@check(survives=ALL)
async def a_replay_selects_what_was_asked_for(subject: Subject) -> None:
    """A replay is narrowed by pattern, position, type, conversation, source and number."""
    a, b = subject.topic("a"), subject.topic("b")
    async with subject.publisher() as bus:
        receipts = [
            await bus.publish((a, b)[n % 2], n, type=f"t{n % 3}", correlationid=f"c{n % 4}")
            for n in range(12)
        ]
        both, ninth = subject.topic("*"), receipts[8].position or 0
        selections: list[tuple[dict[str, Any], list[int]]] = [
            ({"pattern": a}, [0, 2, 4, 6, 8, 10]),
            ({"pattern": both, "after": ninth}, [9, 10, 11]),
            ({"pattern": both, "types": ["t1"]}, [1, 4, 7, 10]),
            ({"pattern": both, "correlation": "c3"}, [3, 7, 11]),
            ({"pattern": both, "source": "/nobody"}, []),
            ({"pattern": both, "source": bus.source, "limit": 2}, [0, 1]),
            ({"pattern": b, "types": ["t2"], "correlation": "c1"}, [5]),
        ]
        for options, expected in selections:
            replayed = await _replayed(bus, **options)
            equal([m.data for m in replayed], expected, f"replay of {options}")


@check("log-read-backwards", survives=ALL)
async def a_replay_can_run_backwards(subject: Subject) -> None:
    """`backwards` yields the newest first; with `limit` the last ones."""
    topic = subject.topic("kept")
    async with subject.publisher() as bus:
        for number in range(10):
            await bus.publish(topic, number)
        replayed = await _replayed(bus, topic, backwards=True, limit=3)
        equal([m.data for m in replayed], [9, 8, 7], "the last three")


@check("log-read-by-time", survives=ALL)
async def a_replay_can_begin_at_a_moment(subject: Subject) -> None:
    """`since` and `until` are durations before now, or moments; both bounds belong to it."""
    topic = subject.topic("kept")
    async with subject.publisher() as bus:
        for number in range(3):
            await bus.publish(topic, number)
        everything = await _replayed(bus, topic, since="1h")
        equal([m.data for m in everything], [0, 1, 2], "the last hour")
        equal(await _replayed(bus, topic, until="1h"), [], "before the last hour")
        for message in everything:
            that(message.recorded and message.recorded.tzinfo, f"recorded {message.recorded!r}")


@check("log-follow", survives=ALL)
async def a_replay_can_follow(subject: Subject) -> None:
    """`follow` goes on with what is published during it, without gap or duplicate."""
    topic = subject.topic("kept")
    async with subject.publisher() as bus:
        for number in range(20):
            await bus.publish(topic, number)
        following = asyncio.create_task(_replayed(bus, topic, follow=True, limit=60))
        publishing = [bus.publish(topic, number) for number in range(20, 60)]
        await asyncio.gather(*publishing)
        replayed = await following
    equal([m.data for m in replayed], list(range(60)), "what was followed")


@check(survives=ALL)
async def a_replay_hands_out_captures(subject: Subject) -> None:
    """Messages of a replay have what the pattern's names stand for."""
    async with subject.publisher() as bus:
        await bus.publish(subject.topic("orders.eu"), 1)
        [message] = await _replayed(bus, subject.topic("orders.{region}"))
    equal(dict(message.captures), {"region": "eu"}, "captures")


@check("groups", survives={"delay", "reorder"})
async def a_conversation_is_kept_with_its_answers(subject: Subject) -> None:
    """The log holds a request and its answer, under `$reply.` and the request's topic."""
    topic, agent = subject.topic("ask"), subject.publisher()

    @agent.serve(topic)
    async def answer(number: int) -> int:
        return number + 1

    async with agent:
        equal(await agent.request(topic, 1), 2, "answer")
        [request] = await _replayed(agent, topic)
        [reply] = await _replayed(agent, f"$reply.{topic}")
    equal((request.data, reply.data), (1, 2), "payloads")
    equal(reply.envelope.causationid, request.id, "causationid of the reply")
    equal(reply.envelope.correlationid, request.envelope.correlationid, "correlationid")


@check(survives=ALL)
async def system_topics_are_not_kept(subject: Subject) -> None:
    """What is sent on `$` topics, inboxes and controls is no part of the record."""
    async with subject.publisher() as bus:
        system = await bus.publish(f"${subject.name}.a", 1)
        equal(system.position, None, "position of a message on a system topic")
        equal(await _replayed(bus, f"${subject.name}.>"), [], "the log")


@check(survives=ALL)
async def only_what_is_logged_is_kept(subject: Subject) -> None:
    """With `logged` patterns other topics have no position, and `expect` is not for them."""
    kept, other = subject.topic("kept"), subject.topic("other")
    async with subject.publisher(logged=[kept]) as bus:
        that((await bus.publish(kept, 1)).position, "a logged message has no position")
        equal((await bus.publish(other, 2)).position, None, "position")
        with raises(UnsupportedError, "expect on a topic that is not logged"):
            await bus.publish(other, 3, expect="none")
        equal([m.data for m in await _replayed(bus, subject.topic(">"))], [1], "the log")


@unlogged()
async def a_bus_without_a_log_says_so(subject: Subject) -> None:
    """Without a log, `bus.log` and `expect` raise UnsupportedError, and there is no position."""
    topic = subject.topic("unlogged")
    async with subject.publisher(log=None, logged=[]) as bus, bus.subscribe(topic) as messages:
        with raises(UnsupportedError, "publish with expect"):
            await bus.publish(topic, 1, expect="none")
        with raises(UnsupportedError, "publish_many with expect"):
            await bus.publish_many([(topic, 1)], expect=0)
        receipt = await bus.publish(topic, 2)
        equal((receipt.position, receipt.duplicate), (None, False), "receipt")
        equal((await take(messages, 1))[0].data, 2, "the first message that arrives")


@unlogged()
async def a_replay_without_a_log_is_refused(subject: Subject) -> None:
    """Without a log, a replay raises UnsupportedError; a transport may bring a log of its own."""
    async with subject.publisher(log=None) as bus:
        try:
            log = bus.log
        except UnsupportedError:
            with raises(UnsupportedError, "a replay without a log"):
                await _replayed(bus, subject.topic(">"))
        else:
            that((await log.head()).position >= 0, "the transport's log has no head")
