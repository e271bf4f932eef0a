"""What an agent reads of its log in a replay."""

from collections.abc import AsyncGenerator, Mapping

import pytest

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.plugins import open_log
from hms_bus.replay.reading import read_as_of_now
from hms_bus.replay.renaming import Renaming
from tests.support.runs import said


@pytest.fixture
async def log() -> AsyncGenerator[EventLog]:
    """A log of five records on two topics, by two agents in turn."""
    async with open_log("memory:") as log:
        for number in range(1, 6):
            await log.append([said(f"a.{number % 2}", number, by=f"/agents/{number % 2}")])
        yield log


OWN = [
    Record(position=position, recorded_ns=2**62, envelope=said("a.1", position, by="/agents/1"))
    for position in (5, 6)
]


@pytest.mark.parametrize(
    ("selector", "remap", "read"),
    [
        (Selector(), {}, [1, 2, 3, 4, 5, 6]),
        (Selector(backwards=True), {}, [6, 5, 4, 3, 2, 1]),
        (Selector(limit=5), {}, [1, 2, 3, 4, 5]),
        (Selector(limit=3), {}, [1, 2, 3]),
        (Selector(limit=1, backwards=True), {}, [6]),
        (Selector(limit=3, backwards=True), {}, [6, 5, 4]),
        (Selector(pattern="a.1"), {}, [1, 3, 5, 6]),
        (Selector(pattern="a.0"), {}, [2, 4]),
        (Selector(first=3, last=5), {}, [3, 4, 5]),
        (Selector(until_ns=2**61), {}, [1, 2, 3, 4]),
        (Selector(source="/agents/1"), {}, [1, 3, 5, 6]),
        (Selector(types=frozenset({"a.0"})), {}, [2, 4]),
        (Selector(correlation="none"), {}, []),
        (Selector(pattern="a.1"), {"a.0": "a.1"}, [1, 2, 3, 4, 5, 6]),
        (Selector(pattern="a.0"), {"a.0": "a.2"}, []),
        (Selector(pattern="a.2", limit=1), {"a.0": "a.2"}, [2]),
        (Selector(source="/agents/1", last=2), {"/agents/0": "/agents/1"}, [1, 2]),
    ],
)
async def test_it_ends_at_what_is_handled_and_what_was_just_said(
    log: EventLog, selector: Selector, remap: Mapping[str, str], read: list[int]
) -> None:
    renaming = Renaming(remap)
    records = [r async for r in read_as_of_now(log, selector, last=4, own=OWN, renaming=renaming)]
    assert [record.envelope.decode() for record in records] == read
