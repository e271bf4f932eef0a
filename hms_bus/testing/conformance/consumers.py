"""Checks: who takes from a durable, how much at once, in which order, and what is asked of it."""

import asyncio
import time
from typing import Any

from hms_bus.abc import Durable
from hms_bus.errors import DurableInUseError, StateError, TopicError, UsageError
from hms_bus.ids import format_time
from hms_bus.testing.conformance.appending import event
from hms_bus.testing.conformance.durables import (
    SOON_S,
    durable,
    fetch,
    info,
    nothing_comes,
    numbers,
    opened,
    settle,
    told,
)
from hms_bus.testing.conformance.probes import equal, raises, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")


# -- limits and order --------------------------------------------------------------------------


@check("log-durable")
async def unacked_deliveries_are_limited(subject: Subject) -> None:
    """No more than `max_unacked` are out, whoever asks, and those that wait for a try count."""
    wanted = durable(subject, max_unacked=3)
    async with opened(subject, *[None] * 6) as (log, _), log.consume(wanted) as taking:
        got = await fetch(taking, 3)
        await nothing_comes(taking, "beyond max_unacked")
        await settle(taking, got[:1], "nak", delay_s=30)
        await nothing_comes(taking, "beyond max_unacked, one waits")
        await settle(taking, got[1:2])
        equal(numbers(await fetch(taking, 1)), [3], "delivery once there is room")
        await nothing_comes(taking, "beyond max_unacked again")


@check("log-durable")
async def a_key_has_one_delivery_at_a_time(subject: Subject) -> None:
    """Records with one `partitionkey` come one after the other; other keys do not wait."""
    keys, wanted = ("a", "a", "b", None, "a"), durable(subject)
    async with opened(subject, *keys) as (log, _), log.consume(wanted) as taking:
        got = await fetch(taking, 3)
        equal(numbers(got), [0, 2, 3], "deliveries at first")
        await nothing_comes(taking, "of a key that is not settled")
        equal((await info(log, wanted)).lag, 2, "lag, those that wait for their key included")
        await settle(taking, got[:1])
        second = await fetch(taking, 1)
        equal(numbers(second), [1], "the next of the key")
        await settle(taking, second)
        equal(numbers(await fetch(taking, 1)), [4], "the last of the key")


@check("log-durable")
async def a_key_waits_for_its_retry(subject: Subject) -> None:
    """While a record waits to be tried again, the later ones of its key wait, too."""
    keys = ("a", "a", "b")
    async with opened(subject, *keys) as (log, _), log.consume(durable(subject)) as taking:
        got = await fetch(taking, 2)
        await settle(taking, got[:1], "nak", delay_s=SOON_S)
        again = await fetch(taking, 1)
        equal(told(again), [(0, 2)], "delivery")
        await settle(taking, again)
        equal(told(await fetch(taking, 1)), [(1, 1)], "the next of the key")


@check("log-durable")
async def fetching_that_is_cancelled_loses_nothing(subject: Subject) -> None:
    """Who gives up waiting gets what comes when he asks again, as the first attempt."""
    async with opened(subject) as (log, _), log.consume(durable(subject)) as taking:
        for number in range(20):
            waiting = asyncio.create_task(taking.fetch(5))
            await asyncio.sleep(0)
            await log.append([event(subject, number)])
            waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                equal(told(waiting.result()), [(number, 1)], "delivery in spite of it")
                continue
            equal(told(await fetch(taking, 1)), [(number, 1)], "delivery")


# -- who takes ---------------------------------------------------------------------------------


@check("log-durable")
async def consumers_of_a_group_share_a_durable(subject: Subject) -> None:
    """Each record goes to one of them, and what one hands back to another."""
    wanted = durable(subject, group="workers")
    async with opened(subject, *[None] * 10) as (log, _), log.consume(wanted) as one:
        async with log.consume(wanted) as other:
            mine, theirs = await fetch(one, 4), await fetch(other, 6)
            equal(sorted(numbers(mine) + numbers(theirs)), list(range(10)), "deliveries")
            equal((await info(log, wanted)).consumers, 2, "consumers")
            await settle(other, theirs[1:])
        await settle(one, mine)
        equal(told(await fetch(one, 1)), [(theirs[0].record.envelope.decode(), 1)], "rest")


