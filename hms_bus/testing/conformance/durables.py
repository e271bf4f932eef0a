"""Checks: what a log's durables deliver, how often, and what becomes of it."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hms_bus.abc import Consumer, ConsumingLog, Delivery, Durable, DurableInfo, Outcome, Settlement
from hms_bus.ids import format_time
from hms_bus.testing.conformance.appending import event
from hms_bus.testing.conformance.probes import equal, read, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")

SOON_S = 0.15
"""An ack wait that a check lets pass."""

MANY = 50


def durable(subject: Subject, name: str = "d", /, **settings: Any) -> Durable:
    """Return a durable of this check's own, on all its topics."""
    pattern = settings.pop("pattern", subject.topic(">"))
    return Durable(name=f"{subject.name}-{name}", pattern=pattern, **settings)


@asynccontextmanager
async def opened(subject: Subject, *keys: str | None) -> AsyncGenerator[tuple[ConsumingLog, int]]:
    """Open the log with an event for each key, its payload the number; tell the first position."""
    async with subject.open_log() as log:
        if not isinstance(log, ConsumingLog):
            raise AssertionError(f"{log!r} is no ConsumingLog")  # noqa: TRY004 - a check's
        positions = await fill(log, subject, *keys)
        yield log, positions[0] if positions else 0


async def fill(log: ConsumingLog, subject: Subject, *keys: str | None) -> list[int]:
    """Append an event for each key and return their positions."""
    positions: list[int] = []
    for number, key in enumerate(keys):
        [receipt] = await log.append([event(subject, number, partitionkey=key)])
        positions.append(receipt.position or 0)
    return positions


async def fetch(consumer: Consumer, count: int) -> list[Delivery]:
    """Return the next `count` deliveries, in as many steps as it takes."""
    got: list[Delivery] = []
    while len(got) < count:
        what = f"delivery {len(got) + 1} of {count}"
        got += await within(consumer.fetch(count - len(got)), what)
    return got


async def settle(
    consumer: Consumer, deliveries: Iterable[Delivery], outcome: Outcome = "ack", **how: Any
) -> None:
    """Say the same of all `deliveries`."""
    settlements = [
        Settlement(
            position=delivery.record.position, attempt=delivery.attempt, outcome=outcome, **how
        )
        for delivery in deliveries
    ]
    await within(consumer.settle(settlements), f"settling by {outcome}")


async def nothing_comes(consumer: Consumer, what: str) -> None:
    """Fail when something is delivered within a moment."""
    try:
        async with asyncio.timeout(SOON_S / 2):
            unexpected = await consumer.fetch(10)
    except TimeoutError:
        return
    raise AssertionError(f"{what}: {told(unexpected)} came")


async def info(log: ConsumingLog, wanted: Durable) -> DurableInfo:
    """Return how a durable stands."""
    [found] = [each for each in await log.durables() if each.durable.name == wanted.name]
    return found


def told(deliveries: Sequence[Delivery]) -> list[tuple[Any, int]]:
    """Return payload and attempt of each."""
    return [(delivery.record.envelope.decode(), delivery.attempt) for delivery in deliveries]


def numbers(deliveries: Sequence[Delivery]) -> list[Any]:
    """Return the payloads."""
    return [delivery.record.envelope.decode() for delivery in deliveries]


async def dead_letters(log: ConsumingLog, wanted: Durable) -> list[Any]:
    """Return the payloads of a durable's dead letters."""
    records = await read(log, pattern=f"$dlq.{wanted.name}")
    return [record.envelope.decode() for record in records]


# -- what is delivered -------------------------------------------------------------------------


@check("log-durable")
async def a_durable_delivers_what_is_there_in_order(subject: Subject) -> None:
    """A new durable begins at the first record and delivers all, in order, as first attempts."""
    async with opened(subject, *[None] * MANY) as (log, _), log.consume(durable(subject)) as taking:
        equal(told(await fetch(taking, MANY)), [(n, 1) for n in range(MANY)], "deliveries")


@check("log-durable")
async def catching_up_and_live_meet_without_gap_or_double(subject: Subject) -> None:
    """What is appended while a durable catches up is delivered once, in its place."""
    async with opened(subject, *[None] * MANY) as (log, _), log.consume(durable(subject)) as taking:

        async def append() -> None:
            for number in range(MANY, 2 * MANY):
                await log.append([event(subject, number)])

        appending = asyncio.create_task(append())
        got: list[Delivery] = []
        while len(got) < 2 * MANY:
            more = await within(taking.fetch(7), "deliveries")
            await settle(taking, more)
            got += more
        await within(appending, "the appends")
        equal(numbers(got), list(range(2 * MANY)), "deliveries")
        await nothing_comes(taking, "when all was delivered")


