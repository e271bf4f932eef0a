"""Saving what can be proven of a damaged log into a new one (spec/log.md, "Recovery")."""

import heapq
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from hms_bus import jsonformat
from hms_bus.abc import Head
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, LogError, LogLockedError
from hms_bus.filelock import is_held, read_holder
from hms_bus.log.chain import GENESIS, cut, link
from hms_bus.log.failures import open_failed
from hms_bus.log.lock import lock_path
from hms_bus.log.tools.pages import (
    PAGE_BYTES,
    Found,
    GetPage,
    is_leaf,
    last_positions_on,
    rows_on,
)
from hms_bus.log.tools.rows import RowWriter, check_free, new_log
from hms_bus.log.tools.steps import Report, silent
from hms_bus.log.tools.stored import Stored
from hms_bus.log.tools.walfile import committed_pages

TOPIC = "$log.recovered"
_REPORT_EACH_PAGES = 500
_NAMED_RANGES = 1000
_MAX_POSSIBLE = 4
_RECORDS_PER_PAGE = 32  # a record takes 160 bytes at least; more would be a damaged number
_NEAR = 10_000  # a page holds positions that follow each other; one far off has a damaged number
_SIZES = {512 << shift for shift in range(8)}


class Loss(Struct, frozen=True, kw_only=True):
    """Positions `first` to `last` of the damaged log that are not in the new one, and why."""

    first: int
    last: int
    why: str


class Recovered(Struct, frozen=True, kw_only=True):
    """What was saved of a log.

    `saved` records are in the new log, of which `unproven` come right behind a loss: nothing is
    left that their hash could be checked with. `is_same` says that positions and chain are those
    of the damaged log, as nothing is lost before its last record.
    """

    saved: int
    unproven: int
    losses: tuple[Loss, ...]
    is_same: bool
    head: Head

    @property
    def lost(self) -> int:
        """How many records were not saved, as far as it can be known."""
        return sum(loss.last - loss.first + 1 for loss in self.losses)


def recover_log(
    path: Path,
    target: Path,
    *,
    by: str,
    expected: Head | None = None,
    report: Report = silent,
) -> Recovered:
    """Save every record of the damaged log `path` that can be read and proven into a new log.

    The file and the WAL beside it are only read, page by page, without SQLite. A record whose
    contents contradict its hash is not saved. When anything was lost the new log ends with a record
    that says what. `expected` is a head that was kept: what is missing up to it counts as lost.
    `report` is told pages. Blocks. Raises `UsageError` when `target` exists, `LogLockedError` while
    a writer has the log, `LogError`.
    """
    if not path.is_file():
        raise LogError(f"there is no log {path}: is the name right?", path=str(path))
    check_free(target)
    try:
        if is_held(lock_path(path)):
            raise LogLockedError(path=str(path), holder=read_holder(lock_path(path)) or "another")
        with _open_pages(path) as pages, new_log(target) as writer:
            sorter = _Sorter(writer)
            survey = _Survey(pages, report)
            for found in _ordered(pages, survey, report):
                sorter.take(found)
            sorter.conclude(survey.last, expected)
            if sorter.losses:
                writer.note(TOPIC, _data(sorter), by=by)
            return Recovered(
                saved=sorter.saved,
                unproven=sorter.unproven,
                losses=tuple(sorter.losses),
                is_same=sorter.is_same,
                head=writer.head,
            )
    except (sqlite3.Error, OSError) as error:
        raise open_failed(error, path) from error


def _data(sorter: "_Sorter") -> dict[str, Any]:
    losses = sorter.losses[:_NAMED_RANGES]
    return {
        "saved": sorter.saved,
        "unproven": sorter.unproven,
        "lost": [{"first": loss.first, "last": loss.last, "why": loss.why} for loss in losses],
        "more": len(sorter.losses) - len(losses),
    }