@check("log-durable")
async def without_a_group_there_is_one_consumer(subject: Subject) -> None:
    """A second consumer gets DurableInUseError, until the first is closed."""
    wanted = durable(subject)
    async with opened(subject, None) as (log, _):
        async with log.consume(wanted):
            with raises(DurableInUseError, "a second consumer"):
                async with log.consume(wanted):
                    pass
        async with log.consume(wanted) as taking:
            equal(numbers(await fetch(taking, 1)), [0], "deliveries")


@check("log-durable")
async def a_durable_keeps_its_pattern_and_group(subject: Subject) -> None:
    """A durable that exists cannot be asked for with another pattern or group; limits can."""
    async with opened(subject, *[None] * 3) as (log, _):
        async with log.consume(durable(subject, max_unacked=1)):
            pass
        for other in ({"pattern": subject.topic("a")}, {"group": "workers"}):
            with raises(UsageError, f"the durable with {other}"):
                async with log.consume(durable(subject, **other)):
                    pass
        async with log.consume(durable(subject, max_unacked=2, start="end")) as taking:
            equal(numbers(await fetch(taking, 2)), [0, 1], "deliveries with a new limit")


@check("log-durable")
async def a_durable_is_checked_when_it_is_asked_for(subject: Subject) -> None:
    """Names, patterns and limits that cannot work are refused."""
    async with opened(subject) as (log, _):
        for settings in (
            {"name": "a.b"},
            {"name": ""},
            {"name": "a b"},
            {"max_deliveries": 0},
            {"max_unacked": 0},
            {"ack_wait_s": 0.0},
            {"start": 0},
            {"start": True},
            {"max_unacked": 1.5},
            {"max_unacked": float("inf")},
            {"ack_wait_s": float("nan")},
            {"group": ""},
            {"group": "\ud800"},
        ):
            given: dict[str, Any] = {"name": "d", "pattern": subject.topic(">"), **settings}
            with raises(UsageError, f"a durable with {settings}"):
                async with log.consume(Durable(**given)):
                    pass
        with raises(TopicError, "a durable on no pattern"):
            async with log.consume(durable(subject, pattern="a..b")):
                pass


@check("log-durable")
async def a_consumer_that_closes_hands_back(subject: Subject) -> None:
    """What a closed consumer had not settled is delivered at once, and was not counted."""
    async with opened(subject, None, None) as (log, _):
        async with log.consume(durable(subject)) as taking:
            await fetch(taking, 2)
        async with log.consume(durable(subject)) as taking:
            equal(told(await fetch(taking, 2)), [(0, 1), (1, 1)], "deliveries")


@check("log-durable")
async def a_closed_consumer_settles_nothing(subject: Subject) -> None:
    """Who has handed back a delivery cannot settle it: it is another one's now."""
    wanted = durable(subject, group="workers")
    async with opened(subject, "k", "k") as (log, _), log.consume(wanted) as other:
        async with log.consume(wanted) as taking:
            old = await fetch(taking, 1)
        equal(told(await fetch(other, 1)), [(0, 1)], "delivery")
        with raises(StateError, "settling at a closed consumer"):
            await settle(taking, old)
        await nothing_comes(other, "of the same key")


@check("log-durable")
async def an_abandoned_delivery_waits(subject: Subject) -> None:
    """What a consumer had that is out of reach comes again after the ack wait, counted."""
    wanted = durable(subject, group="workers", ack_wait_s=2 * SOON_S)
    async with opened(subject, None) as (log, _), log.consume(wanted) as other:
        async with log.consume(wanted) as taking:
            await fetch(taking, 1)
            taking.abandon()
        await nothing_comes(other, "before the ack wait is over")
        equal(told(await fetch(other, 1)), [(0, 2)], "delivery")


# -- what is asked of it -----------------------------------------------------------------------