@check("log-durable")
async def a_durable_delivers_what_its_pattern_selects(subject: Subject) -> None:
    """Records on other topics are not delivered."""
    async with opened(subject) as (log, _):
        for number, topic in enumerate(("a.x", "b.x", "a.y", "a", "a.x.z")):
            await log.append([event(subject, number, topic)])
        wanted = durable(subject, pattern=subject.topic("a.*"))
        async with log.consume(wanted) as taking:
            equal((await info(log, wanted)).lag, 2, "lag at first")
            equal(numbers(await fetch(taking, 2)), [0, 2], "deliveries")
            await nothing_comes(taking, "of another topic")
            equal((await info(log, wanted)).lag, 0, "lag at last")


@check("log-durable")
async def a_new_durable_can_begin_anywhere(subject: Subject) -> None:
    """`start` is the beginning, the end, or a position; `start_ns` a time."""
    async with opened(subject, *[None] * 4) as (log, first):
        records = await read(log, pattern=subject.topic(">"))
        that(first > 0, "the first record has no position")
        starts: dict[str, tuple[dict[str, Any], list[Any]]] = {
            "beginning": ({"start": "beginning"}, [0, 1, 2, 3]),
            "position": ({"start": records[2].position}, [2, 3, "beginning"]),
            "time": ({"start_ns": records[0].recorded_ns}, [0, 1, 2, 3, "beginning", "position"]),
            "future": ({"start_ns": 2**62}, []),
            "end": ({"start": "end"}, []),
        }
        for name, (start, there) in starts.items():
            async with log.consume(durable(subject, name, **start)) as taking:
                await log.append([event(subject, name)])
                expected = [*there, name]
                equal(numbers(await fetch(taking, len(expected))), expected, f"from {name}")


@check("log-durable")
async def what_is_expired_is_not_delivered(subject: Subject) -> None:
    """A record whose `expirytime` is over counts as settled."""
    async with opened(subject) as (log, _):
        over = format_time(1_000_000_000)
        await log.append([event(subject, "late", expirytime=over)])
        await log.append([event(subject, "good")])
        wanted = durable(subject)
        async with log.consume(wanted) as taking:
            good = await fetch(taking, 1)
            equal(numbers(good), ["good"], "deliveries")
            await settle(taking, good)
            equal((await info(log, wanted)).floor, good[0].record.position, "floor")


# -- what becomes of it ------------------------------------------------------------------------


@check("log-durable")
async def what_was_acked_does_not_come_again(subject: Subject) -> None:
    """The next consumer goes on behind what was acked, also when that was out of order."""
    async with opened(subject, *[None] * 5) as (log, _):
        async with log.consume(durable(subject)) as taking:
            got = await fetch(taking, 4)
            await settle(taking, [got[0], got[2], got[3]])
        async with log.consume(durable(subject)) as taking:
            equal(numbers(await fetch(taking, 2)), [1, 4], "deliveries")
            await nothing_comes(taking, "that was acked")


@check("log-durable")
async def a_nak_brings_it_again(subject: Subject) -> None:
    """A delivery that is naked comes again as the next attempt, after its delay, and first."""
    async with opened(subject, *[None] * 3) as (log, _), log.consume(durable(subject)) as taking:
        first = await fetch(taking, 1)
        await settle(taking, first, "nak", delay_s=0.05)
        others = await fetch(taking, 2)
        equal(told(others), [(1, 1), (2, 1)], "deliveries during the delay")
        equal(told(await fetch(taking, 1)), [(0, 2)], "delivery after it")


@check("log-durable")
async def a_deferred_delivery_counts_no_attempt(subject: Subject) -> None:
    """A delivery that is deferred comes again, as the same attempt, as often as it is."""
    wanted = durable(subject, max_deliveries=1)
    async with opened(subject, None) as (log, _), log.consume(wanted) as taking:
        for _ in range(4):
            got = await fetch(taking, 1)
            equal(told(got), [(0, 1)], "delivery")
            await settle(taking, got, "defer")
        equal(await dead_letters(log, wanted), [], "dead letters")


@check("log-durable")
async def a_term_makes_a_dead_letter(subject: Subject) -> None:
    """A delivery that is terminated becomes a dead letter: the original, and why."""
    wanted = durable(subject)
    async with opened(subject, None, None) as (log, first), log.consume(wanted) as taking:
        got = await fetch(taking, 1)
        await settle(taking, got, "term", code="INVALID_ARGUMENT", reason="too odd")
        [record] = await read(log, pattern=f"$dlq.{wanted.name}")
        letter = record.envelope.decode()
        equal(letter["durable"], wanted.name, "durable")
        equal((letter["position"], letter["attempts"]), (first, 1), "position and attempts")
        equal((letter["code"], letter["reason"]), ("INVALID_ARGUMENT", "too odd"), "why")
        equal(letter["envelope"]["id"], got[0].record.envelope.id, "id of the original")
        equal(letter["envelope"]["data"], 0, "payload of the original")
        equal(record.envelope.causationid, got[0].record.envelope.id, "cause")
        equal(numbers(await fetch(taking, 1)), [1], "the next delivery")


