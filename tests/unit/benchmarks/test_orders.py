"""The message that all contenders carry."""

import asyncio

from msgspec import json

from benchmarks.orders import ORDER
from benchmarks.tally import Tally


def test_the_payload_has_128_bytes() -> None:
    assert len(json.encode(ORDER)) == 128


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