@check("log-durable")
async def dead_letters_can_be_redriven(subject: Subject) -> None:
    """A dead letter is delivered again to its durable, and to no other, from attempt 1."""
    wanted, other = durable(subject), durable(subject, "other")
    async with opened(subject, "k", "k") as (log, first):
        async with log.consume(wanted) as taking, log.consume(other) as bystander:
            await settle(bystander, await fetch(bystander, 1))
            await settle(bystander, await fetch(bystander, 1))
            await settle(taking, await fetch(taking, 1), "term")
            await settle(taking, await fetch(taking, 1))
            await within(log.redrive(wanted.name, [first]), "redriving")
            again = await fetch(taking, 1)
            equal(told(again), [(0, 1)], "delivery")
            await settle(taking, again)
            await nothing_comes(bystander, "at another durable")
            with raises(UsageError, "redriving once more"):
                await log.redrive(wanted.name, [first])
        with raises(UsageError, "redriving for nobody"):
            await log.redrive(f"{subject.name}-nobody", [first])


@check("log-durable")
async def what_has_expired_can_be_redriven(subject: Subject) -> None:
    """A dead letter is delivered though it has expired meanwhile, whoever redrives it."""
    wanted = durable(subject)
    async with opened(subject) as (log, _):
        over_ns = time.time_ns() + round(SOON_S * 1e9)
        [receipt] = await log.append([event(subject, "late", expirytime=format_time(over_ns))])
        async with log.consume(wanted) as taking:
            await settle(taking, await fetch(taking, 1), "term")
        await asyncio.sleep(SOON_S)
        await log.redrive(wanted.name, [receipt.position or 0])
        async with log.consume(wanted) as taking:
            equal(told(await fetch(taking, 1)), [("late", 1)], "delivery")
        async with log.consume(wanted) as taking:
            equal(told(await fetch(taking, 1)), [("late", 1)], "delivery to the next consumer")


@check("log-durable")
async def a_durable_gets_no_dead_letters_of_its_own(subject: Subject) -> None:
    """One on the topics of dead letters gets those of others, and those after a restart, too."""
    wanted = durable(subject, "letters", pattern="$dlq.*", start="end")
    async with opened(subject, None, None) as (log, _):
        async with log.consume(wanted) as reading:
            async with log.consume(durable(subject)) as taking:
                await settle(taking, await fetch(taking, 2), "term")
            letters = await fetch(reading, 2)
            await settle(reading, letters[1:], "term")
            await nothing_comes(reading, "of its own")
        async with log.consume(wanted) as reading:
            again = await fetch(reading, 1)
            equal(again[0].record.position, letters[0].record.position, "the other letter")
            await nothing_comes(reading, "of its own")
        stands = await info(log, wanted)
        equal((stands.lag, len(stands.dead)), (0, 1), "lag and open dead letters")


@check("log-durable")
async def a_forgotten_durable_begins_anew(subject: Subject) -> None:
    """What is forgotten is not listed, and its name is a new durable."""
    wanted = durable(subject)
    async with opened(subject, None) as (log, _):
        async with log.consume(wanted) as taking:
            await settle(taking, await fetch(taking, 1))
            with raises(DurableInUseError, "forgetting one that is in use"):
                await log.forget(wanted.name)
        await log.forget(wanted.name)
        names = [each.durable.name for each in await log.durables()]
        that(wanted.name not in names, "it is still listed")
        with raises(UsageError, "forgetting it twice"):
            await log.forget(wanted.name)
        async with log.consume(wanted) as taking:
            equal(told(await fetch(taking, 1)), [(0, 1)], "delivery")


@check("log-durable", "log-survives-process")
async def a_durable_outlives_the_log_that_is_closed(subject: Subject) -> None:
    """Cursor, attempts, waits and dead letters go on where they were."""
    wanted = durable(subject, max_deliveries=3)
    async with opened(subject, *[None] * 5) as (log, first), log.consume(wanted) as taking:
        got = await fetch(taking, 4)
        await settle(taking, got[:1])
        await settle(taking, got[1:2], "nak")
        await settle(taking, got[2:3], "term")
    async with opened(subject) as (log, _):
        stands = await info(log, wanted)
        equal((stands.floor, stands.delivered), (first, first + 3), "floor and delivered")
        async with log.consume(wanted) as taking:
            equal(told(await fetch(taking, 3)), [(1, 2), (3, 1), (4, 1)], "deliveries")
            await log.redrive(wanted.name, [first + 2])
            equal(told(await fetch(taking, 1)), [(2, 1)], "delivery of the dead letter")
