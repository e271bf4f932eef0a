"""What is left of a damaged log file and the WAL beside it: its rows, in the order of positions.

Both are only read, page by page, without SQLite.
"""

import heapq
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hms_bus.log.failures import APPLICATION_ID
from hms_bus.log.tools.pages import (
    PAGE_BYTES,
    SIZES,
    Found,
    is_leaf,
    last_positions_on,
    rows_on,
)
from hms_bus.log.tools.steps import Report
from hms_bus.log.tools.walfile import Wal, read_wal

MAGIC = b"SQLite format 3\0"
"""How a SQLite file begins."""

_REPORT_EACH_PAGES = 500
_RECORDS_PER_PAGE = 32  # a record takes 160 bytes at least; more would be a damaged number
_NEAR = 10_000  # a page holds positions that follow each other; one far off has a damaged number


class _Place(NamedTuple):
    """Where a page stands."""

    is_in_wal: bool
    offset: int


class Remains:
    """What is left of a log. `is_marked` says that its header is that of a log of ours."""

    def __init__(self, file: BinaryIO, wal_file: BinaryIO | None, wal: Wal) -> None:
        self._unreadable: set[_Place] = set()
        self._file = file
        self._wal_file = wal_file
        self._wal = wal
        self._dropped = dict(wal.dropped)
        self._length = file.seek(0, 2)
        self._size = PAGE_BYTES
        start = self._read(self._place(1)) or b""
        stated = int.from_bytes(start[16:18])
        size = 65536 if stated == 1 else stated
        self._size = size if size in SIZES else PAGE_BYTES
        self._held = self._length // self._size
        self._count = max(self._held, max(wal.committed, default=0))
        is_header = start.startswith(MAGIC)
        self._stated = int.from_bytes(start[28:32]) if is_header else 0
        self.is_marked = is_header and start[68:72] == APPLICATION_ID.to_bytes(4)

    @property
    def is_wal_damaged(self) -> bool:
        """Whether pages stand behind a damaged place in the WAL."""
        return bool(self._wal.dropped)

    @property
    def unreadable(self) -> int:
        """How many pages the disk has failed to give so far."""
        return len(self._unreadable)

    def missing_end(self) -> str | None:
        """Say that pages are missing at the end of the file, as far as can be seen."""
        missing = range(self._held + 1, self._stated + 1)
        if any(number not in self._wal.committed for number in missing):
            in_all = self._stated * self._size
            return f"the file was cut off, {self._length:,} of {in_all:,} bytes are left"
        if not self._stated and self._length % self._size:
            return "the file ends in the middle of a page"
        return None

    def rows(self, report: Report) -> tuple[Iterator[list[Found]], int]:
        """Return all rows by position, and the last position that a topic is said to have.

        Rows of one position come together, different ones. The leaves are read a second time, so
        that no more than a few of them are held at a time: they hardly overlap.
        """
        leaves: list[tuple[int, _Place]] = []
        last = 0
        plausible = (max(self._count, self._stated) + len(self._wal.dropped)) * _RECORDS_PER_PAGE
        for number, place in enumerate(self._places()):
            page = self._read(place)
            if page is not None and is_leaf(page):
                positions = [found.position for found in _near(rows_on(page, _nothing))]
                if positions:
                    leaves.append((min(positions), place))
                else:
                    lasts = (one for one in last_positions_on(page) if one <= plausible)
                    last = max(last, *lasts, 0)
            if number % _REPORT_EACH_PAGES == 0:
                report(number, 2 * self._count)
        return self._ordered(sorted(leaves), report), last

    def has_rows(self) -> bool:
        """Whether there is any."""
        pages = (self._read(place) for place in self._places())
        leaves = (page for page in pages if page is not None and is_leaf(page))
        return any(True for page in leaves for _ in rows_on(page, _nothing))

    def _ordered(self, leaves: list[tuple[int, _Place]], report: Report) -> Iterator[list[Found]]:
        waiting: dict[int, list[Found]] = {}
        positions: list[int] = []
        for done, (first, place) in enumerate(leaves):
            while positions and positions[0] < first:
                yield waiting.pop(heapq.heappop(positions))
            for found in self._rows_at(place):
                rivals = waiting.get(found.position)
                if rivals is None:
                    waiting[found.position] = [found]
                    heapq.heappush(positions, found.position)
                elif found not in rivals:
                    rivals.append(found)
            if done % _REPORT_EACH_PAGES == 0:
                report(self._count + done, 2 * self._count)
        while positions:
            yield waiting.pop(heapq.heappop(positions))

    def _rows_at(self, place: _Place) -> Iterator[Found]:
        page = self._read(place) or bytes(self._size)
        yield from _near(rows_on(page, self._get))
        if self._dropped:
            yield from _near(rows_on(page, self._get_dropped))

    def _places(self) -> Iterator[_Place]:
        """Yield the pages as they were committed, and what a damaged WAL hides."""
        for number in range(2, self._count + 1):
            yield self._place(number)
        if self._dropped:
            # Pages may have been copied into the file before the WAL was damaged.
            for number in self._wal.committed:
                yield _Place(is_in_wal=False, offset=(number - 1) * self._size)
            for _, offset in self._wal.dropped:
                yield _Place(is_in_wal=True, offset=offset)

    def _place(self, number: int) -> _Place:
        offset = self._wal.committed.get(number)
        if offset is None:
            return _Place(is_in_wal=False, offset=(number - 1) * self._size)
        return _Place(is_in_wal=True, offset=offset)

    def _get(self, number: int) -> bytes | None:
        return self._read(self._place(number))

    def _get_dropped(self, number: int) -> bytes | None:
        offset = self._dropped.get(number)
        if offset is None:
            return self._get(number)
        return self._read(_Place(is_in_wal=True, offset=offset))

    def _read(self, place: _Place) -> bytes | None:
        """Return a page, `None` when it is not all there."""
        file = self._wal_file if place.is_in_wal else self._file
        if file is None:
            return None
        try:
            file.seek(place.offset)
            page = file.read(self._size)
        except OSError:
            self._unreadable.add(place)
            return None
        return page if len(page) == self._size else None


@contextmanager
def open_remains(path: Path) -> Generator[Remains]:
    """Open what is left of the log `path`, the real path. Blocks. Raises `OSError`."""
    wal_path = path.with_name(f"{path.name}-wal")
    with ExitStack() as files:
        # Unbuffered: a sector that cannot be read costs the page it is on, and no other.
        file = files.enter_context(path.open("rb", buffering=0))
        wal = read_wal(wal_path)
        wal_file = None
        if wal.committed or wal.dropped:
            wal_file = files.enter_context(wal_path.open("rb", buffering=0))
        yield Remains(file, wal_file, wal)


def _near(rows: Iterator[Found]) -> list[Found]:
    found = [*rows]
    middle = sorted(one.position for one in found)[len(found) // 2] if found else 0
    return [one for one in found if abs(one.position - middle) <= _NEAR]


def _nothing(number: int) -> None:
    del number
