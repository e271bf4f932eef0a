"""Appending, on every kind of log."""

import asyncio

import pytest

from hms_bus.abc import EventLog, Head, Selector
from hms_bus.errors import ConflictError, EncodeError, UsageError
from tests.support.events import event, events


async def test_positions_count_from_one_without_gaps(log: EventLog) -> None:
    assert (await log.head()).position == 0
    receipts = [receipt for count in (1, 3, 2) for receipt in await log.append(events(count))]
    assert [receipt.position for receipt in receipts] == [1, 2, 3, 4, 5, 6]
    assert not any(receipt.duplicate for receipt in receipts)
    assert (await log.head()).position == 6


async def test_calls_at_the_same_time_keep_their_batches_together(log: EventLog) -> None:
    batches = await asyncio.gather(*(log.append(events(n % 5 + 1)) for n in range(200)))
    positions = [[receipt.position for receipt in batch] for batch in batches]
    assert [n for batch in positions for n in batch] == list(range(1, 601))


async def test_nothing_to_append(log: EventLog) -> None:
    assert await log.append([]) == []


async def test_a_batch_larger_than_a_commit(log: EventLog) -> None:
    receipts = await log.append(events(6000))
    assert [receipt.position for receipt in receipts] == list(range(1, 6001))


async def test_repeating_an_append_changes_nothing(log: EventLog) -> None:
    batch = events(3)
    first = await log.append(batch)
    again, reversed_ = await log.append(batch), await log.append(batch[::-1])
    assert [(receipt.position, receipt.duplicate) for receipt in again] == [
        (receipt.position, True) for receipt in first
    ]
    assert reversed_ == again[::-1]
    assert (await log.head()).position == 3


async def test_calls_at_the_same_time_with_the_same_event_append_it_once(log: EventLog) -> None:
    one = event()
    results = await asyncio.gather(*(log.append([one]) for _ in range(50)))
    assert {receipt.position for [receipt] in results} == {1}
    assert [receipt.duplicate for [receipt] in results] == [False] + [True] * 49


async def test_of_calls_that_expect_the_same_one_wins(log: EventLog) -> None:
    calls = [log.append([event("cart.1")], expect="none") for _ in range(10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    conflicts = [result for result in results if isinstance(result, ConflictError)]
    assert len(conflicts) == 9
    assert {(error.expected, error.actual) for error in conflicts} == {(0, 1)}
    assert (await log.head()).position == 1


async def test_a_refused_batch_leaves_nothing_and_its_neighbours_stay(log: EventLog) -> None:
    good, refused, also_good = await asyncio.gather(
        log.append(events(2, "cart.1")),
        log.append(events(2, "cart.1"), expect=1),
        log.append(events(2, "cart.2"), expect="none"),
        return_exceptions=True,
    )
    assert not isinstance(good, BaseException)
    assert not isinstance(also_good, BaseException)
    assert isinstance(refused, ConflictError)
    assert [receipt.position for receipt in also_good] == [3, 4]
    assert (await log.verify()).is_sound


async def test_an_envelope_that_cannot_be_encoded_is_its_own_callers_error(log: EventLog) -> None:
    good, refused, also_good = await asyncio.gather(
        log.append(events(1)),
        log.append([event(), event().replace(data=object())]),
        log.append(events(1)),
        return_exceptions=True,
    )
    assert isinstance(refused, EncodeError)
    assert not isinstance(good, BaseException)
    assert not isinstance(also_good, BaseException)
    assert [good[0].position, also_good[0].position] == [1, 2]


async def test_an_expectation_of_several_topics_is_refused(log: EventLog) -> None:
    with pytest.raises(UsageError, match="one topic"):
        await log.append([event("a"), event("b")], expect="none")
    assert (await log.head()).position == 0


async def test_a_cancelled_call_harms_nobody(log: EventLog) -> None:
    calls = [asyncio.create_task(log.append(events(2))) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await log.append(events(1))
    assert (await log.verify()).is_sound
    head = await log.head()
    assert [record.position async for record in log.read(Selector())] == list(
        range(1, head.position + 1)
    )


async def test_verify_reports_progress_and_compares_heads(log: EventLog) -> None:
    await log.append(events(2500))
    middle = await log.head()
    await log.append(events(2500))
    steps: list[tuple[int, int]] = []
    verification = await log.verify(
        expected=middle, progress=lambda done, total: steps.append((done, total))
    )
    assert verification.is_sound
    assert (verification.records, verification.head) == (5000, await log.head())
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == (5000, 5000)
    lost = Head(position=6000, hash=bytes(32), recorded_ns=middle.recorded_ns)
    assert (await log.verify(expected=lost)).position == 5001