class _Pages:
    """The pages of a log file, those in its WAL in the place of older ones."""

    def __init__(self, file: BinaryIO, wal: BinaryIO | None, newer: dict[int, int]) -> None:
        header = file.read(100)
        stated = int.from_bytes(header[16:18])
        size = 65536 if stated == 1 else stated
        self.size = size if size in _SIZES else PAGE_BYTES
        self._file = file
        self._wal = wal
        self._newer = newer
        length = file.seek(0, 2)
        self.count = max(length // self.size, max(newer, default=0))

    def get(self, number: int) -> bytes | None:
        """Return a page; see `GetPage`."""
        offset = self._newer.get(number)
        if offset is not None and self._wal is not None:
            self._wal.seek(offset)
            page = self._wal.read(self.size)
        else:
            self._file.seek((number - 1) * self.size)
            page = self._file.read(self.size)
        return page if len(page) == self.size else None


@contextmanager
def _open_pages(path: Path) -> Generator[_Pages]:
    wal_path = path.with_name(f"{path.name}-wal")
    newer = committed_pages(wal_path)
    with path.open("rb") as file:
        if not newer:
            yield _Pages(file, None, {})
            return
        with wal_path.open("rb") as wal:
            yield _Pages(file, wal, newer)


class _Survey:
    """Which leaves hold records, and up to which position they should reach."""

    def __init__(self, pages: _Pages, report: Report) -> None:
        self.leaves: list[tuple[int, int]] = []
        self.last = 0
        for number in range(2, pages.count + 1):
            page = pages.get(number)
            if page is not None and is_leaf(page):
                self._look(number, page, pages.count * _RECORDS_PER_PAGE)
            if number % _REPORT_EACH_PAGES == 0:
                report(number, 2 * pages.count)

    def _look(self, number: int, page: bytes, plausible: int) -> None:
        positions = [found.position for found in _near(rows_on(page, _nothing))]
        if positions:
            self.leaves.append((min(positions), number))
            return
        lasts = (last for last in last_positions_on(page) if last <= plausible)
        self.last = max(self.last, *lasts, 0)


def _ordered(pages: _Pages, survey: _Survey, report: Report) -> Iterator[Found]:
    """Yield all rows by position; the same position may come more than once.

    The leaves are read a second time, so that no more than a few of them are held at a time: they
    hardly overlap.
    """
    get: GetPage = pages.get
    waiting: list[tuple[int, int, Found]] = []
    count = 0
    for done, (first, number) in enumerate(sorted(survey.leaves)):
        while waiting and waiting[0][0] < first:
            yield heapq.heappop(waiting)[2]
        for found in _near(rows_on(get(number) or bytes(pages.size), get)):
            count += 1
            heapq.heappush(waiting, (found.position, count, found))
        if done % _REPORT_EACH_PAGES == 0:
            report(pages.count + number, 2 * pages.count)
    while waiting:
        yield heapq.heappop(waiting)[2]


def _near(rows: Iterator[Found]) -> list[Found]:
    found = [*rows]
    middle = sorted(one.position for one in found)[len(found) // 2] if found else 0
    return [one for one in found if abs(one.position - middle) <= _NEAR]


def _nothing(number: int) -> None:
    del number


class _Sorter:
    """Decides on each row: into the new log, or a loss. Rows come in the order of positions."""

    def __init__(self, writer: RowWriter) -> None:
        self.saved = 0
        self.unproven = 0
        self.losses: list[Loss] = []
        self.is_same = True
        self._writer = writer
        self._position = 0
        self._previous: tuple[bytes, ...] = (GENESIS,)
        self._rivals: list[Found] = []

    def take(self, found: Found) -> None:
        """Take the next row; those of the same position are decided on together."""
        if self._rivals and self._rivals[0].position != found.position:
            self._decide()
        self._rivals.append(found)

    def conclude(self, last: int, expected: Head | None) -> None:
        """Decide on the last one, and count what is missing behind it, up to `last` at least."""
        if self._rivals:
            self._decide()
        if last > self._position:
            self._lose(self._position + 1, last, "no page holds it any more")
            self._position = last
        if expected is not None and expected.position > self._position:
            self._lose(
                self._position + 1, expected.position, "the log ends before the head that was kept"
            )

    def _decide(self) -> None:
        rivals, self._rivals = self._rivals, []
        position = rivals[0].position
        if position != self._position + 1:
            self._lose(self._position + 1, position - 1, "no page holds it any more")
            self._previous = ()
        self._position = position
        verdicts = [self._judge(found) for found in rivals]
        proven = [verdict for verdict in verdicts if isinstance(verdict, Stored)]
        if not proven:
            self._lose(position, position, str(verdicts[0]))
            possible = dict.fromkeys(h for found in rivals for h in self._possible_hashes(found))
            self._previous = tuple(possible)[:_MAX_POSSIBLE]
            return
        # Of two that are right one was redacted: what was taken out does not come back.
        stored = min(proven, key=lambda one: one.payload_hash is None)
        if self._writer.find(stored.source, stored.id) is not None:
            self._lose(position, position, "its source and id stand at an earlier position, too")
        else:
            self.unproven += not self._previous
            self.is_same &= not self.losses
            self.saved += 1
            self._writer.add(stored)
        self._previous = (stored.hash,)

    def _possible_hashes(self, found: Found) -> Sequence[bytes]:
        """What the next record may follow: the hash that stands there, or the right one."""
        if found.document is None:
            return (found.hash,)
        computed = (
            link(p, found.position, found.recorded_ns, found.document, found.payload_hash)
            for p in self._previous
        )
        return (found.hash, *computed)

    def _judge(self, found: Found) -> Stored | str:
        """Return the record, or why it is none."""
        document = found.document
        if document is None:
            return "the pages that hold its end are damaged or lost"
        if not document.endswith(b"}"):
            return "its document is no JSON object"
        if found.payload_hash is not None and cut(document) != len(document) - 1:
            return "it holds a payload, and the hash of one that was taken out"
        if self._previous and not self._follows(found, document):
            return "its contents contradict its hash"
        try:
            envelope = jsonformat.decode(document)
        except DecodeError as error:
            return f"its document cannot be read: {error.message}"
        return _stored(found, envelope, document)

    def _follows(self, found: Found, document: bytes) -> bool:
        return any(
            found.hash
            == link(previous, found.position, found.recorded_ns, document, found.payload_hash)
            for previous in self._previous
        )

    def _lose(self, first: int, last: int, why: str) -> None:
        before = self.losses[-1] if self.losses else None
        if before is not None and before.last == first - 1 and before.why == why:
            self.losses[-1] = Loss(first=before.first, last=last, why=why)
        else:
            self.losses.append(Loss(first=first, last=last, why=why))


def _stored(found: Found, envelope: Envelope, document: bytes) -> Stored | str:
    if envelope.id.encode() != found.id or not envelope.topic:
        return "it is filed under an id that is not in its document"
    return Stored(
        found.position,
        found.recorded_ns,
        envelope.topic,
        envelope.source,
        envelope.id,
        found.hash,
        found.payload_hash,
        document,
    )
