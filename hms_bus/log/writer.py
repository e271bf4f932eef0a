"""The one thread that writes a log file: it commits in groups and wakes the loop once per group.

A commit costs one sync of the disk (about 300 µs), whatever it holds. While one is under way the
next units gather; the thread takes all of them into the next transaction. Measured in
docs/adr/0004-log.md.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import cast

from hms_bus.abc import Expect, Head, Receipt
from hms_bus.errors import BusError, LogReadOnlyError
from hms_bus.log.admission import admit
from hms_bus.log.bell import Bell
from hms_bus.log.documents import Entry
from hms_bus.log.failures import (
    busy,
    is_busy,
    lost_since,
    lost_under_name,
    read_only_since,
    write_failed,
)
from hms_bus.log.file import FileNames, close_without_checkpoint
from hms_bus.log.ledger import SqliteLedger

MAX_ENTRIES = 4096
"""A transaction takes no further unit once it holds that many entries."""


_PAGE_BYTES = 4096
_PAGES_OF_A_COMMIT = 4
"""A commit writes a page of each table and index anew, also with one record, or with none."""


Work = Callable[[sqlite3.Connection], None]

Unit = tuple[Sequence[Entry], Expect, asyncio.Future[list[Receipt]], Work | None]
"""One call of `append`: its entries, its condition, and the future that its caller awaits.

And what else is written in the same transaction.
"""

Outcome = tuple[asyncio.Future[list[Receipt]], list[Receipt] | BusError]


class Writer:
    """Commits units in the order of `submit`. Owned by the loop it was made on.

    After a failed write, or once the file is not the one of that name any more, every unit gets a
    `LogReadOnlyError` with the same cause and the file is left alone: neither retried (a sync that
    failed once may succeed later without having written anything) nor checkpointed, so that all
    that was acknowledged stays where it was synced, in the WAL.

    Making it raises `LogCorruptError` and `sqlite3.Error`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        bell: Bell,
        loop: asyncio.AbstractEventLoop,
        *,
        checkpoint_pages: int,
    ) -> None:
        self.failure: LogReadOnlyError | None = None
        self._connection = connection
        self._path = path
        self._names = FileNames(path)
        self._bell = bell
        self._loop = loop
        self._ledger = SqliteLedger(connection, str(path))
        self._durable = self.head = self._ledger.head()
        self._units: SimpleQueue[Unit | None] = SimpleQueue()
        self._pages = 0
        self._checkpoint_pages = checkpoint_pages
        self._thread = threading.Thread(target=self._run, name="hms-bus log writer", daemon=True)
        bell.ring(self.head.position)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def submit(self, unit: Unit) -> None:
        """Take one unit; its future is completed on the loop, after the commit."""
        self._units.put(unit)

    def finish(self) -> None:
        """Commit what was submitted and end the thread. Blocks; submit nothing afterwards."""
        self._units.put(None)
        self._thread.join()

    def close(self) -> None:
        """Close the connection, after `finish` and after all readers. Blocks."""
        if self.failure is None:
            self._connection.close()
        else:
            close_without_checkpoint(self._connection, self._path)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            units, is_last = self._take()
            outcomes = self._commit(units)
            try:
                self._loop.call_soon_threadsafe(self._settle, outcomes, self._durable)
            except RuntimeError:
                # The loop was closed under us, so nobody waits and nobody will submit.
                return
            self._checkpoint()

    def _take(self) -> tuple[list[Unit], bool]:
        """Wait for a unit; return it with all behind it, and whether they are the last."""
        units: list[Unit] = []
        entries = 0
        unit = self._units.get()
        while unit is not None:
            units.append(unit)
            entries += len(unit[0])
            if entries >= MAX_ENTRIES:
                return units, False
            try:
                unit = self._units.get_nowait()
            except Empty:
                return units, False
        return units, True

    def _commit(self, units: list[Unit]) -> list[Outcome]:
        if self.failure is not None:
            return [(future, self.failure) for _, _, future, _ in units]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if not is_busy(error):
                return self._fail(units, error)
            refusal = busy(error, str(self._path))
            return [(future, refusal) for _, _, future, _ in units]
        try:
            outcomes = self._place(units)
            self._ledger.flush()
            self._pages += _PAGES_OF_A_COMMIT
            for *_, work in units:
                if work is not None:
                    work(self._connection)
            self._connection.execute("COMMIT")
            # Afterwards: only then is what is acknowledged in the file that bears the name.
            changed = self._names.find_changed()
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are told
            return self._fail(units, error)
        if changed is not None:
            return self._turn_read_only(
                units,
                lost_under_name(changed, str(self._path)),
                lost_since(changed, str(self._path)),
            )
        self._ledger.settle()
        self._durable = self._ledger.head()
        return outcomes

    def _place(self, units: list[Unit]) -> list[Outcome]:
        """Give every unit its positions, or its refusal."""
        ledger = self._ledger
        recorded_ns = max(time.time_ns(), ledger.recorded_ns)
        outcomes: list[Outcome] = []
        for entries, expect, future, _ in units:
            try:
                receipts, fresh = admit(entries, expect, ledger, ledger.position)
            except BusError as refusal:
                outcomes.append((future, refusal))
                continue
            for entry in fresh:
                ledger.add(entry, recorded_ns)
                self._pages += 1 + len(entry.document) // _PAGE_BYTES
            outcomes.append((future, receipts))
        return outcomes

    def _fail(self, units: list[Unit], error: Exception) -> list[Outcome]:
        refusal = write_failed(error, str(self._path))
        since = read_only_since(error, str(self._path))
        refusal.__cause__ = since.__cause__ = error
        return self._turn_read_only(units, refusal, since)

    def _turn_read_only(
        self, units: list[Unit], refusal: LogReadOnlyError, since: LogReadOnlyError
    ) -> list[Outcome]:
        """Refuse `units`, and with `since` all that come later.

        The transaction is undone as far as this process can tell.
        """
        self.failure = since
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is of no use any more; it is only closed.
            pass
        return [(future, refusal) for _, _, future, _ in units]

    def _checkpoint(self) -> None:
        """Copy the WAL into the file now and then: here, where an error is seen, not behind COMMIT.

        SQLite's automatic checkpoint hides its errors, a failed sync among them.
        """
        if self._pages < self._checkpoint_pages or self.failure is not None:
            return
        self._pages = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            self._fail([], error)

    def _settle(self, outcomes: list[Outcome], head: Head) -> None:
        """Complete the futures of one commit. Runs on the loop."""
        if head.position > self.head.position:
            self.head = head
            self._bell.ring(head.position)
        for future, outcome in outcomes:
            if future.done():
                continue
            if type(outcome) is list:
                future.set_result(outcome)
            else:
                # A copy for each, because raising one writes into it.
                future.set_exception(copy(cast("BusError", outcome)))
