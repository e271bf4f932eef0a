"""`recover_log`: whatever happened to the file, what can be proven is saved, the rest is named."""

import asyncio
import errno
import hashlib
import io
import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hms_bus.abc import Head
from hms_bus.errors import LogError, LogLockedError, UsageError
from hms_bus.log.lock import acquire
from hms_bus.log.tools import Loss, Recovered, examine, recover_log
from hms_bus.log.tools.remains import Remains
from hms_bus.log.tools.steps import silent
from hms_bus.log.tools.walfile import Wal, read_wal
from hms_bus.plugins import open_log
from tests.support.killed_logs import (
    FRAME,
    FRAME_HEADER,
    WAL_HEADER,
    flip,
    frames_in,
    in_frame,
    killed_log,
    wal_of,
)
from tests.support.tool_logs import (
    PAGE,
    fill,
    kill_writer,
    leaves_of,
    numbered,
    numbers,
    overwrite,
    records,
    root_of,
    verify,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two hundred records on some twenty leaves."""
    return fill(tmp_path / "run.db", numbered(200))


def recovered(path: Path, expected: Head | None = None) -> tuple[Recovered, Path]:
    target = path.with_name("saved.db")
    before = fingerprint(path)
    done = recover_log(path, target, by="/test", expected=expected)
    assert fingerprint(path) == before, "the damaged log was touched"
    assert verify(target).is_sound
    assert done.head.position == len(records(target))
    return done, target


def fingerprint(path: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.parent.glob(f"{path.name}*")
    }


def lost_positions(done: Recovered) -> set[int]:
    return {n for loss in done.losses for n in range(loss.first, loss.last + 1)}


def assert_accounts_for_all(done: Recovered, target: Path, count: int = 200) -> None:
    saved = numbers(target)
    assert len(saved) == done.saved
    assert sorted({*saved} | lost_positions(done)) == [*range(1, count + 1)]
    assert not {*saved} & lost_positions(done)


def test_a_sound_log_is_saved_with_the_same_chain(log: Path) -> None:
    done, target = recovered(log)
    assert (done.saved, done.losses, done.is_same) == (200, (), True)
    assert done.is_complete
    assert [one.hash for one in records(target)] == [one.hash for one in records(log)]


def test_a_garbage_leaf_loses_its_records_and_no_others(log: Path) -> None:
    leaf = leaves_of(log)[5]
    overwrite(log, (leaf - 1) * PAGE, random.Random(1).randbytes(PAGE))
    done, target = recovered(log)
    [loss] = done.losses
    assert loss.why == "no page holds it any more"
    assert 5 < done.lost < 20
    assert done.unproven == 1
    assert not done.is_same
    assert_accounts_for_all(done, target)


@pytest.mark.parametrize("page", [1, "root"])
def test_nothing_is_lost_with_the_header_or_the_root(log: Path, page: int | str) -> None:
    number = root_of(log) if page == "root" else 1
    overwrite(log, (number - 1) * PAGE, bytes(PAGE))
    done, target = recovered(log)
    assert (done.saved, done.losses) == (200, ())
    assert numbers(target) == [*range(1, 201)]


def test_a_file_that_was_cut_off_keeps_what_stands_before(log: Path) -> None:
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.truncate(size // 2 + 100)
    done, target = recovered(log)
    assert 20 < done.saved < 180
    assert done.is_same
    assert_accounts_for_all(done, target)
    [doubt] = done.doubts
    assert f"the file was cut off, {log.stat().st_size:,} of {size:,} bytes are left" in doubt
    assert "how many is unknown" in doubt


def test_a_file_that_was_cut_off_is_never_said_to_be_complete(log: Path) -> None:
    overwrite(log, (root_of(log, "topics") - 1) * PAGE, bytes(PAGE))
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)
    done, target = recovered(log)
    assert (done.losses, done.is_complete) == ((), False)
    last = records(target)[-1]
    assert last.topic == "$log.recovered"
    assert json.loads(last.document)["data"]["doubts"] == [*done.doubts]
    assert f"behind position {done.saved} are probably missing" in done.doubts[0]


def test_a_short_rest_still_knows_how_much_there_was(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(400))
    with log.open("r+b") as file:
        file.truncate(10 * PAGE)
    done, target = recovered(log)
    assert done.saved < 100
    assert_accounts_for_all(done, target, 400)


def test_a_file_that_ends_in_the_middle_of_a_page_without_a_header_was_cut_off(log: Path) -> None:
    overwrite(log, 0, bytes(PAGE))
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2 + 100)
    done, _ = recovered(log)
    assert "the file ends in the middle of a page" in done.doubts[0]


def test_an_end_that_no_topic_knows_is_doubted(log: Path) -> None:
    overwrite(log, (root_of(log, "topics") - 1) * PAGE, bytes(PAGE))
    overwrite(log, (leaves_of(log)[-1] - 1) * PAGE, bytes(PAGE))
    done, _ = recovered(log)
    assert (done.losses, done.is_complete) == ((), False)
    assert "nothing that is left says where the log ended" in done.doubts[0]


def test_a_log_of_one_record_is_complete(tmp_path: Path) -> None:
    done, _ = recovered(fill(tmp_path / "run.db", numbered(1)))
    assert (done.saved, done.is_complete) == (1, True)


def test_pages_that_the_disk_does_not_give_cost_only_themselves(log: Path) -> None:
    bad = (leaves_of(log)[5] - 1) * PAGE

    class Disk(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == bad:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    remains = Remains(Disk(log.read_bytes()), None, Wal({}, []))
    rows, ends = remains.rows(silent)
    positions = [rivals[0].found.position for rivals in rows]
    assert ends == (200, 200)
    assert positions[-1] == 200
    assert 180 < len(positions) < 200
    assert remains.unreadable == 1


def test_a_kept_head_shows_what_the_end_has_lost(log: Path) -> None:
    head = verify(log).head
    last = leaves_of(log)[-1]
    overwrite(log, (last - 1) * PAGE, bytes(PAGE))
    done, target = recovered(log, replace(head, position=205))
    assert [loss.last for loss in done.losses] == [200, 205]
    assert done.losses[-1].why == "the log ends before the head that was kept"
    assert done.is_same
    assert_accounts_for_all(done, target, 205)


@pytest.mark.parametrize("position", [150, 200])
def test_a_kept_head_of_another_chain_shows_that_the_log_was_rewritten(
    log: Path, position: int
) -> None:
    kept = records(log)[position - 1]
    head = Head(position=position, hash=kept.hash, recorded_ns=kept.recorded_ns)
    assert recovered(log, head)[0].is_complete
    done = recover_log(
        log, log.with_name("again.db"), by="/test", expected=replace(head, hash=bytes(32))
    )
    assert (done.losses, done.is_complete) == ((), False)
    [doubt] = done.doubts
    assert f"the record at position {position} is not the one" in doubt
    assert "the log was rewritten" in doubt


def test_an_altered_text_is_found_by_its_hash_and_not_saved(log: Path) -> None:
    content = log.read_bytes()
    at = content.index(b'{"n":77,')
    overwrite(log, at, b'{"n":78,')
    done, target = recovered(log)
    assert done.losses == (Loss(first=77, last=77, why="its contents contradict its hash"),)
    # What follows it is proven by the hash that stands in the damaged one.
    assert done.unproven == 0
    assert_accounts_for_all(done, target)


def test_a_damaged_hash_costs_one_record(log: Path) -> None:
    overwrite(log, log.read_bytes().index(records(log)[99].hash), bytes(32))
    done, target = recovered(log)
    assert [(loss.first, loss.last) for loss in done.losses] == [(100, 100)]
    assert done.unproven == 0
    assert_accounts_for_all(done, target)


def test_what_was_lost_stands_in_the_new_log(log: Path) -> None:
    overwrite(log, log.read_bytes().index(b'{"n":77,'), b'{"n":78,')
    _, target = recovered(log)
    last = records(target)[-1]
    assert (last.topic, last.source) == ("$log.recovered", "/test")
    assert json.loads(last.document)["data"] == {
        "saved": 199,
        "unproven": 0,
        "lost": [{"first": 77, "last": 77, "why": "its contents contradict its hash"}],
        "more": 0,
        "doubts": [],
    }


def test_long_documents_are_followed_through_their_pages(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(20, padding=20_000))
    done, target = recovered(log)
    assert done.saved == 20
    assert [one.document for one in records(target)] == [one.document for one in records(log)]


def test_a_long_document_whose_end_is_lost_is_named(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(20, padding=20_000))
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 2 * PAGE)
    done, target = recovered(log)
    assert_accounts_for_all(done, target, 20)
    assert {loss.why for loss in done.losses} <= {
        "the pages that hold its end are damaged or lost",
        "no page holds it any more",
    }


def test_what_stands_in_the_wal_alone_is_saved(tmp_path: Path) -> None:
    fill(tmp_path / "source.db", numbered(50))
    log = kill_writer(tmp_path / "source.db", numbered(30, first=51), tmp_path / "run.db")
    assert (tmp_path / "run.db-wal").stat().st_size > 0
    done, target = recovered(log)
    assert (done.saved, done.losses) == (80, ())
    assert numbers(target) == [*range(1, 81)]


def test_a_wal_that_was_cut_off_counts_up_to_its_last_whole_commit(tmp_path: Path) -> None:
    fill(tmp_path / "source.db", numbered(50))
    log = kill_writer(tmp_path / "source.db", numbered(30, first=51), tmp_path / "run.db")
    wal = tmp_path / "run.db-wal"
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 10)
    done, target = recovered(log)
    assert (done.saved, done.losses) == (50, ())
    assert numbers(target) == [*range(1, 51)]


def test_a_missing_wal_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "source.db", numbered(50))
    log = kill_writer(tmp_path / "source.db", numbered(30, first=51), tmp_path / "run.db")
    (tmp_path / "run.db-wal").unlink()
    done, target = recovered(log)
    assert (done.saved, done.losses) == (50, ())
    assert numbers(target) == [*range(1, 51)]


@pytest.mark.parametrize(
    ("part", "offset"),
    [
        pytest.param(None, 18, id="the salts of the header"),
        pytest.param(0.1, FRAME_HEADER + 2000, id="an early page"),
        pytest.param(0.5, FRAME_HEADER + 2000, id="a page"),
        pytest.param(0.5, 10, id="the salts of a frame"),
        pytest.param(1, 20, id="the last checksum"),
    ],
)
def test_a_damaged_wal_loses_nothing_that_the_chain_proves(
    tmp_path: Path, part: float | None, offset: int
) -> None:
    log = killed_log(tmp_path / "run.db", numbered(60))
    whole = records(killed_log(tmp_path / "whole.db", numbered(60)))
    number = int((frames_in(log) - 1) * (part or 0))
    flip(wal_of(log), offset if part is None else in_frame(number, offset))
    done, target = recovered(log)
    assert (done.saved, done.unproven, done.is_complete) == (60, 0, True)
    assert [one.id for one in records(target)] == [one.id for one in whole]


def torn(path: Path, count: int = 180, *, padding: int = 0) -> int:
    """Leave a log of twenty records, with a commit of `count` more in the WAL that SQLite drops.

    Its first frame did not reach the disk. Returns how many frames stand before it.
    """
    source = path.with_name(f"source-of-{path.name}")

    async def append() -> int:
        async with open_log(f"sqlite:{source}") as log:
            for envelope in numbered(20):
                await log.append([envelope])
            frames = frames_in(source)
            await log.append(numbered(count, first=21, padding=padding))
            for suffix in ("", "-wal"):
                await asyncio.to_thread(shutil.copyfile, f"{source}{suffix}", f"{path}{suffix}")
            return frames

    before = asyncio.run(append())
    overwrite(wal_of(path), in_frame(before, 0), bytes(FRAME))
    return before


def overwritten(path: Path, count: int) -> Path:
    """Append `count` to a log while somebody reads, so that its WAL goes on; return a copy."""
    copy = path.with_name(f"copy-of-{path.name}")

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            for envelope in numbered(count, first=1001):
                await log.append([envelope])
            for suffix in ("", "-wal"):
                await asyncio.to_thread(shutil.copyfile, f"{path}{suffix}", f"{copy}{suffix}")

    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        asyncio.run(append())
    return copy


def unmarked(path: Path) -> Path:
    """Take the last frame of a WAL away, which says that its commit is complete."""
    with wal_of(path).open("r+b") as file:
        file.truncate(in_frame(frames_in(path) - 1, 0))
    return path


def test_a_commit_that_was_never_finished_is_worth_nothing(tmp_path: Path) -> None:
    torn(tmp_path / "run.db")
    log = unmarked(tmp_path / "run.db")
    done, target = recovered(log)
    assert (done.saved, done.is_complete) == (20, True)
    assert numbers(target) == [*range(1, 21)]
    assert examine(log).is_healthy


def test_what_it_leaves_behind_the_next_ones_is_worth_nothing(tmp_path: Path) -> None:
    torn(tmp_path / "run.db")
    log = overwritten(unmarked(tmp_path / "run.db"), 3)
    done, target = recovered(log)
    assert (done.saved, done.is_complete) == (23, True)
    assert numbers(target) == [*range(1, 21), 1001, 1002, 1003]
    assert examine(log).is_healthy


@pytest.mark.parametrize(("size", "count"), [(40, 1), (180, 1), (180, 3)])
def test_what_a_torn_commit_leaves_behind_the_next_ones_is_not_saved(
    tmp_path: Path, size: int, count: int
) -> None:
    torn(tmp_path / "run.db", size)
    log = overwritten(tmp_path / "run.db", count)
    done, target = recovered(log)
    assert numbers(target) == [*range(1, 21), *range(1001, 1001 + count)]
    assert (done.saved, done.losses, done.is_complete) == (20 + count, (), False)
    [doubt] = done.doubts
    assert f"up to {20 + size} that nothing shows to follow position {20 + count}" in doubt


def test_a_kept_head_shows_that_what_does_not_follow_was_committed(tmp_path: Path) -> None:
    torn(tmp_path / "run.db")
    log = overwritten(tmp_path / "run.db", 1)
    done, _ = recovered(log, Head(position=200, hash=bytes(32), recorded_ns=0))
    assert done.saved > 100
    assert any("may never have been committed" in doubt for doubt in done.doubts)


def test_a_torn_commit_that_goes_on_from_what_is_in_force_is_saved(tmp_path: Path) -> None:
    torn(tmp_path / "run.db")
    done, target = recovered(tmp_path / "run.db")
    assert (done.saved, done.is_complete) == (200, True)
    assert numbers(target) == [*range(1, 201)]


def test_what_stands_behind_a_loss_in_a_torn_commit_is_doubted(tmp_path: Path) -> None:
    log = tmp_path / "run.db"
    before = torn(log)
    content = wal_of(log).read_bytes()
    leaf = (content.index(b'{"n":100,', in_frame(before, 0)) - WAL_HEADER) // FRAME
    overwrite(wal_of(log), in_frame(leaf, 0), bytes(FRAME))
    done, target = recovered(log)
    assert_accounts_for_all(done, target)
    [loss] = done.losses
    assert (done.unproven, loss.first <= 100 <= loss.last) == (1, True)
    [doubt] = done.doubts
    assert f"from position {loss.last + 1} on" in doubt
    assert "may never have been committed" in doubt


def test_a_loss_at_the_end_of_a_torn_commit_is_doubted(tmp_path: Path) -> None:
    log = tmp_path / "run.db"
    before = torn(log)
    content = wal_of(log).read_bytes()
    leaf = (content.index(b'{"n":200,', in_frame(before, 0)) - WAL_HEADER) // FRAME
    overwrite(wal_of(log), in_frame(leaf, FRAME_HEADER), bytes(PAGE))
    done, target = recovered(log)
    assert_accounts_for_all(done, target)
    [loss] = done.losses
    assert (done.unproven, loss.last) == (0, 200)
    assert any(f"from position {loss.first} on" in doubt for doubt in done.doubts)


def test_a_long_document_in_a_torn_commit_costs_no_others(tmp_path: Path) -> None:
    log = tmp_path / "run.db"
    before = torn(log, 20, padding=20_000)
    for number in (before + 30, before + 31):
        overwrite(wal_of(log), in_frame(number, 0), bytes(FRAME))
    done, target = recovered(log)
    assert 0 < done.lost < 3
    assert_accounts_for_all(done, target, 40)


def test_what_a_wal_without_a_header_holds_was_not_overwritten(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(20))
    assert not read_wal(wal_of(log)).is_damaged
    flip(wal_of(log), 18)
    assert read_wal(wal_of(log)).is_damaged


def test_what_a_damaged_wal_has_lost_is_named(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(60))
    wal = wal_of(log)
    content = wal.read_bytes()
    # In each version of the page that holds it.
    wal.write_bytes(content.replace(b'{"n":30,', b'{"n":99,'))
    done, target = recovered(log)
    assert [(loss.first, loss.last) for loss in done.losses] == [(30, 30)]
    assert_accounts_for_all(done, target, 60)


def test_long_documents_are_found_behind_the_damage_of_a_wal(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(12, padding=20_000))
    flip(wal_of(log), in_frame(frames_in(log) // 2, 10))
    done, _ = recovered(log)
    assert (done.saved, done.is_complete) == (12, True)


def test_pages_that_were_copied_before_the_wal_was_damaged_count(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(60))
    wal = wal_of(log).read_bytes()
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        log.with_name("copied.db").write_bytes(log.read_bytes())
    copied = log.with_name("copied.db")
    # Of the WAL is left what is older than the file, and one frame behind the damage.
    wal_of(copied).write_bytes(wal[: in_frame(100, 0)])
    flip(wal_of(copied), in_frame(98, 10))
    done, _ = recovered(copied)
    assert (done.saved, done.is_complete) == (60, True)


def test_a_link_leads_to_the_wal_and_the_lock_of_the_log(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(20))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(log)
    assert recover_log(link, tmp_path / "saved.db", by="/test").saved == 20
    lock = acquire(log)
    try:
        with pytest.raises(LogLockedError):
            recover_log(link, tmp_path / "again.db", by="/test")
    finally:
        lock.release()


def test_a_log_that_is_written_is_left_alone(log: Path) -> None:
    lock = acquire(log)
    try:
        with pytest.raises(LogLockedError):
            recover_log(log, log.with_name("saved.db"), by="/test")
    finally:
        lock.release()
    assert not log.with_name("saved.db").exists()


def test_a_name_that_is_taken_and_one_that_is_not_there_are_refused(log: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        recover_log(log, log, by="/test")
    with pytest.raises(LogError, match="no log"):
        recover_log(log.with_name("none.db"), log.with_name("saved.db"), by="/test")


@pytest.mark.parametrize("content", [b"", b"hi\n", random.Random(2).randbytes(40 * PAGE)])
def test_of_what_holds_no_record_no_log_is_made(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "run.db"
    log.write_bytes(content)
    with pytest.raises(LogError, match="no record of hms-bus was found"):
        recover_log(log, tmp_path / "saved.db", by="/test")
    assert [file.name for file in tmp_path.iterdir()] == ["run.db"]


def test_tables_of_another_program_are_no_losses(tmp_path: Path) -> None:
    log = tmp_path / "run.db"
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT, count INTEGER)")
        connection.execute("INSERT INTO notes VALUES (1, 'apples', 7)")
    with pytest.raises(LogError, match="no record of hms-bus was found"):
        recover_log(log, tmp_path / "saved.db", by="/test")


@given(
    damage=st.lists(
        st.tuples(st.integers(0, 10**9), st.binary(min_size=1, max_size=40)), max_size=8
    )
)
def test_no_damage_makes_it_lie(
    damage: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    log = fill(folder / "run.db", numbered(60))
    whole = {one.position: one.document for one in records(log)}
    for place, octets in damage:
        overwrite(log, place % (log.stat().st_size - len(octets)), octets)
    done, target = recovered(log)
    saved = [one for one in records(target) if not one.topic.startswith("$")]
    known = set(whole.values())
    altered = [one for one in saved if one.document not in known]
    # Only a record right behind a loss has nothing that it could be checked with.
    assert len(altered) <= done.unproven
    kept = {
        position for position, document in whole.items() if document in {o.document for o in saved}
    }
    # What is gone is told, unless the end is gone with all that knew of it.
    assert set(range(1, max(kept, default=0))) - kept <= lost_positions(done)
