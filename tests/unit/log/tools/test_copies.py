"""`filter_log`, `merge_logs`, `split_log`, and what all new logs have in common."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import new_envelope
from hms_bus.abc import Selector
from hms_bus.errors import LogCorruptError, LogError, UsageError
from hms_bus.log.tools import filter_log, merge_logs, redact_log, split_log
from tests.support.tool_logs import fill, numbered, numbers, raising, records, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return fill(tmp_path / "run.db", numbered(30))


def listing(folder: Path) -> list[str]:
    """What is in a folder besides what SQLite leaves for those who read run.db."""
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("run.db-"))


def test_a_filter_keeps_times_and_makes_new_positions(log: Path, tmp_path: Path) -> None:
    done = filter_log(log, tmp_path / "new.db", Selector(pattern="orders.eu.>"))
    assert (done.read, done.written) == (30, 10)
    wanted = [one for one in records(log) if one.topic == "orders.eu.created"]
    found = records(tmp_path / "new.db")
    assert [one.position for one in found] == [*range(1, 11)]
    assert [(one.recorded_ns, one.document) for one in found] == [
        (one.recorded_ns, one.document) for one in wanted
    ]
    assert verify(tmp_path / "new.db").is_sound


def test_a_filter_takes_every_condition(tmp_path: Path) -> None:
    log = fill(
        tmp_path / "run.db",
        [
            new_envelope("a.b", 1, source="/x", type="T", correlationid="c"),
            new_envelope("a.b", 2, source="/y", type="T", correlationid="c"),
            new_envelope("a.c", 3, source="/x", type="U", correlationid="d"),
            new_envelope("a.c", {"type": "T"}, source="/x", type="U"),
        ],
    )
    times = [one.recorded_ns for one in records(log)]
    for index, (selector, count) in enumerate(
        [
            (Selector(types=frozenset({"T"})), 2),
            (Selector(source="/x"), 3),
            (Selector(correlation="c", source="/x"), 1),
            (Selector(first=2, last=3), 2),
            (Selector(since_ns=times[0]), 4),
            (Selector(until_ns=times[0] - 1), 0),
            (Selector(pattern="a.*", first=4), 1),
        ]
    ):
        target = tmp_path / f"{index}.db"
        assert filter_log(log, target, selector).written == count
        assert verify(target).is_sound


def test_a_copy_of_the_beginning_keeps_the_chain(log: Path, tmp_path: Path) -> None:
    filter_log(log, tmp_path / "new.db", Selector(last=20))
    assert [one.hash for one in records(tmp_path / "new.db")] == [
        one.hash for one in records(log)[:20]
    ]


def test_what_was_redacted_stays_so_in_a_copy(log: Path, tmp_path: Path) -> None:
    redact_log(log, Selector(), positions=[3], by="/test")
    filter_log(log, tmp_path / "new.db", Selector())
    assert records(tmp_path / "new.db")[2].payload_hash is not None
    assert verify(tmp_path / "new.db").is_sound


def test_a_log_that_was_changed_is_not_made_sound_by_copying(log: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("UPDATE records SET document = replace(document, '\"n\":7', '\"n\":8')")
    with pytest.raises(LogCorruptError, match="recover") as caught:
        filter_log(log, tmp_path / "new.db", Selector())
    assert caught.value.position == 7
    assert listing(tmp_path) == ["run.db"]


def test_a_log_with_a_hole_is_not_copied(log: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("DELETE FROM records WHERE position = 7")
    with pytest.raises(LogCorruptError, match="missing"):
        filter_log(log, tmp_path / "new.db", Selector())
    with pytest.raises(LogCorruptError, match="missing"):
        filter_log(log, tmp_path / "new.db", Selector(first=8))


def test_work_that_is_interrupted_leaves_nothing(log: Path, tmp_path: Path) -> None:
    fill(log, numbered(2000, first=31))
    for work in (
        lambda: filter_log(log, tmp_path / "new.db", Selector(), raising(KeyError())),
        lambda: merge_logs([log], tmp_path / "new.db", raising(KeyError())),
        lambda: split_log(log, tmp_path / "new", "day", report=raising(KeyError())),
    ):
        with pytest.raises(KeyError):
            work()
        assert listing(tmp_path) == ["run.db"]


def test_no_file_is_ever_replaced(log: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        filter_log(log, log, Selector())
    (tmp_path / "new.db-wal").touch()
    with pytest.raises(UsageError, match="exists"):
        filter_log(log, tmp_path / "new.db", Selector())
    with pytest.raises(UsageError, match="exists"):
        split_log(log, tmp_path, "day")
    with pytest.raises(LogError, match="does not exist"):
        filter_log(log, tmp_path / "none" / "new.db", Selector())
    assert numbers(log) == [*range(1, 31)]


def test_a_copy_goes_on_as_a_log(log: Path, tmp_path: Path) -> None:
    filter_log(log, tmp_path / "new.db", Selector(pattern="orders.eu.>"))
    fill(tmp_path / "new.db", numbered(5, first=29))
    assert numbers(tmp_path / "new.db") == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 29, 31, 32, 33]
    assert verify(tmp_path / "new.db").is_sound


def test_a_merge_is_ordered_by_time_and_has_each_record_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    events = numbered(60)
    for start in (0, 20, 40):
        fill(first, events[start : start + 10])
        fill(second, events[start + 10 : start + 20])
    fill(second, events[:10])
    done = merge_logs([first, second], tmp_path / "new.db")
    assert (done.read, done.written, done.duplicates, done.clashes) == (70, 60, 10, ())
    assert numbers(tmp_path / "new.db") == [*range(1, 61)]
    assert verify(tmp_path / "new.db").is_sound


def test_a_merge_does_not_bring_back_what_one_log_has_redacted(tmp_path: Path) -> None:
    first = fill(tmp_path / "a.db", numbered(5))
    filter_log(first, tmp_path / "b.db", Selector())
    redact_log(tmp_path / "b.db", Selector(), positions=[2], by="/test")
    for index, paths in enumerate(([first, tmp_path / "b.db"], [tmp_path / "b.db", first])):
        target = tmp_path / f"{index}.db"
        assert merge_logs(paths, target).duplicates == 5
        assert [one.position for one in records(target) if one.payload_hash] == [2]
        assert verify(target).is_sound


def test_records_that_differ_under_one_id_are_named(tmp_path: Path) -> None:
    one = fill(tmp_path / "a.db", [new_envelope("a", 1, source="/x", id="1")])
    two = fill(tmp_path / "b.db", [new_envelope("a", 2, source="/x", id="1")])
    done = merge_logs([one, two], tmp_path / "new.db")
    assert [(clash.path, clash.position) for clash in done.clashes] == [(str(two), 1)]
    assert [record.document for record in records(tmp_path / "new.db")] == [
        record.document for record in records(one)
    ]


@given(
    parts=st.lists(st.lists(st.integers(1, 20), max_size=12, unique=True), min_size=1, max_size=4)
)
def test_a_merge_loses_and_doubles_nothing(
    parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    every = {n: numbered(1, first=n)[0] for n in range(1, 21)}
    paths = [
        fill(folder / f"{index}.db", [every[n] for n in part]) for index, part in enumerate(parts)
    ]
    done = merge_logs(paths, folder / "new.db")
    found = numbers(folder / "new.db")
    assert sorted(found) == sorted({n for part in parts for n in part})
    assert done.written + done.duplicates == sum(map(len, parts))
    assert not done.clashes
    assert verify(folder / "new.db").is_sound


def test_a_payload_that_a_merge_takes_out_is_not_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where SQLite is built without SQLITE_SECURE_DELETE."""

    class Careless(sqlite3.Connection):
        def __init__(self, *args: Any, **how: Any) -> None:
            super().__init__(*args, **how)
            self.execute("PRAGMA secure_delete = OFF")

    first = fill(
        tmp_path / "a.db", [new_envelope("a", "secret" * 50, source="/x") for _ in range(20)]
    )
    filter_log(first, tmp_path / "b.db", Selector())
    redact_log(tmp_path / "b.db", Selector(pattern="a"), by="/test")
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Careless))
    merge_logs([first, tmp_path / "b.db"], tmp_path / "new.db")
    assert b"secret" not in (tmp_path / "new.db").read_bytes()