@check("log-durable")
async def the_last_failure_makes_a_dead_letter(subject: Subject) -> None:
    """After `max_deliveries` a nak ends it; what is behind it is delivered."""
    wanted = durable(subject, max_deliveries=2)
    async with opened(subject, "k", "k") as (log, _), log.consume(wanted) as taking:
        for attempt in (1, 2):
            got = await fetch(taking, 1)
            equal(told(got), [(0, attempt)], "delivery")
            await settle(taking, got, "nak", reason=f"failure {attempt}")
        equal(told(await fetch(taking, 1)), [(1, 1)], "the next delivery")
        [letter] = await dead_letters(log, wanted)
        equal((letter["attempts"], letter["reason"]), (2, "failure 2"), "the dead letter")


@check("log-durable")
async def what_is_not_settled_comes_again(subject: Subject) -> None:
    """After the ack wait a delivery is made again, marked by its attempt."""
    wanted = durable(subject, ack_wait_s=SOON_S)
    async with opened(subject, None) as (log, _), log.consume(wanted) as taking:
        equal(told(await fetch(taking, 1)), [(0, 1)], "delivery")
        equal(told(await fetch(taking, 1)), [(0, 2)], "delivery after the ack wait")


@check("log-durable")
async def who_never_answers_ends_as_a_dead_letter(subject: Subject) -> None:
    """A record whose last ack wait is over becomes a dead letter."""
    wanted = durable(subject, ack_wait_s=SOON_S, max_deliveries=2)
    async with opened(subject, "k", "k") as (log, _), log.consume(wanted) as taking:
        equal(told(await fetch(taking, 1)), [(0, 1)], "delivery")
        equal(told(await fetch(taking, 1)), [(0, 2)], "delivery after the ack wait")
        equal(told(await fetch(taking, 1)), [(1, 1)], "the next of its key")
        [letter] = await dead_letters(log, wanted)
        equal((letter["attempts"], letter["code"]), (2, "DEADLINE_EXCEEDED"), "the dead letter")


@check("log-durable")
async def progress_makes_the_ack_wait_begin_anew(subject: Subject) -> None:
    """What is reported as being in progress is not delivered again meanwhile."""
    wanted = durable(subject, ack_wait_s=4 * SOON_S)
    async with opened(subject, None) as (log, _), log.consume(wanted) as taking:
        got = await fetch(taking, 1)
        for _ in range(8):
            await nothing_comes(taking, "while it is in progress")
            await settle(taking, got, "progress")
        await settle(taking, got)
        equal((await info(log, wanted)).unacked, 0, "unacked")


@check("log-durable")
async def an_old_attempt_settles_nothing(subject: Subject) -> None:
    """Who is late, and answers for an attempt that was made again since, changes nothing."""
    wanted = durable(subject, ack_wait_s=SOON_S)
    async with opened(subject, None) as (log, _), log.consume(wanted) as taking:
        old = await fetch(taking, 1)
        new = await fetch(taking, 1)
        await settle(taking, old)
        await settle(taking, old, "term")
        equal((await info(log, wanted)).unacked, 1, "unacked")
        equal(await dead_letters(log, wanted), [], "dead letters")
        await settle(taking, new)
        await settle(taking, new, "term")
        equal((await info(log, wanted)).unacked, 0, "unacked")
        equal(await dead_letters(log, wanted), [], "dead letters")


@check("log-durable")
async def the_cursor_is_what_was_handled(subject: Subject) -> None:
    """The floor is the last position up to which all is settled, not one that was merely read."""
    wanted = durable(subject)
    async with opened(subject, *[None] * 4) as (log, _), log.consume(wanted) as taking:
        got = await fetch(taking, 4)
        equal((await info(log, wanted)).floor, 0, "floor at first")
        await settle(taking, got[1:3])
        that((await info(log, wanted)).floor < got[0].record.position, "floor with one unsettled")
        await settle(taking, got[:1])
        stands = await info(log, wanted)
        equal(stands.floor, got[2].record.position, "floor")
        equal(stands.delivered, got[3].record.position, "delivered")
        equal((stands.unacked, stands.consumers), (1, 1), "unacked and consumers")
