"""Rows about durables and replay: a short run of each, with all that they start."""

from collections.abc import Mapping
from itertools import count
from mmap import PAGESIZE, mmap
from pathlib import Path

import pytest

from benchmarks.model import Gauge
from benchmarks.peers.long_log import growth_of
from benchmarks.rows import durable, long, replays
from benchmarks.rows.ipc import HMS_LOGGED, JETSTREAM
from benchmarks.stage import System

RECORDS = 5_000


@pytest.mark.parametrize(
    "system", [durable.HMS_FILE, HMS_LOGGED, JETSTREAM], ids=["file", "hub", "nats"]
)
async def test_all_that_a_durable_begins_with_is_handled_and_settled(system: System) -> None:
    async with durable.open_consume(system) as run:
        assert await run(1200) > 0
        assert await run(100) > 0


async def test_a_log_is_rerun_again_and_again() -> None:
    async with replays.open_ours() as run:
        assert await run(replays.RECORDS) > 0
        assert await run(replays.RECORDS) > 0


async def test_a_new_durable_starts_on_a_long_log_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    await long.ask("build", RECORDS, path=str(path))
    assert await long.start_ms(path) > 0
    assert await long.start_ms(path) > 0


@pytest.mark.parametrize("task", ["replay", "rerun"])
async def test_the_memory_of_a_process_that_reads_a_log_is_measured(
    task: str, tmp_path: Path
) -> None:
    path = tmp_path / "long.db"
    await long.ask("build", RECORDS, path=str(path))
    assert await long.growth_mib(task, path, RECORDS) < long.GROWTH_MIB


async def test_memory_that_is_only_held_for_a_moment_counts_as_growth() -> None:
    calls = count()

    async def hold(records: int) -> int:
        is_warm = next(calls) > 0
        # Pages of its own: what the allocator keeps of earlier tests would be used again.
        with mmap(-1, 2**25 if is_warm else 1) as pages:
            for place in range(0, len(pages), PAGESIZE):
                pages[place] = 1
        return records

    grown = await growth_of(hold)(1)
    assert isinstance(grown, Mapping)
    assert 28 < grown["mib"] < 64


def test_a_short_run_says_of_how_many_records_it_speaks() -> None:
    for row in long.ROWS:
        assert isinstance(row.in_short, Gauge)
        assert row.in_short.name == row.name
        assert f"{long.RECORDS:,} records" in row.title
        assert f"{long.RECORDS_IN_SHORT:,} records" in row.in_short.title
