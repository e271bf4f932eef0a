"""A disk that is full or fails: a clear error, no retry, nothing acknowledged is lost."""

import re
import sys
import time
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import LogReadOnlyError
from hms_bus.plugins import open_log
from tests.support.events import event, events
from tests.support.programs import Run, run_program

ROOT = Path(__file__).parents[3]


def run_log_program(*args: str) -> Run:
    return run_program(
        [sys.executable, "-m", "tests.support.log_programs", *args], cwd=ROOT, timeout_s=30
    )


async def check_what_is_left(path: Path, run: Run) -> None:
    """Check that the log holds all that the program was told is safe, and takes more again."""
    assert run.succeeded, run
    acknowledged = [int(n) for n in re.findall(r"^acknowledged (\d+)$", run.stdout, re.MULTILINE)]
    assert len(acknowledged) >= 2
    assert f"readable True {acknowledged[-1]}" in run.stdout
    async with open_log(f"sqlite:{path}") as log:
        assert (await log.verify()).is_sound
        found = [record.position async for record in log.read(Selector())]
        assert found[: len(acknowledged)] == acknowledged == list(range(1, len(acknowledged) + 1))
        [receipt] = await log.append([event()])
        assert receipt.position == len(found) + 1


async def test_a_file_that_may_not_grow_turns_the_log_read_only(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    run = run_log_program("fill", f"sqlite:{path}", "200000")
    assert "refused LogReadOnlyError" in run.stdout, run
    assert re.search(r"SQLITE_(IOERR_WRITE|FULL)", run.stdout)
    assert "open the log again" in run.stdout
    await check_what_is_left(path, run)


async def test_a_sync_that_fails_turns_the_log_read_only(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    run = run_log_program("lose_sync", f"sqlite:{path}")
    assert "refused LogReadOnlyError" in run.stdout, run
    assert "SQLITE_IOERR_FSYNC" in run.stdout
    # The WAL is where all that was acknowledged was synced, and must survive the close.
    assert path.with_name("events.db-wal").stat().st_size > 0
    await check_what_is_left(path, run)


async def test_a_checkpoint_that_fails_turns_the_log_read_only(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    # With sync=normal only checkpoints sync.
    run = run_log_program("lose_sync", f"sqlite:{path}?sync=normal&checkpoint=20")
    assert "refused LogReadOnlyError" in run.stdout, run
    assert "nothing was appended" in run.stdout
    assert path.with_name("events.db-wal").stat().st_size > 0
    await check_what_is_left(path, run)


async def test_a_log_at_its_max_bytes_says_so_and_can_be_read(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(f"{url}?max_bytes=65536") as log:
        positions: list[int] = []

        async def fill() -> None:
            while True:
                [receipt] = await log.append([event(data="x" * 500)])
                assert receipt.position
                positions.append(receipt.position)

        with pytest.raises(LogReadOnlyError, match=r"max_bytes.*open the log again"):
            await fill()
        with pytest.raises(LogReadOnlyError, match="nothing was appended"):
            await log.append(events(1))
        assert [record.position async for record in log.read(Selector())] == positions
        assert (await log.head()).position == positions[-1]
        following = log.read(Selector(until_ns=time.time_ns()), follow=True)
        assert [record.position async for record in following] == positions
    async with open_log(url) as log:
        assert (await log.verify()).records == len(positions)
        [receipt] = await log.append([event()])
        assert receipt.position == len(positions) + 1
