"""Reading and following, on every kind of log."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.errors import TopicError, UnsupportedError, UsageError
from tests.support.events import event, events


async def positions(records: AsyncIterator[Record]) -> list[int]:
    return [record.position async for record in records]


async def test_a_record_holds_the_envelope_as_it_was_appended(log: EventLog) -> None:
    sent = event("a.b", {"n": [1, None, "ü"]}, correlationid="c", extensions={"shard": 7})
    await log.append([sent])
    [record] = [record async for record in log.read(Selector())]
    assert record.position == 1
    assert record.envelope.decode() == {"n": [1, None, "ü"]}
    assert record.envelope.replace(data=None) == sent.replace(data=None)


async def test_an_empty_log_has_nothing_to_read(log: EventLog) -> None:
    assert await positions(log.read(Selector())) == []
    assert await positions(log.read(Selector(backwards=True))) == []
    assert await positions(log.read(Selector(since_ns=5, until_ns=10**19))) == []


async def test_many_pages_forwards_and_backwards(log: EventLog) -> None:
    await log.append(events(3000))
    assert await positions(log.read(Selector())) == list(range(1, 3001))
    assert await positions(log.read(Selector(backwards=True))) == list(range(3000, 0, -1))


async def test_a_rare_topic_in_a_long_log(log: EventLog) -> None:
    for start in range(0, 60_000, 20_000):
        await log.append(
            [
                event("rare.one"),
                *[event("often.one").replace(id=f"{n}") for n in range(start, start + 19_999)],
            ]
        )
    assert await positions(log.read(Selector(pattern="rare.*"))) == [1, 20_001, 40_001]
    backwards = log.read(Selector(pattern="rare.*", backwards=True, limit=2))
    assert await positions(backwards) == [40_001, 20_001]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(pattern="a.*"), [1, 2, 4]),
        (Selector(pattern="{any}.x"), [1, 3, 4]),
        (Selector(pattern=">"), [1, 2, 3, 4, 5]),
        (Selector(pattern="$SYS.>"), [6]),
        (Selector(pattern="none.*"), []),
        (Selector(types=frozenset({"t1", "t2"})), [1, 2]),
        (Selector(types=frozenset({"t"})), []),
        (Selector(correlation="c1"), [2, 3]),
        (Selector(source="other"), [3]),
        (Selector(source="other", pattern="a.*"), []),
        (Selector(pattern="a.*", limit=2), [1, 2]),
        (Selector(pattern="a.*", limit=2, backwards=True), [4, 2]),
        (Selector(correlation="c1", limit=1), [2]),
        (Selector(limit=0), []),
        (Selector(first=3, last=4), [3, 4]),
        (Selector(first=4, last=3), []),
        (Selector(first=0, last=100, backwards=True), [6, 5, 4, 3, 2, 1]),
    ],
)
async def test_selections(log: EventLog, selector: Selector, expected: list[int]) -> None:
    await log.append(
        [
            event("a.x", type="t1"),
            event("a.y", type="t2", correlationid="c1"),
            event("b.x", source="other", correlationid="c1"),
            event("a.x", {"correlationid": "c1", "type": "t1", "source": "other"}),
            event("c", type="t11", correlationid="c11"),
            event("$SYS.agent"),
        ]
    )
    assert await positions(log.read(selector)) == expected


async def test_what_only_looks_like_an_attribute_is_not_selected(log: EventLog) -> None:
    await log.append([event(data={"correlationid": "c"}), event(correlationid="c")])
    assert await positions(log.read(Selector(correlation="c"))) == [2]


async def test_bounds_of_time_are_inclusive(log: EventLog) -> None:
    times: list[int] = []
    for _ in range(4):
        await log.append([event()])
        times.append((await log.head()).recorded_ns)
        await asyncio.sleep(0.001)
    assert times == sorted(set(times))
    assert await positions(log.read(Selector(since_ns=times[1]))) == [2, 3, 4]
    assert await positions(log.read(Selector(since_ns=times[1] + 1))) == [3, 4]
    assert await positions(log.read(Selector(until_ns=times[1]))) == [1, 2]
    assert await positions(log.read(Selector(until_ns=times[1] - 1))) == [1]
    both = Selector(since_ns=times[1], until_ns=times[2], backwards=True)
    assert await positions(log.read(both)) == [3, 2]


async def test_wrong_selectors_are_refused_at_the_call(log: EventLog) -> None:
    with pytest.raises(TopicError):
        log.read(Selector(pattern="a.>.b"))
    with pytest.raises(UsageError):
        log.read(Selector(limit=-1))
    with pytest.raises(UnsupportedError, match="following backwards"):
        log.read(Selector(backwards=True), follow=True)


async def test_following_goes_from_history_to_what_comes(log: EventLog) -> None:
    await log.append(events(3))
    following = log.read(Selector(last=6), follow=True)
    assert [(await anext(following)).position for _ in range(3)] == [1, 2, 3]
    next_one = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    await log.append(events(3))
    assert (await next_one).position == 4
    assert await positions(following) == [5, 6]


async def test_following_a_topic_that_does_not_exist_yet(log: EventLog) -> None:
    following = asyncio.create_task(
        positions(log.read(Selector(pattern="late.*", limit=2), follow=True))
    )
    await asyncio.sleep(0)
    await log.append(events(2))
    await log.append([event("late.one"), event("soon.one"), event("late.two")])
    assert await following == [3, 5]


async def test_following_from_a_position_that_is_not_there_yet(log: EventLog) -> None:
    following = asyncio.create_task(positions(log.read(Selector(first=4, last=5), follow=True)))
    for _ in range(5):
        await asyncio.sleep(0)
        await log.append(events(1))
    assert await following == [4, 5]


async def test_following_ends_when_its_time_is_over(log: EventLog) -> None:
    await log.append(events(2))
    until_ns = time.time_ns() + 20_000_000
    assert await positions(log.read(Selector(until_ns=until_ns), follow=True)) == [1, 2]
    await log.append(events(1))
    assert await positions(log.read(Selector(until_ns=until_ns), follow=True)) == [1, 2]


async def test_following_from_a_time_to_come(log: EventLog) -> None:
    await log.append(events(1))
    since_ns = time.time_ns() + 5_000_000
    following = asyncio.create_task(
        positions(log.read(Selector(since_ns=since_ns, limit=1), follow=True))
    )
    await log.append(events(1))
    await asyncio.sleep((since_ns - time.time_ns()) / 1e9 + 0.001)
    await log.append(events(1))
    assert await following == [(await log.head()).position]


async def test_a_limit_counts_what_is_selected_in_history_and_after(log: EventLog) -> None:
    await log.append(events(2))
    following = asyncio.create_task(positions(log.read(Selector(limit=3), follow=True)))
    await asyncio.sleep(0)
    await log.append(events(5))
    assert await following == [1, 2, 3]


async def test_a_long_read_lets_others_run(log: EventLog) -> None:
    await log.append(events(5000))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    await positions(log.read(Selector()))
    counting.cancel()
    assert turns >= 5
