"""A durable at work on a log: who is woken, what is kept though a step fails, and what is not."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from hms_bus.abc import (
    Consumer,
    ConsumingLog,
    Delivery,
    Durable,
    Head,
    Outcome,
    Selector,
    Settlement,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import LogError, LogReadOnlyError, StateError, UsageError
from hms_bus.log.durable.dead import DeadLetter, original_of, read_dead_letter
from hms_bus.logrules import dead_letter_topic
from hms_bus.payload import MAX_BYTES, MAX_DEPTH
from hms_bus.plugins import open_log
from tests.support.events import event, events

SHARED = Durable(name="d", pattern="orders.>", group="workers")
PATIENCE_S = 20


def consuming(log: Any) -> ConsumingLog:
    assert isinstance(log, ConsumingLog)
    return log


async def fetch(consumer: Consumer, limit: int = 9) -> list[Delivery]:
    async with asyncio.timeout(PATIENCE_S):
        return await consumer.fetch(limit)


def settlements(
    deliveries: Sequence[Delivery], outcome: Outcome = "ack", **how: Any
) -> list[Settlement]:
    return [
        Settlement(position=each.record.position, attempt=each.attempt, outcome=outcome, **how)
        for each in deliveries
    ]


def told(deliveries: Sequence[Delivery]) -> list[tuple[int, int]]:
    return [(each.record.position, each.attempt) for each in deliveries]


async def fill(log: ConsumingLog) -> None:
    while True:
        await log.append([event("other", "x" * 1000)])


async def letters(log: ConsumingLog) -> list[DeadLetter]:
    wanted = Selector(pattern=dead_letter_topic("d"))
    return [read_dead_letter(record.envelope) async for record in log.read(wanted)]


async def test_who_is_woken_and_cancelled_lets_the_next_one_look(log: ConsumingLog) -> None:
    await log.append([event()])
    async with log.consume(SHARED) as one, log.consume(SHARED) as other:
        taken = await fetch(one)
        first = asyncio.create_task(one.fetch(1))
        second = asyncio.create_task(other.fetch(1))
        await asyncio.sleep(0)
        settling = asyncio.create_task(one.settle(settlements(taken, "nak")))
        # In the same turn of the loop, when the first is woken and has not run yet.
        asyncio.get_running_loop().call_soon(first.cancel)
        async with asyncio.timeout(PATIENCE_S):
            await settling
            assert told(await second) == [(1, 2)]
        assert first.cancelled()


async def test_a_fetch_whose_consumer_is_closed_gets_nothing(log: ConsumingLog) -> None:
    async with log.consume(SHARED) as other:
        async with log.consume(SHARED) as one:
            fetching = asyncio.create_task(one.fetch(9))
            await asyncio.sleep(0)
        with pytest.raises(StateError):
            await fetching
        await log.append([event()])
        assert told(await fetch(other)) == [(1, 1)]


async def test_a_cancelled_fetch_loses_nothing(log: ConsumingLog) -> None:
    await log.append(events(20))
    async with log.consume(SHARED) as one:
        got: list[tuple[int, int]] = []
        turns = 0
        while len(got) < 20:
            fetching = asyncio.create_task(one.fetch(1))
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            if turns % 3:
                fetching.cancel()
            turns += 1
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(PATIENCE_S):
                    got += told(await fetching)
        assert got == [(position, 1) for position in range(1, 21)]


async def test_a_start_at_a_time_misses_nothing_that_is_appended_meanwhile(
    log: ConsumingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = log.head

    async def append_and_tell() -> Head:
        await log.append([event()])
        return await head()

    monkeypatch.setattr(log, "head", append_and_tell)
    async with log.consume(Durable(name="d", pattern="orders.>", start_ns=1)) as one:
        assert told(await fetch(one)) == [(1, 1)]


async def test_settling_is_over_when_the_last_consumer_is_closed(log: ConsumingLog) -> None:
    await log.append(events(3))
    async with log.consume(SHARED) as one:
        old = await fetch(one)
    async with log.consume(SHARED) as one:
        await one.settle(settlements(await fetch(one)))
    with pytest.raises(StateError, match="closed"):
        await one.settle(settlements(old, "nak"))
    [info] = await log.durables()
    assert (info.floor, info.delivered, info.unacked) == (3, 3, 0)


@pytest.mark.parametrize("reason", ["\ud800", "x" * 10**6, "\0", ""])
async def test_any_reason_can_stand_in_a_dead_letter(log: ConsumingLog, reason: str) -> None:
    await log.append([event()])
    async with log.consume(SHARED) as one:
        await one.settle(settlements(await fetch(one), "term", reason=reason, code=reason))
    [letter] = await letters(log)
    assert (letter.position, letter.attempts) == (1, 1)
    assert len(letter.reason) <= len(reason)


@pytest.mark.parametrize(("depth", "is_whole"), [(MAX_DEPTH, False), (MAX_DEPTH - 2, True)])
async def test_a_payload_of_any_depth_becomes_a_dead_letter(
    log: ConsumingLog, depth: int, *, is_whole: bool
) -> None:
    data: Any = 0
    for _ in range(depth):
        data = [data]
    await check_dead_letter(log, event(data=data), is_whole=is_whole)


async def test_a_payload_of_any_size_becomes_a_dead_letter(log: ConsumingLog) -> None:
    data = "x" * (MAX_BYTES - 1000)
    await check_dead_letter(log, event(data={"text": data}), is_whole=False)


async def check_dead_letter(log: ConsumingLog, original: Envelope, *, is_whole: bool) -> None:
    """Check what becomes of an original that is given up, and of the one behind it."""
    await log.append([original, event()])
    async with log.consume(SHARED) as one:
        for _ in range(2):
            await one.settle(settlements(await fetch(one, 1), "term", reason="no"))
    first, second = await letters(log)
    assert (first.position, first.reason, second.position) == (1, "no", 2)
    kept = original_of(first)
    assert kept.id == original.id
    assert (kept.data is UNSET) is not is_whole
    if is_whole:
        assert kept.decode() == original.decode()


@pytest.mark.parametrize("start", [0, -1, 2**63, 10**30])
async def test_a_start_that_is_no_position_is_refused(log: ConsumingLog, start: int) -> None:
    with pytest.raises(UsageError, match="start is"):
        async with log.consume(Durable(name="d", pattern=">", start=start)):
            pass
    await log.append([event()])


async def test_what_could_not_be_kept_is_kept_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}?busy=0.01") as opened:
        log = consuming(opened)
        await log.append(events(4))
        async with log.consume(SHARED) as one:
            first, second, third, _ = await fetch(one)
            intruder = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False)
            await asyncio.to_thread(intruder.execute, "BEGIN IMMEDIATE")
            with pytest.raises(LogError, match="held by another"):
                await one.settle(settlements([first]))
            with pytest.raises(LogError, match="held by another"):
                await one.settle(settlements([second], "term"))
            await asyncio.to_thread(intruder.close)
            await one.settle(settlements([third]))
            [info] = await log.durables()
            assert (info.floor, info.unacked, info.redelivered) == (3, 1, 0)
            assert [letter.position for letter in await letters(log)] == [2]


async def test_a_fetch_that_could_not_be_kept_gives_the_same_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}?busy=0.01") as opened:
        log = consuming(opened)
        await log.append(events(2))
        async with log.consume(SHARED) as one:
            intruder = await asyncio.to_thread(sqlite3.connect, path, check_same_thread=False)
            await asyncio.to_thread(intruder.execute, "BEGIN IMMEDIATE")
            with pytest.raises(LogError, match="held by another"):
                await fetch(one)
            await asyncio.to_thread(intruder.close)
            assert told(await fetch(one)) == [(1, 1), (2, 1)]


async def test_on_a_full_disk_nothing_is_handed_out_and_nothing_lost(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(f"{url}?max_bytes=131072") as opened:
        log = consuming(opened)
        await log.append(events(3))
        async with log.consume(SHARED) as one:
            first, *others = await fetch(one)
            await one.settle(settlements([first]))
            with pytest.raises(LogReadOnlyError):
                await fill(log)
            with pytest.raises(LogReadOnlyError):
                await one.settle(settlements(others))
            with pytest.raises(LogReadOnlyError):
                await fetch(one)
    async with open_log(url) as opened:
        log = consuming(opened)
        assert (await log.verify()).is_sound
        [info] = await log.durables()
        assert (info.floor, info.delivered) == (1, 3)
        soon = Durable(name="d", pattern="orders.>", group="workers", ack_wait_s=0.01)
        async with log.consume(soon) as one:
            await one.settle(settlements(others))
        [info] = await log.durables()
        assert (info.floor, info.unacked) == (3, 0)
