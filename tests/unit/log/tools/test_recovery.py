"""`recover_log`: whatever happened to the file, what can be proven is saved, the rest is named."""

import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hms_bus.abc import Head
from hms_bus.errors import LogError, LogLockedError, UsageError
from hms_bus.log.lock import acquire
from hms_bus.log.tools import Loss, Recovered, recover_log
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


def test_a_kept_head_shows_what_the_end_has_lost(log: Path) -> None:
    head = verify(log).head
    last = leaves_of(log)[-1]
    overwrite(log, (last - 1) * PAGE, bytes(PAGE))
    done, target = recovered(log, replace(head, position=205))
    assert [loss.last for loss in done.losses] == [200, 205]
    assert done.losses[-1].why == "the log ends before the head that was kept"
    assert done.is_same
    assert_accounts_for_all(done, target, 205)


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


def test_a_file_of_garbage_gives_an_empty_log(tmp_path: Path) -> None:
    log = tmp_path / "run.db"
    log.write_bytes(random.Random(2).randbytes(40 * PAGE))
    done, target = recovered(log)
    assert (done.saved, done.losses) == (0, ())
    assert records(target) == []


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
