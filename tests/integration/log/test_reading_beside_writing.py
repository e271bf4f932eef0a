"""Readers and the writer do not wait for each other, and a copy made meanwhile is sound."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from hms_bus.abc import EventLog, Selector
from hms_bus.errors import StateError
from hms_bus.plugins import open_log
from tests.support.events import event, events


class Load:
    """Tasks that append all the time; `acknowledged` holds the positions that they were told."""

    def __init__(self, log: EventLog) -> None:
        self.acknowledged: list[int] = []
        self._log = log
        self._tasks = [asyncio.create_task(self._append()) for _ in range(10)]

    async def grow(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        target = len(self.acknowledged) + count
        while len(self.acknowledged) < target:
            done, _ = await asyncio.wait(self._tasks, timeout=0.001)
            for task in done:
                task.result()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results

    async def _append(self) -> None:
        while True:
            [receipt] = await self._log.append([event(f"load.{len(self.acknowledged) % 7}")])
            assert receipt.position
            self.acknowledged.append(receipt.position)


@asynccontextmanager
async def load(log: EventLog) -> AsyncGenerator[Load]:
    running = Load(log)
    try:
        yield running
    finally:
        await running.stop()


async def test_an_open_read_transaction_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}?checkpoint=4") as log:
        await log.append(events(5))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            assert other.execute("SELECT count(*) FROM records").fetchone() == (5,)
            for n in range(6, 60):
                assert [receipt.position for receipt in await log.append(events(1))] == [n]
            assert other.execute("SELECT count(*) FROM records").fetchone() == (5,)
        assert (await log.verify()).records == 59


async def test_reading_under_load_yields_every_position_once(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}?checkpoint=16"
    async with open_log(url) as log, load(log) as running:
        await running.grow(50)
        for _ in range(5):
            before = len(running.acknowledged)
            read = [record.position async for record in log.read(Selector())]
            assert read == list(range(1, len(read) + 1))
            assert len(read) >= before
        verification = await log.verify()
        assert verification.is_sound


async def test_following_under_load_has_no_gap_and_no_duplicate(tmp_path: Path) -> None:
    async with open_log(f"sqlite:{tmp_path / 'events.db'}") as log, load(log) as running:
        await running.grow(30)
        read = [
            record.position async for record in log.read(Selector(first=10, limit=500), follow=True)
        ]
        assert read == list(range(10, 510))


async def test_many_followers_see_the_same(tmp_path: Path) -> None:
    async def follow(log: EventLog, pattern: str) -> list[int]:
        selector = Selector(pattern=pattern, last=400)
        return [record.position async for record in log.read(selector, follow=True)]

    async with open_log(f"sqlite:{tmp_path / 'events.db'}") as log, load(log):
        everything, threes, *others = await asyncio.gather(
            *(follow(log, pattern) for pattern in ("load.*", "load.3", "load.>", "load.*"))
        )
        assert everything == list(range(1, 401)) == others[0] == others[1]
        assert set(threes) < set(everything)
        assert threes == [
            record.position async for record in log.read(Selector(pattern="load.3", last=400))
        ]


async def test_a_reader_that_leaves_early_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(3000))
        for _ in range(20):
            async for record in log.read(Selector(), follow=True):
                if record.position == 100:
                    break
            task = asyncio.ensure_future(anext(log.read(Selector(first=5000), follow=True)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        # No view of the file is held: everything can be copied out of the WAL.
        with closing(sqlite3.connect(path)) as other:
            busy, in_wal, copied = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (busy, in_wal, copied) == (0, 0, 0)


async def test_closing_the_log_ends_followers_and_refuses_everybody_else(tmp_path: Path) -> None:
    async with open_log(f"sqlite:{tmp_path / 'events.db'}") as log:
        await log.append(events(3))

        async def follow() -> list[int]:
            return [record.position async for record in log.read(Selector(), follow=True)]

        followers = [asyncio.create_task(follow()) for _ in range(5)]
        await asyncio.sleep(0.02)
        appending = asyncio.create_task(log.append(events(2)))
        await asyncio.sleep(0)
    assert all(found[:3] == [1, 2, 3] for found in await asyncio.gather(*followers))
    assert [receipt.position for receipt in await appending] == [4, 5]
    for call in (log.append(events(1)), log.head(), log.verify()):
        with pytest.raises(StateError, match="is closed"):
            await call
    with pytest.raises(StateError, match="is closed"):
        log.read(Selector())


async def test_a_copy_made_under_load_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "events.db"

    def copy(target: Path) -> None:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copied:
            source.backup(copied, pages=5)

    async with open_log(f"sqlite:{path}?checkpoint=16") as log, load(log) as running:
        for n in range(3):
            await running.grow(40)
            before = max(running.acknowledged)
            await asyncio.to_thread(copy, tmp_path / f"copy{n}.db")
            async with open_log(f"sqlite:{tmp_path / f'copy{n}.db'}") as copied:
                verification = await copied.verify()
                assert verification.is_sound
                assert verification.records >= before
