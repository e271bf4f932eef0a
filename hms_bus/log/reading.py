"""Reading a log as an asynchronous iterator, in batches or record by record, and following it."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from hms_bus.abc import Record, Selector
from hms_bus.errors import DecodeError, LogCorruptError, StateError
from hms_bus.log.bell import Bell
from hms_bus.log.documents import read_document
from hms_bus.log.scan import Row, Scan
from hms_bus.log.selection import Selection, prepare


class Reading:
    """How one open log is read.

    `pages` is called once for a pass and returns what brings its next page, wherever it has to go
    for it; `settled` returns when every append that has begun is readable. `poll_s` is set when
    another process writes the log: then it is looked at that often, for nobody rings.
    """

    def __init__(
        self,
        *,
        path: str,
        bell: Bell,
        pages: Callable[[Scan], Callable[[], Awaitable[list[Row]]]],
        settled: Callable[[], Awaitable[None]],
        poll_s: float | None = None,
    ) -> None:
        self._path = path
        self._bell = bell
        self._pages = pages
        self._settled = settled
        self._poll_s = poll_s

    def begin(self, selector: Selector, *, follow: bool) -> AsyncGenerator[list[Record]]:
        """Return the pass in batches, none of them empty. Raises `TopicError`, `UsageError`."""
        selection = prepare(selector, follow=follow, where=self._path)
        return self._batches(selection, follow=follow)

    def records(self, rows: list[Row]) -> list[Record]:
        """Return the records of rows that were found. Raises `LogCorruptError`."""
        records, unreadable = self._decode(rows, prepare(Selector()))
        if unreadable:
            raise unreadable
        return records

    async def _batches(self, selection: Selection, *, follow: bool) -> AsyncGenerator[list[Record]]:
        scan = Scan(selection, follow=follow)
        turn = self._pages(scan)
        left = selection.selector.limit
        while not scan.ended:
            before = scan.position
            try:
                rows = await turn()
            except StateError:
                if follow:
                    return
                raise
            records, unreadable = self._decode(rows, selection)
            if left is not None:
                del records[left:]
                left -= len(records)
            if records:
                yield records
            if left == 0:
                return
            if unreadable:
                raise unreadable
            if follow and scan.position == before and not scan.ended:
                await self._wait(scan)

    async def _wait(self, scan: Scan) -> None:
        """Wait until another page is worth a look, or let the pass end when its time is over."""
        timeout_s = self._poll_s
        until_ns = scan.selection.selector.until_ns
        if until_ns is not None:
            left_s = (until_ns - time.time_ns()) / 1e9
            if left_s < 0:
                # What is appended from now on gets a later time, all before is readable then.
                await self._settled()
                scan.stop_following()
                return
            timeout_s = left_s + 0.001 if timeout_s is None else min(timeout_s, left_s + 0.001)
        await self._bell.wait_beyond(scan.position, timeout_s)

    def _decode(
        self, rows: list[Row], selection: Selection
    ) -> tuple[list[Record], LogCorruptError | None]:
        """Return the wanted records, up to the first that cannot be read, and that one's error."""
        records: list[Record] = []
        is_wanted = selection.is_wanted
        for position, recorded_ns, document in rows:
            try:
                envelope = read_document(document)
            except DecodeError as error:
                return records, self._unreadable(position, error)
            if is_wanted(envelope):
                records.append(
                    Record(position=position, recorded_ns=recorded_ns, envelope=envelope)
                )
        return records, None

    def _unreadable(self, position: int, error: DecodeError) -> LogCorruptError:
        corrupt = LogCorruptError(
            f"the record at position {position} of {self._path} cannot be read: {error.message}; "
            "`hms-bus log verify` tells what else is damaged",
            path=self._path,
            position=position,
        )
        corrupt.__cause__ = error
        return corrupt


async def flatten(batches: AsyncGenerator[list[Record]]) -> AsyncGenerator[Record]:
    """Yield record by record; closing this one early closes `batches` too."""
    async with aclosing(batches):
        async for batch in batches:
            for record in batch:
                yield record
