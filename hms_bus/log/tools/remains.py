"""What is left of a damaged log file and the WAL beside it: its rows, in the order of positions.

Both are only read, page by page, without SQLite.
"""

import heapq
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hms_bus.log.failures import APPLICATION_ID, SQLITE_MAGIC
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

_REPORT_EACH_PAGES = 500
_RECORDS_PER_PAGE = 32  # a record takes 160 bytes at least; more would be a damaged number
_NEAR = 10_000  # a page holds positions that follow each other; one far off has a damaged number


class _Place(NamedTuple):
    """Where a page stands."""

    is_in_wal: bool
    offset: int


class Standing(IntEnum):
    """What the page that holds a row is worth, the best first.

    Those behind `IN_FORCE` are of commits that SQLite passes over: as it was written, damaged, or
    one of both.
    """

    IN_FORCE = 0
    AS_WRITTEN = 1
    DAMAGED = 2
    UNKNOWN = 3


_STANDINGS = {False: Standing.AS_WRITTEN, True: Standing.DAMAGED, None: Standing.UNKNOWN}


class Row(NamedTuple):
    """A row, and the best page that holds it."""

    found: Found
    standing: Standing


class Ends(NamedTuple):
    """Where the log is said to end: `anywhere` by topics, `in_force` also by records."""

    anywhere: int
    in_force: int


class Remains:
    """What is left of a log. `is_marked` says that its header is that of a log of ours."""

    def __init__(self, file: BinaryIO, wal_file: BinaryIO | None, wal: Wal) -> None:
        self._unreadable: set[_Place] = set()
        self._file = file
        self._wal_file = wal_file
        self._wal = wal
        self._is_wal_damaged = wal.is_damaged
        self._dropped = {page.number: page.offset for page in wal.dropped}
        self._standings = {page.offset: _STANDINGS[page.is_damaged] for page in wal.dropped}
        self._length = file.seek(0, 2)
        self._size = PAGE_BYTES
        start = self._read(self._place(1)) or b""
        stated = int.from_bytes(start[16:18])
        size = 65536 if stated == 1 else stated
        self._size = size if size in SIZES else PAGE_BYTES
        self._held = self._length // self._size
        self._count = max(self._held, max(wal.committed, default=0))
        is_header = start.startswith(SQLITE_MAGIC)
        self._stated = int.from_bytes(start[28:32]) if is_header else 0
        self.is_marked = is_header and start[68:72] == APPLICATION_ID.to_bytes(4)

    @property
    def is_wal_damaged(self) -> bool:
        """Whether commits in the WAL are not whole because of damage, for certain."""
        return self._is_wal_damaged

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

    def rows(self, report: Report) -> tuple[Iterator[list[Row]], Ends]:
        """Return all rows by position, and where the log is said to end.

        Rows of one position come together, different ones, the best first. The leaves are read a
        second time, so that no more than a few of them are held at a time: they hardly overlap.
        """
        leaves: list[tuple[int, _Place]] = []
        anywhere = in_force = 0
        plausible = (max(self._count, self._stated) + len(self._wal.dropped)) * _RECORDS_PER_PAGE
        for number, place in enumerate(self._places()):
            page = self._read(place)
            if page is not None and is_leaf(page):
                positions = [found.position for found in _near(rows_on(page, _nothing))]
                if positions:
                    leaves.append((min(positions), place))
                    if self._standing(place) is Standing.IN_FORCE:
                        in_force = max(in_force, *positions)
                else:
                    last = max((n for n in last_positions_on(page) if n <= plausible), default=0)
                    anywhere = max(anywhere, last)
                    if self._standing(place) is Standing.IN_FORCE:
                        in_force = max(in_force, last)
            if number % _REPORT_EACH_PAGES == 0:
                report(number, 2 * self._count)
        return self._ordered(sorted(leaves), report), Ends(anywhere, in_force)

    def has_rows(self) -> bool:
        """Whether there is any."""
        pages = (self._read(place) for place in self._places())
        leaves = (page for page in pages if page is not None and is_leaf(page))
        return any(True for page in leaves for _ in rows_on(page, _nothing))

    def _ordered(self, leaves: list[tuple[int, _Place]], report: Report) -> Iterator[list[Row]]:
        waiting: dict[int, dict[Found, Standing]] = {}
        positions: list[int] = []
        for done, (first, place) in enumerate(leaves):
            while positions and positions[0] < first:
                yield _best_first(waiting.pop(heapq.heappop(positions)))
            on_page = self._standing(place)
            for found in self._rows_at(place):
                standing = on_page
                is_long = found.document is None or len(found.document) > self._size // 2
                if self._is_wal_damaged and is_long:
                    # Its end may stand on a damaged page.
                    standing = on_page and Standing.DAMAGED
                rivals = waiting.get(found.position)
                if rivals is None:
                    waiting[found.position] = {found: standing}
                    heapq.heappush(positions, found.position)
                else:
                    rivals[found] = min(standing, rivals.get(found, standing))
            if done % _REPORT_EACH_PAGES == 0:
                report(self._count + done, 2 * self._count)
        while positions:
            yield _best_first(waiting.pop(heapq.heappop(positions)))

    def _rows_at(self, place: _Place) -> Iterator[Found]:
        page = self._read(place) or bytes(self._size)
        yield from _near(rows_on(page, self._get))
        if self._dropped:
            yield from _near(rows_on(page, self._get_dropped))

    def _places(self) -> Iterator[_Place]:
        """Yield the pages as they were committed, and what SQLite passes over in the WAL."""
        for number in range(2, self._count + 1):
            yield self._place(number)
        if self._dropped:
            # Pages may have been copied into the file before the WAL was damaged.
            for number in self._wal.committed:
                yield _Place(is_in_wal=False, offset=(number - 1) * self._size)
            for page in self._wal.dropped:
                yield _Place(is_in_wal=True, offset=page.offset)

    def _standing(self, place: _Place) -> Standing:
        if not place.is_in_wal:
            return Standing.IN_FORCE
        return self._standings.get(place.offset, Standing.IN_FORCE)

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


def _best_first(rivals: dict[Found, Standing]) -> list[Row]:
    return sorted((Row(*item) for item in rivals.items()), key=lambda row: row.standing)


def _nothing(number: int) -> None:
    del number
