"""New logs from old ones: a part of one, several in one, one in several.

All keep events and recorded times, and what was redacted; positions and the chain are those of the
new log. Where nothing is left out from the beginning on, the chain is the same, and heads that were
kept stay valid. Durables are not carried over, their cursors are positions of the old log; hence
schedules are left out that were sent, ended or replaced, which a copy could not know. All of it
blocks.
"""

import heapq
import os
import shutil
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from msgspec import Struct

from hms_bus.abc import Selector
from hms_bus.log.schema import prepare_file
from hms_bus.log.tools.rows import (
    RowWriter,
    make_file,
    making_failed,
    new_log,
    partial_of,
    sync_folder,
    taken,
)
from hms_bus.log.tools.schedules import Schedules
from hms_bus.log.tools.steps import REPORT_EACH, Report, silent
from hms_bus.log.tools.stored import Source, Stored, chooser, open_source

By = Literal["topic", "day", "size"]

_MAX_OPEN = 50
_LONGEST_NAME = 200
_RECORD_BYTES = 155
"""What a record takes in the file besides its document, without pages that are half full."""


class Copied(Struct, frozen=True, kw_only=True):
    """How many records were read, and how many of them stand in the new log."""

    read: int
    written: int


class Clash(Struct, frozen=True, kw_only=True):
    """Two records with the same source and id that say different things; the second was left out.

    `path` and `position` are those of the second.
    """

    source: str
    id: str
    path: str
    position: int


class Merged(Struct, frozen=True, kw_only=True):
    """What became of the records of all logs that were merged."""

    read: int
    written: int
    duplicates: int
    clashes: tuple[Clash, ...]


def filter_log(path: Path, target: Path, selector: Selector, report: Report = silent) -> Copied:
    """Write the selected records of the log `path` into a new log.

    Raises `TopicError`, `UsageError` when `target` exists, `LogCorruptError` for a log that is not
    sound, `LogError`.
    """
    wants = chooser(selector)
    read = 0
    with open_source(path) as source, new_log(target, like=[source.path]) as writer:
        due = Schedules([source])
        first = max(selector.first or 1, 1)
        for stored in source.walk(first, selector.last):
            read += 1
            if wants(stored) and not due.drops(stored):
                writer.add(stored)
            if read % REPORT_EACH == 0:
                report(read, source.head.position - first + 1)
        written = writer.position
    return Copied(read=read, written=written)


def merge_logs(paths: Sequence[Path], target: Path, report: Report = silent) -> Merged:
    """Write the records of all logs into a new one, by recorded time.

    At the same time the order is that of `paths`, and within a log it never changes. A record that
    several logs have stands there once; its payload is gone if one of them has redacted it. A
    schedule is left out if it was sent, ended or replaced in one of them. Raises as `filter_log`.
    """
    read = duplicates = 0
    clashes: list[Clash] = []
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(path)) for path in paths]
        due = Schedules(sources)
        writer = stack.enter_context(new_log(target, like=[source.path for source in sources]))
        total = sum(source.head.position for source in sources)
        for stored, source in heapq.merge(*map(_tagged, sources), key=_recorded):
            read += 1
            if read % REPORT_EACH == 0:
                report(read, total)
            if due.drops(stored):
                continue
            known = writer.find(stored.source, stored.id)
            if known is None:
                writer.add(stored)
            elif writer.stored_content(known) != stored.content:
                clashes.append(_clash(stored, source))
            else:
                duplicates += 1
                if stored.payload_hash is not None:
                    writer.take_out(known)
        written = writer.position
    return Merged(read=read, written=written, duplicates=duplicates, clashes=tuple(clashes))


def _tagged(source: Source) -> Iterator[tuple[Stored, Source]]:
    return ((stored, source) for stored in source.walk())


def _recorded(item: tuple[Stored, Source]) -> int:
    return item[0].recorded_ns


def _clash(stored: Stored, source: Source) -> Clash:
    return Clash(
        source=stored.source, id=stored.id, path=str(source.path), position=stored.position
    )


