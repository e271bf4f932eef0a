"""A log has one writer; whoever comes second is told who it is."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import LogError, LogLockedError, LogReadOnlyError
from hms_bus.plugins import open_log
from tests.support.events import event, events

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def other_process(*args: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.log_programs",
        *args,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    return (await process.stdout.readline()).decode().strip()


async def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with other_process("hold", url) as holder:
        assert await line(holder) == "open"
        with pytest.raises(LogLockedError) as refusal:
            async with open_log(url):
                pass
        assert f"process {holder.pid} on " in refusal.value.holder
        # Killed, it leaves its lock file behind, but not its lock.
        holder.kill()
        await holder.wait()
        assert (tmp_path / "events.db.lock").exists()
        async with open_log(url) as log:
            await log.append(events(1))
    assert not (tmp_path / "events.db.lock").exists()


async def test_a_second_opening_in_this_process_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(url):
        with pytest.raises(LogLockedError, match=f"process {os.getpid()} on"):
            async with open_log(url):
                pass
    async with open_log(url) as log:
        assert (await log.append(events(1)))[0].position == 1


async def test_another_name_of_the_same_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "events.db")
    async with open_log(f"sqlite:{tmp_path / 'events.db'}"):
        with pytest.raises(LogLockedError):
            async with open_log(f"sqlite:{tmp_path / 'link.db'}"):
                pass


async def test_of_many_that_open_at_once_one_wins(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    for _ in range(5):
        async with AsyncExitStack() as stack:
            openings = [stack.enter_async_context(open_log(url)) for _ in range(6)]
            results = await asyncio.gather(*openings, return_exceptions=True)
        refused = [result for result in results if isinstance(result, LogLockedError)]
        assert len(refused) == len(results) - 1


async def test_a_reader_beside_the_writer_reads_and_cannot_write(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(url) as log, open_log(f"{url}?readonly=true") as reader:
        await log.append(events(3))
        assert await reader.head() == await log.head()
        assert len([record async for record in reader.read(Selector())]) == 3
        with pytest.raises(LogReadOnlyError, match="opened read-only"):
            await reader.append(events(1))


async def test_what_another_process_appends_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(2))
    async with open_log(f"sqlite:{path}?readonly=true&poll=0.01") as reader:
        following = reader.read(Selector(last=30), follow=True)
        positions = [(await anext(following)).position, (await anext(following)).position]
        async with other_process("append_some", f"sqlite:{path}", "28") as writer:
            positions += [record.position async for record in following]
            assert [int(await line(writer)) for _ in range(28)] == list(range(3, 31))
    assert positions == list(range(1, 31))


async def test_a_transaction_of_another_program_delays_and_then_refuses(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}?busy=0.05") as log:
        await log.append(events(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogError, match="another SQLite connection"):
                await log.append(events(1))
            other.execute("ROLLBACK")
        [receipt] = await log.append([event()])
        assert receipt.position == 2
        assert (await log.verify()).is_sound


async def test_a_program_that_writes_past_the_lock_turns_the_log_read_only(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(2))
        with closing(sqlite3.connect(path)) as other:
            other.execute(
                "INSERT INTO records SELECT 3, recorded_ns, topic, source, 'x', hash, NULL, "
                "document FROM records WHERE position = 2"
            )
            other.commit()
        with pytest.raises(LogReadOnlyError, match=r"writer does not know.*Another program wrote"):
            await log.append(events(1))
        assert (await log.verify()).position == 3
