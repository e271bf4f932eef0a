"""The message that all contenders carry."""

import asyncio

import pytest
from msgspec import json

from benchmarks.orders import ORDER, order_of
from benchmarks.tally import Arrivals, Tally


def test_the_payload_has_128_bytes() -> None:
    assert len(json.encode(ORDER)) == 128
    assert order_of(128) == ORDER


@pytest.mark.parametrize("size", [128, 129, 200, 1024])
def test_a_payload_has_the_size_that_is_asked_for(size: int) -> None:
    assert len(json.encode(order_of(size))) == size


async def test_a_tally_completes_at_the_expected_count_and_starts_again() -> None:
    tally = Tally()
    for expected in (3, 1):
        tally.expect(expected)
        waiting = asyncio.ensure_future(tally.complete())
        for _ in range(expected):
            await asyncio.sleep(0)
            assert not waiting.done()
            tally.add()
        await waiting


async def test_arrivals_are_taken_whether_they_came_before_or_come_later() -> None:
    arrivals = Arrivals()
    for _ in range(3):
        arrivals.add()
    early = await arrivals.take(2)
    waiting = asyncio.ensure_future(arrivals.take(3))
    for _ in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        arrivals.add()
    assert await waiting >= early
