"""What only a log in a file does: outlive the process, commit in groups, keep its time."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import EventLog, Selector
from hms_bus.errors import ConflictError, LogCorruptError, LogReadOnlyError, StateError
from hms_bus.log.documents import make_entry
from hms_bus.log.ledger import SqliteLedger
from hms_bus.log.schema import prepare_file
from hms_bus.log.sqlite import READING, WRITING
from hms_bus.plugins import open_log
from tests.support.events import event, events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


async def test_all_is_there_after_opening_again(path: Path) -> None:
    batch = [event("cart.1", id_) for id_ in "abc"]
    async with open_log(f"sqlite:{path}") as log:
        receipts = await log.append(batch)
        head = await log.head()
    assert [left.name for left in path.parent.iterdir()] == ["events.db"]
    async with open_log(f"sqlite:{path}") as log:
        assert await log.head() == head
        again = await log.append(batch)
        assert [receipt.position for receipt in again] == [r.position for r in receipts]
        assert all(receipt.duplicate for receipt in again)
        with pytest.raises(ConflictError):
            await log.append([event("cart.1")], expect=2)
        [receipt] = await log.append([event("cart.1")], expect=3)
        assert receipt.position == 4
        assert (await log.verify(expected=head)).is_sound


async def test_leaving_the_scope_commits_what_is_under_way(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as log:
        calls = [asyncio.create_task(log.append(events(1))) for _ in range(100)]
        await asyncio.sleep(0)
    positions = [receipt.position for [receipt] in await asyncio.gather(*calls)]
    assert positions == list(range(1, 101))
    async with open_log(f"sqlite:{path}") as log:
        assert (await log.head()).position == 100


async def test_an_error_in_the_scope_closes_the_log_too(path: Path) -> None:
    async def fail() -> None:
        async with open_log(f"sqlite:{path}") as log:
            await log.append(events(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with open_log(f"sqlite:{path}") as log:
        assert (await log.head()).position == 1


async def test_a_cancelled_scope_leaves_no_lock(path: Path) -> None:
    async def stay() -> None:
        async with open_log(f"sqlite:{path}"):
            await asyncio.Event().wait()

    for turns in range(12):
        task = asyncio.create_task(stay())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with open_log(f"sqlite:{path}") as log:
            await log.append(events(1))


async def test_recorded_time_does_not_run_back_over_a_restart(path: Path) -> None:
    future_ns = time.time_ns() + 3_600_000_000_000

    def write_in_the_future() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            prepare_file(connection, path)
            ledger = SqliteLedger(connection, "events.db")
            ledger.add(make_entry(event()), future_ns)
            ledger.flush()

    await asyncio.to_thread(write_in_the_future)
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(2))
        recorded = [record.recorded_ns async for record in log.read(Selector())]
        assert recorded == [future_ns] * 3
        assert (await log.verify()).is_sound


async def test_many_calls_take_few_commits(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as log:
        await asyncio.gather(*(log.append(events(1)) for _ in range(1000)))
        times = {record.recorded_ns async for record in log.read(Selector())}
    # Each commit gives its records one time.
    assert len(times) < 100


@pytest.mark.parametrize("sync", ["normal", "full", "extra"])
async def test_every_level_of_sync_works(path: Path, sync: str) -> None:
    async with open_log(f"sqlite:{path}?sync={sync}") as log:
        await log.append(events(10))
        assert (await log.verify()).records == 10


async def test_capabilities_of_a_reader_are_those_of_reading(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as log, open_log(f"sqlite:{path}?readonly=1") as reader:
        assert log.capabilities == WRITING
        assert reader.capabilities == READING
        with pytest.raises(LogReadOnlyError, match="without readonly=true"):
            await reader.append([])


async def test_following_by_time_ends_for_a_reader_too(path: Path) -> None:
    async with (
        open_log(f"sqlite:{path}") as log,
        open_log(f"sqlite:{path}?readonly=1&poll=0.01") as reader,
    ):
        await log.append(events(3))
        until_ns = time.time_ns() + 10_000_000
        following = reader.read(Selector(until_ns=until_ns), follow=True)
        assert [record.position async for record in following] == [1, 2, 3]


async def test_closing_ends_the_followers_of_a_reader(path: Path) -> None:
    async with open_log(f"sqlite:{path}"):
        pass
    async with open_log(f"sqlite:{path}?readonly=1&poll=60") as reader:
        following = asyncio.create_task(anext(reader.read(Selector(), follow=True), None))
        await asyncio.sleep(0.01)
    assert await following is None
    with pytest.raises(StateError):
        await reader.head()


async def read_into(positions: list[int], log: EventLog) -> None:
    """Read everything, keeping what came before an error."""
    async for record in log.read(Selector()):
        positions.append(record.position)  # noqa: PERF401 - see above


async def test_a_record_that_cannot_be_read_stops_the_reader_there(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(5))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE records SET document = '{}' WHERE position = 3")
        connection.commit()
    async with open_log(f"sqlite:{path}") as log:
        read: list[int] = []
        with pytest.raises(LogCorruptError, match=r"position 3.*log verify") as error:
            await read_into(read, log)
        assert (read, error.value.position) == ([1, 2], 3)
        assert [record.position async for record in log.read(Selector(limit=2))] == [1, 2]
        assert (await log.verify()).position == 3


async def test_a_damaged_page_is_an_error_of_the_reader_and_a_finding(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as log:
        await log.append([event(data="x" * 3000) for _ in range(50)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    async with open_log(f"sqlite:{path}?readonly=true") as log:
        read: list[int] = []
        with pytest.raises(LogCorruptError):
            await read_into(read, log)
        verification = await log.verify()
        assert not verification.is_sound
        assert 0 < verification.records == len(read) < 50
        assert verification.position == len(read) + 1