def test_a_split_by_topic_keeps_long_topics_apart(tmp_path: Path) -> None:
    long = ".".join(["x" * 55] * 4)
    log = fill(tmp_path / "run.db", [new_envelope(f"{long}.{n}", n, source="/x") for n in "ab"])
    counts = split_log(log, tmp_path / "new", "topic")
    assert [*counts.values()] == [1, 1]
    assert [records(tmp_path / "new" / name)[0].topic[-1] for name in counts] == ["a", "b"]


def test_a_split_by_topic_has_a_log_for_each(log: Path, tmp_path: Path) -> None:
    counts = split_log(log, tmp_path / "new", "topic")
    assert counts == {f"orders.{where}.created.db": 10 for where in ("us", "jp", "eu")}
    assert listing(tmp_path / "new") == sorted(counts)
    assert numbers(tmp_path / "new" / "orders.eu.created.db") == [*range(3, 31, 3)]


def test_a_split_may_have_more_logs_than_are_open_at_a_time(tmp_path: Path) -> None:
    events = [new_envelope(f"t{n % 70}", n, source="/x") for n in range(210)]
    log = fill(tmp_path / "run.db", events)
    counts = split_log(log, tmp_path / "new", "topic")
    assert set(counts.values()) == {3}
    assert len(counts) == 70
    for name in counts:
        assert verify(tmp_path / "new" / name).records == 3


def test_a_split_by_size_fills_each_log(log: Path, tmp_path: Path) -> None:
    counts = split_log(log, tmp_path / "new", "size", max_bytes=4000)
    assert [*counts] == [f"{n:06d}.db" for n in range(1, len(counts) + 1)]
    assert len(counts) > 1
    parts = [numbers(tmp_path / "new" / name) for name in counts]
    assert [n for part in parts for n in part] == [*range(1, 31)]


def test_a_split_by_day_is_named_by_the_day(log: Path, tmp_path: Path) -> None:
    [name] = split_log(log, tmp_path / "new", "day")
    assert len(name) == len("2026-01-31.db")
    assert numbers(tmp_path / "new" / name) == [*range(1, 31)]
