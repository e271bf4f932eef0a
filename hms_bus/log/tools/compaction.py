"""Retention and compaction: a new log without what nobody needs any more (spec/log.md)."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from hms_bus.abc import Head
from hms_bus.errors import LogError, StateError, UsageError
from hms_bus.log.failures import is_busy, read_failed
from hms_bus.log.file import find_file
from hms_bus.log.ledger import read_head
from hms_bus.log.lock import acquire
from hms_bus.log.schema import CURRENT, read_version
from hms_bus.log.settings import Settings
from hms_bus.log.tools.rows import OWN, new_log, remove_log
from hms_bus.log.tools.schedules import PREFIX as SCHEDULES
from hms_bus.log.tools.schedules import Schedules
from hms_bus.log.tools.steps import REPORT_EACH, Report, silent
from hms_bus.log.tools.stored import Source, open_source
from hms_bus.topics import parse_pattern

TOPIC = "$log.compacted"
_DEAD_LETTERS = "$dlq."


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of the topics that `pattern` selects, of all but dead letters without one.

    `last_only`: the last record of each topic. `since_ns`: what was recorded then or later.
    `max_records`: so many, the last ones, of all these topics together. A record stays when every
    rule that concerns its topic keeps it.

    No rule concerns what a log says about itself, which stays, and schedules: those that are still
    to be sent stay, the others go.
    """

    pattern: str | None = None
    last_only: bool = False
    since_ns: int | None = None
    max_records: int | None = None


class Compacted(Struct, frozen=True, kw_only=True):
    """What a compaction did. `old` is the end of the log as it was, `new` that of the result."""

    kept: int
    dropped: int
    old: Head
    new: Head


def compact_log(
    path: Path, target: Path, rules: Sequence[Rule], *, by: str, report: Report = silent
) -> Compacted:
    """Write what the rules keep of the log `path` into a new log, ended by a record that says so.

    `by` is who does it, a source. The old log stays as it is. Blocks. Raises `UsageError` without
    a rule or when `target` exists, `TopicError`, `LogCorruptError` for a log that is not sound,
    `LogError`.
    """
    _check_rules(rules)
    with open_source(path) as source:
        return _compact(source, target, rules, by, report)


def compact_in_place(
    path: Path, rules: Sequence[Rule], *, by: str, report: Report = silent
) -> Compacted:
    """Do the same to the file itself, all or nothing, and only when nobody else has it open.

    The new contents are made beside it, then taken over in one transaction. Nothing is changed
    when the rules drop nothing. Raises as `compact_log`; `LogLockedError` or `LogError` when
    another program has the file open, `StateError` when it holds durables, whose cursors would lead
    elsewhere.
    """
    _check_rules(rules)
    with _alone(path) as source:
        _check_durables(source)
        partial = source.path.with_name(f".{source.path.name}.compacted")
        remove_log(partial)
        try:
            done = _compact(source, partial, rules, by, report)
            if done.dropped:
                _take_over(source, partial)
                return done
            return structs.replace(done, new=source.head)
        finally:
            remove_log(partial)


def _check_rules(rules: Sequence[Rule]) -> None:
    if not rules:
        raise UsageError("nothing says what to keep: name an age, a number, or a pattern")
    for rule in rules:
        if rule.pattern is not None:
            parse_pattern(rule.pattern)
        if rule.max_records is not None and rule.max_records < 0:
            raise UsageError(f"max_records is a number from 0, not {rule.max_records}")


def _compact(
    source: Source, target: Path, rules: Sequence[Rule], by: str, report: Report
) -> Compacted:
    stays = _stays(source, rules)
    due = Schedules([source])
    with new_log(target, like=[source.path]) as writer:
        for stored in source.walk():
            if due.keeps(stored) or (stays[stored.position - 1] and not due.drops(stored)):
                writer.add(stored)
            if stored.position % REPORT_EACH == 0:
                report(stored.position, source.head.position)
        kept = writer.position
        dropped = source.head.position - kept
        writer.note(TOPIC, _data(source.head, kept, dropped, rules), by=by)
        new = writer.head
    return Compacted(kept=kept, dropped=dropped, old=source.head, new=new)


