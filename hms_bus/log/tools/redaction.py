"""Taking payloads out of a log so that its chain still verifies (spec/log.md, "To redact")."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from msgspec import Struct

from hms_bus.abc import Head, Selector
from hms_bus.errors import LogError, UsageError
from hms_bus.log.failures import write_failed
from hms_bus.log.file import find_file, open_for_writing
from hms_bus.log.settings import Settings
from hms_bus.log.tools.rows import OWN, RowWriter
from hms_bus.log.tools.steps import REPORT_EACH, Report, silent
from hms_bus.log.tools.stored import chooser, walk

TOPIC = "$log.redacted"
_POSITIONS_PER_RECORD = 1000


class Redacted(Struct, frozen=True, kw_only=True):
    """What a redaction did.

    `positions` lost their payloads, `payload_bytes` in all. `is_erased` is false when another
    program that reads the log keeps the file's WAL, and with it the payloads, on the disk for the
    moment; the next checkpoint that can overwrite them does.
    """

    positions: tuple[int, ...]
    payload_bytes: int
    is_erased: bool
    head: Head


def redact_log(
    path: Path,
    selector: Selector,
    *,
    positions: Sequence[int] = (),
    ids: Sequence[str] = (),
    by: str,
    reason: str = "",
    is_trial: bool = False,
    report: Report = silent,
) -> Redacted:
    """Take the payloads out of the selected records; say so in records on `$log.redacted`.

    With `positions` or `ids`, only of these. `by` is who does it, a source. What has no payload
    (any more), and what the log says about itself, is passed over. All or nothing; with `is_trial`
    nothing. What other logs, copies and dead letters hold is not touched. Blocks. Raises
    `UsageError` for a position or id that the log does not have, `TopicError`, `LogLockedError`
    while another writer has it, `LogCorruptError` when a record is not sound, `LogError`.
    """
    wants = chooser(selector)
    settings = Settings(path=path)
    real = find_file(settings)
    if not real.exists():
        raise LogError(f"there is no log {real}: is the name right?", path=str(real))
    connection, lock = open_for_writing(real, settings)
    try:
        with closing(connection):
            # What is overwritten is filled with zeros: it must not stay on the disk.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                writer = RowWriter(connection, real)
                done: list[int] = []
                size = 0
                named = _named(connection, writer, real, positions, ids)
                for position in _places(writer, selector, named):
                    [stored] = walk(connection, str(real), position, position)
                    if not stored.topic.startswith(OWN) and wants(stored):
                        freed = writer.take_out(position)
                        size += freed
                        done += [position] if freed else []
                    if position % REPORT_EACH == 0:
                        report(position, writer.position)
                if is_trial:
                    connection.execute("ROLLBACK")
                    return _result(done, size, writer, is_erased=False)
                _note(writer, done, by, reason)
                writer.flush()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("PRAGMA busy_timeout = 200")  # for readers that are just leaving
            [is_busy, *_] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return _result(done, size, writer, is_erased=not is_busy)
    except sqlite3.Error as error:
        raise write_failed(error, str(real)) from error
    finally:
        lock.release()


def _result(done: list[int], size: int, writer: RowWriter, *, is_erased: bool) -> Redacted:
    return Redacted(
        positions=tuple(done), payload_bytes=size, is_erased=is_erased, head=writer.head
    )


def _places(writer: RowWriter, selector: Selector, named: set[int] | None) -> Iterable[int]:
    """Return the positions to look at, ascending."""
    first, last = max(selector.first or 1, 1), writer.position
    if selector.last is not None:
        last = min(last, selector.last)
    if named is None:
        return range(first, last + 1)
    return [position for position in sorted(named) if first <= position <= last]


def _named(
    connection: sqlite3.Connection,
    writer: RowWriter,
    path: Path,
    positions: Sequence[int],
    ids: Sequence[str],
) -> set[int] | None:
    """Return the positions that are meant by name, `None` when nothing is."""
    if not positions and not ids:
        return None
    unknown = [position for position in positions if not 1 <= position <= writer.position]
    if unknown:
        raise UsageError(f"{path} has no position {unknown[0]}, it ends at {writer.position}")
    named = set(positions)
    for id_ in ids:
        rows = connection.execute("SELECT position FROM records WHERE id = ?", (id_,)).fetchall()
        if not rows:
            raise UsageError(f"{path} has no record with the id {id_!r}")
        named.update(position for (position,) in rows)
    return named


def _note(writer: RowWriter, done: list[int], by: str, reason: str) -> None:
    """Append what was redacted, in as many records as it takes."""
    for positions in _batches(done):
        writer.note(TOPIC, {"positions": positions, "reason": reason, "by": by}, by=by)


def _batches(done: list[int]) -> Iterator[list[int]]:
    left = iter(done)
    while batch := list(islice(left, _POSITIONS_PER_RECORD)):
        yield batch
