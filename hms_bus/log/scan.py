"""One pass over a log, page by page: where it stands, where it ends. No I/O of its own.

A pass never holds anything between two pages, no cursor and no snapshot: positions are gapless and
records never move, so the next page starts where the last one ended. Time bounds become positions
by binary search, because recorded time never runs backwards.
"""

from typing import Protocol

from hms_bus.abc import Selector
from hms_bus.log.selection import Selection

FIRST_PAGE = 64
LARGEST_PAGE = 1024


Row = tuple[int, int, bytes]
"""A record as it is kept: position, recorded time in nanoseconds, JSON document."""


class Table(Protocol):
    """One consistent view of a log's records."""

    def last_position(self) -> int:
        """The position of the last record, 0 without one."""
        ...

    def recorded_ns(self, position: int) -> int:
        """When the record at `position` (1 to `last_position()`) was recorded."""
        ...

    def rows(
        self, first: int, last: int, *, backwards: bool, limit: int, selection: Selection
    ) -> tuple[list[Row], int]:
        """Return at most `limit` rows of `first` to `last` whose topic and fragments fit.

        Also returns how far the search came, in its direction: the rest of the range lies beyond.
        """
        ...


class Scan:
    """The state of one pass.

    `ended` says that no page will bring more, `position` how far the pass has come, its direction
    considered. Without `follow` the pass ends at what was the last record at its first page.
    """

    def __init__(self, selection: Selection, *, follow: bool) -> None:
        self.selection = selection
        self.follow = follow
        self.position = 0
        self.ended = False
        self._page = FIRST_PAGE
        self._begun = False
        self._in_time = selection.selector.since_ns is None
        self._end: int | None = None

    def stop_following(self) -> None:
        """Let the pass end at what is the last record now."""
        self.follow = False
        self._end = None

    def turn(self, table: Table) -> list[Row]:
        """Return the next page in the order of the pass; may be empty before the end."""
        selector = self.selection.selector
        if selector.limit == 0:
            self.ended = True
            return []
        rows = self._backwards(table) if selector.backwards else self._forwards(table)
        self._page = min(2 * self._page, LARGEST_PAGE)
        return rows

    def _forwards(self, table: Table) -> list[Row]:
        selector = self.selection.selector
        if not self._begun:
            self._begun = True
            self.position = max(selector.first or 1, 1) - 1
        if self.follow or self._end is None:
            self._end = _upper_bound(table, selector)
        self._skip_to_time(table, selector)
        rows: list[Row] = []
        if self.position < self._end:
            rows, self.position = table.rows(
                self.position + 1,
                self._end,
                backwards=False,
                limit=self._page,
                selection=self.selection,
            )
        if self.position >= self._end:
            self.ended = not self.follow or _is_final(table, selector, self.position)
        return rows

    def _skip_to_time(self, table: Table, selector: Selector) -> None:
        """Move over what is older than `since_ns`, until a record was found that is not."""
        if self._in_time or selector.since_ns is None:
            return
        last = table.last_position()
        start = _first_since(table, selector.since_ns, self.position + 1, last)
        self._in_time = start <= last
        self.position = max(self.position, start - 1)

    def _backwards(self, table: Table) -> list[Row]:
        selector = self.selection.selector
        if not self._begun:
            self._begun = True
            self.position = _upper_bound(table, selector) + 1
        if self._end is None:
            self._end = max(selector.first or 1, 1)
            if selector.since_ns is not None:
                last = table.last_position()
                self._end = max(self._end, _first_since(table, selector.since_ns, 1, last))
        rows: list[Row] = []
        if self.position > self._end:
            rows, self.position = table.rows(
                self._end,
                self.position - 1,
                backwards=True,
                limit=self._page,
                selection=self.selection,
            )
        self.ended = self.position <= self._end
        return rows


def _upper_bound(table: Table, selector: Selector) -> int:
    """Return the last position that `last` and `until_ns` let through, of those there are."""
    last = table.last_position()
    if selector.last is not None:
        last = min(last, selector.last)
    if selector.until_ns is not None and last and table.recorded_ns(last) > selector.until_ns:
        last = _first_since(table, selector.until_ns + 1, 1, last) - 1
    return last


def _is_final(table: Table, selector: Selector, position: int) -> bool:
    """Whether no later record can be selected, seen from the bounds."""
    if selector.last is not None and position >= selector.last:
        return True
    last = table.last_position()
    return (
        selector.until_ns is not None and last > 0 and table.recorded_ns(last) > selector.until_ns
    )


def _first_since(table: Table, time_ns: int, low: int, last: int) -> int:
    """Return the first position from `low` on recorded at `time_ns` or later, else `last + 1`."""
    high = max(last + 1, low)
    while low < high:
        middle = (low + high) // 2
        if table.recorded_ns(middle) < time_ns:
            low = middle + 1
        else:
            high = middle
    return low