def _data(head: Head, kept: int, dropped: int, rules: Sequence[Rule]) -> dict[str, Any]:
    return {
        "position": head.position,
        "hash": head.hash.hex(),
        "recorded_ns": head.recorded_ns,
        "kept": kept,
        "dropped": dropped,
        "rules": msgspec.to_builtins(rules),
    }


def _stays(source: Source, rules: Sequence[Rule]) -> bytearray:
    """Return for each position whether it stays, 1 or 0: 1 byte a record, 1 µs each."""
    stays = bytearray(b"\1" * source.head.position)
    keepers: dict[int, list[_Keeper]] = {}
    everyone = [_Keeper(rule) for rule in rules]
    names = dict(source.connection.execute("SELECT id, name FROM topics").fetchall())
    rows = source.connection.execute(
        "SELECT position, recorded_ns, topic FROM records WHERE position BETWEEN 1 AND ? "
        "ORDER BY position DESC",
        (source.head.position,),
    )
    for position, recorded_ns, topic in rows:
        concerned = keepers.get(topic)
        if concerned is None:
            name = names.get(topic, b"").decode(errors="replace")
            concerned = keepers[topic] = [k for k in everyone if k.concerns(name)]
        for keeper in concerned:
            stays[position - 1] &= keeper.keeps(topic, recorded_ns)
    return stays


class _Keeper:
    """A rule at work, from the last record to the first."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._matches = parse_pattern(rule.pattern).matches if rule.pattern else None
        self._seen: set[int] = set()
        self._count = 0

    def concerns(self, topic: str) -> bool:
        if topic.startswith((OWN, SCHEDULES)):
            return False
        if self._matches is None:
            return not topic.startswith(_DEAD_LETTERS)
        return self._matches(topic)

    def keeps(self, topic: int, recorded_ns: int) -> bool:
        rule = self._rule
        self._count += 1
        is_last = topic not in self._seen
        self._seen.add(topic)
        return (
            (is_last or not rule.last_only)
            and (rule.since_ns is None or recorded_ns >= rule.since_ns)
            and (rule.max_records is None or self._count <= rule.max_records)
        )


@contextmanager
def _alone(path: Path) -> Generator[Source]:
    """Open a log for writing so that no other program can have it open, not even for reading."""
    real = find_file(Settings(path=path))
    if not real.exists():
        raise LogError(f"there is no log {real}: is the name right?", path=str(real))
    lock = acquire(real)
    try:
        with closing(sqlite3.connect(real, timeout=0, isolation_level=None)) as connection:
            # Before the first access: then SQLite takes the whole file, or says that it cannot
            # (https://sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            if read_version(connection, real) < CURRENT.version:
                raise UsageError(f"{real} is empty or of an older version: open it once, to write")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            connection.text_factory = bytes
            yield Source(real, connection, read_head(connection, str(real)))
    except sqlite3.Error as error:
        if is_busy(error):
            raise LogError(
                f"another program has {real} open, and would lose its place: end it, or compact "
                "into a new log with -o",
                path=str(real),
            ) from error
        raise read_failed(error, str(real)) from error
    finally:
        lock.release()


def _check_durables(source: Source) -> None:
    execute = source.connection.execute
    if not execute("SELECT count(*) FROM sqlite_master WHERE name = 'durables'").fetchone()[0]:
        return
    names = [name.decode() for (name,) in execute("SELECT name FROM durables ORDER BY name")]
    if names:
        raise StateError(
            f"{source.path} has durables ({', '.join(names)}), whose cursors are positions that "
            "would move: compact into a new log with -o"
        )


def _take_over(source: Source, partial: Path) -> None:
    """Let the file become a copy of `partial`, in one transaction that a crash undoes."""
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as new:
            new.backup(source.connection)
    except sqlite3.Error as error:
        raise LogError(
            f"log {source.path} could not be changed ({error}), it is as it was: make room on the "
            "disk, or compact into a new log with -o",
            path=str(source.path),
        ) from error
    source.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
