"""`compact_log` and `compact_in_place`: what stays, and what the new log says of the old one."""

import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import new_envelope
from hms_bus.abc import Selector
from hms_bus.errors import LogError, LogLockedError, StateError, TopicError, UsageError
from hms_bus.log.lock import acquire
from hms_bus.log.tools import Rule, compact_in_place, compact_log, redact_log
from tests.support.tool_logs import fill, numbered, numbers, raising, records, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return fill(tmp_path / "run.db", numbered(30))


def compacted(log: Path, *rules: Rule) -> list[int]:
    target = log.with_name("new.db")
    compact_log(log, target, rules, by="/test")
    assert verify(target).is_sound
    return numbers(target)


def test_the_last_record_of_each_topic_stays(log: Path) -> None:
    assert compacted(log, Rule(pattern="orders.>", last_only=True)) == [28, 29, 30]


def test_a_pattern_leaves_other_topics_alone(log: Path) -> None:
    kept = compacted(log, Rule(pattern="orders.eu.*", last_only=True))
    assert kept == [n for n in range(1, 31) if n % 3 or n == 30]


def test_so_many_records_stay(log: Path) -> None:
    assert compacted(log, Rule(max_records=4)) == [27, 28, 29, 30]


def test_what_is_older_goes(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(5))
    fill(log, numbered(5, first=6))
    assert compacted(log, Rule(since_ns=records(log)[5].recorded_ns)) == [6, 7, 8, 9, 10]


def test_every_rule_must_agree(log: Path) -> None:
    rules = (Rule(pattern="orders.eu.*", max_records=2), Rule(max_records=9))
    assert compacted(log, *rules) == [22, 23, 25, 26, 27, 28, 29, 30]


def test_the_new_log_names_the_old_head_and_the_rules(log: Path) -> None:
    head = verify(log).head
    compacted(log, Rule(pattern="orders.>", last_only=True))
    last = records(log.with_name("new.db"))[-1]
    assert (last.topic, last.source) == ("$log.compacted", "/test")
    assert json.loads(last.document)["data"] == {
        "position": 30,
        "hash": head.hash.hex(),
        "recorded_ns": head.recorded_ns,
        "kept": 3,
        "dropped": 27,
        "rules": [{"pattern": "orders.>", "last_only": True}],
    }


def test_a_rule_that_keeps_nothing_is_named(log: Path) -> None:
    compacted(log, Rule(pattern="orders.>", max_records=0))
    last = json.loads(records(log.with_name("new.db"))[-1].document)
    assert last["data"]["rules"] == [{"pattern": "orders.>", "max_records": 0}]


def test_dead_letters_go_only_when_a_rule_names_them(log: Path) -> None:
    fill(log, [new_envelope("$dlq.billing", 1, source="/shop")])
    for rule, topics in (
        (Rule(max_records=0), ["$dlq.billing", "$log.compacted"]),
        (Rule(pattern="$dlq.>", max_records=0), ["$log.compacted"]),
    ):
        target = log.with_name(f"{len(topics)}.db")
        compact_log(log, target, [rule], by="/test")
        assert [one.topic for one in records(target) if one.topic.startswith("$")] == topics


def test_what_the_log_says_about_itself_stays(log: Path) -> None:
    redact_log(log, Selector(), positions=[1], by="/test")
    compacted(log, Rule(max_records=0))
    topics = [one.topic for one in records(log.with_name("new.db"))]
    assert topics == ["$log.redacted", "$log.compacted"]


def test_rules_that_are_none_are_refused(log: Path) -> None:
    target = log.with_name("new.db")
    with pytest.raises(UsageError, match="what to keep"):
        compact_log(log, target, [], by="/test")
    with pytest.raises(UsageError, match="max_records"):
        compact_log(log, target, [Rule(max_records=-1)], by="/test")
    with pytest.raises(TopicError):
        compact_log(log, target, [Rule(pattern="a..b", last_only=True)], by="/test")
    assert not target.exists()


def test_in_place_the_file_itself_is_compacted(log: Path) -> None:
    old = verify(log).head
    done = compact_in_place(log, [Rule(max_records=4)], by="/test")
    assert (done.kept, done.dropped, done.old) == (4, 26, old)
    assert numbers(log) == [27, 28, 29, 30]
    assert verify(log).head == done.new
    fill(log, numbered(2, first=31))
    assert numbers(log) == [27, 28, 29, 30, 31, 32]
    assert verify(log).is_sound
    assert not [*log.parent.glob(".*")]


def test_in_place_nothing_is_changed_when_nothing_is_dropped(log: Path) -> None:
    before = log.read_bytes()
    done = compact_in_place(log, [Rule(max_records=30)], by="/test")
    assert (done.dropped, done.old) == (0, done.new)
    assert log.read_bytes() == before


def test_in_place_nobody_else_may_have_the_log(log: Path) -> None:
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as reader:
        reader.execute("SELECT count(*) FROM records").fetchone()
        with pytest.raises(LogError, match="another program"):
            compact_in_place(log, [Rule(max_records=4)], by="/test")
    lock = acquire(log)
    try:
        with pytest.raises(LogLockedError):
            compact_in_place(log, [Rule(max_records=4)], by="/test")
    finally:
        lock.release()
    assert numbers(log) == [*range(1, 31)]


def test_in_place_a_log_with_durables_is_refused(log: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("CREATE TABLE durables (name TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO durables VALUES ('billing')")
    with pytest.raises(StateError, match="billing"):
        compact_in_place(log, [Rule(max_records=4)], by="/test")
    assert compacted(log, Rule(max_records=4)) == [27, 28, 29, 30]


def test_in_place_work_that_is_interrupted_changes_nothing(log: Path) -> None:
    fill(log, numbered(1000, first=31))
    before = log.read_bytes()
    with pytest.raises(KeyError):
        compact_in_place(log, [Rule(max_records=4)], by="/test", report=raising(KeyError()))
    assert log.read_bytes() == before
    assert [*log.parent.iterdir()] == [log]


def test_in_place_a_file_that_cannot_grow_stays_as_it_was(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(sqlite3.Connection):
        def backup(self, *args: object, **how: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Full))
    with pytest.raises(LogError, match=r"could not be changed .*disk is full"):
        compact_in_place(log, [Rule(max_records=4)], by="/test")
    assert numbers(log) == [*range(1, 31)]


@given(
    topics=st.lists(st.sampled_from("abc"), max_size=30),
    counts=st.dictionaries(st.sampled_from("abc"), st.integers(0, 8)),
    last=st.sets(st.sampled_from("abc")),
)
def test_rules_keep_what_they_say(
    topics: list[str],
    counts: dict[str, int],
    last: set[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    events = [new_envelope(topic, n, source="/x", id=f"{n:03d}") for n, topic in enumerate(topics)]
    log = fill(folder / "run.db", events)
    rules = [
        Rule(max_records=100),
        *(Rule(pattern=topic, max_records=count) for topic, count in counts.items()),
        *(Rule(pattern=topic, last_only=True) for topic in last),
    ]
    compact_log(log, folder / "new.db", rules, by="/test")
    expected: list[str] = []
    for n, topic in enumerate(topics):
        behind = topics[n + 1 :].count(topic)
        if behind < counts.get(topic, 100) and not (topic in last and behind):
            expected.append(f"{n:03d}")
    kept = [one.id for one in records(folder / "new.db") if not one.topic.startswith("$")]
    assert kept == expected