def split_log(
    path: Path, folder: Path, by: By, *, max_bytes: int = 64 * 2**20, report: Report = silent
) -> dict[str, int]:
    """Write the records of the log `path` into new logs in the new folder `folder`.

    `by` is `topic` (a log for each, named after it), `day` (of the recorded time in UTC), or `size`
    (the next log begins before one would hold more than about `max_bytes` besides the 32 KiB of an
    empty one). Returns the names of the
    files, in the order of their first records, and how many records each has. Raises as
    `filter_log`.
    """
    if os.path.lexists(folder):
        raise taken(folder)
    name_of = _naming(by, max_bytes)
    with open_source(path) as source, _new_folder(folder, like=source.path) as files:
        due = Schedules([source])
        for stored in source.walk():
            if not due.drops(stored):
                files.writer(name_of(stored)).add(stored)
            if stored.position % REPORT_EACH == 0:
                report(stored.position, source.head.position)
    return files.counts


def _naming(by: By, max_bytes: int) -> Callable[[Stored], str]:
    size, number = 0, 1

    def by_size(stored: Stored) -> str:
        nonlocal size, number
        size += len(stored.document) + _RECORD_BYTES
        if size > max_bytes and size > len(stored.document) + _RECORD_BYTES:
            size, number = len(stored.document) + _RECORD_BYTES, number + 1
        return f"{number:06d}.db"

    def by_day(stored: Stored) -> str:
        return f"{datetime.fromtimestamp(stored.recorded_ns // 10**9, UTC):%Y-%m-%d}.db"

    def by_topic(stored: Stored) -> str:
        name = quote(stored.topic, safe="$@=+,~ ")
        if len(name) > _LONGEST_NAME:
            digest = sha256(stored.topic.encode()).hexdigest()[:16]
            name = f"{name[:_LONGEST_NAME]}-{digest}"  # longer than any that is not cut
        return f"{name}.db"

    return {"size": by_size, "day": by_day, "topic": by_topic}[by]


@contextmanager
def _new_folder(folder: Path, *, like: Path) -> "Generator[_Files]":
    """Make `folder`, durable and whole when the scope ends well, otherwise not at all."""
    partial = partial_of(folder)
    try:
        partial.mkdir()
        files = _Files(partial, like)
        try:
            yield files
            files.close()
            _name(partial, folder)
        except BaseException:
            with suppress(sqlite3.Error):
                files.close()
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except (sqlite3.Error, OSError) as error:
        raise making_failed(error, folder) from error


def _name(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError as error:
        if os.path.lexists(folder):
            raise taken(folder) from error
        raise
    sync_folder(folder.parent)


class _Files:
    """The logs of a folder that is being filled; a few of them are open at a time."""

    def __init__(self, folder: Path, like: Path) -> None:
        self.counts: dict[str, int] = {}
        self._folder = folder
        self._like = like
        self._open: OrderedDict[str, tuple[sqlite3.Connection, RowWriter]] = OrderedDict()

    def writer(self, name: str) -> RowWriter:
        """Return what the log of that name is written with, for one record."""
        self.counts[name] = self.counts.get(name, 0) + 1
        if name in self._open:
            self._open.move_to_end(name)
        else:
            if len(self._open) >= _MAX_OPEN:
                _finish(*self._open.popitem(last=False)[1])
            self._open[name] = self._connect(self._folder / name)
        return self._open[name][1]

    def close(self) -> None:
        """Write what is to be written, durable, and close all."""
        while self._open:
            _finish(*self._open.popitem()[1])
        for name in self.counts:
            path = self._folder / name
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(self._folder)

    def _connect(self, path: Path) -> tuple[sqlite3.Connection, RowWriter]:
        if not path.exists():
            make_file(path, [self._like])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        prepare_file(connection, path)
        connection.execute("BEGIN")
        return connection, RowWriter(connection, path)


def _finish(connection: sqlite3.Connection, writer: RowWriter) -> None:
    with closing(connection):
        writer.flush()
        connection.execute("COMMIT")
