"""`sqlite:PATH`: the log in one SQLite file (docs/adr/0004-log.md, spec/log.md).

Options: `sync=normal|full|extra` (full), `readonly=true`, `busy=SECONDS` (5), `poll=SECONDS`
(0.05), `max_bytes=N`, `checkpoint=PAGES` (4096); see `hms_bus.log.settings.Settings`.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from copy import copy
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import quote

from msgspec.structs import replace

from hms_bus.abc import (
    Capability,
    Consumer,
    Durable,
    DurableInfo,
    EventLog,
    Expect,
    Head,
    Receipt,
    Record,
    Selector,
    Verification,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, LogReadOnlyError, StateError
from hms_bus.log.audit import Audit
from hms_bus.log.bell import Bell
from hms_bus.log.checking import audit_page
from hms_bus.log.documents import Entry, make_entry
from hms_bus.log.durable import tables
from hms_bus.log.durable.durables import Durables
from hms_bus.log.durable.saved import Changes, Saved
from hms_bus.log.failures import read_failed
from hms_bus.log.file import check_readable, find_file, open_for_writing
from hms_bus.log.ledger import read_head
from hms_bus.log.reader import Reader, connect_read_only
from hms_bus.log.reading import Reading, flatten
from hms_bus.log.scan import Row, Scan
from hms_bus.log.schema import CURRENT, Schema
from hms_bus.log.settings import Settings, parse_settings
from hms_bus.log.table import Pages, TopicSet, count_records, rows_at
from hms_bus.log.writer import Work, Writer
from hms_bus.logrules import check_expect
from hms_bus.plugins import Address
from hms_bus.threads import run_to_end

READING: frozenset[Capability] = frozenset(
    {
        "log-read-backwards",
        "log-read-by-time",
        "log-follow",
        "log-verify",
        "log-survives-process",
    }
)
WRITING: frozenset[Capability] = READING.union(
    ("log-expect", "log-dedup", "log-batch", "log-durable")
)

_ENTRIES_AT_ONCE = 1000
_AUDIT_AT_ONCE = 2000
_READ_AT_ONCE = 500


class SqliteLog:
    """A log in a file. Contract: `hms_bus.abc.EventLog`; made by `open_sqlite`.

    Beyond the contract: once a write has failed, the log is read-only for good
    (`LogReadOnlyError`), and reading goes on. All use is on the event loop that opened it.
    """

    def __init__(
        self,
        path: Path,
        reader: Reader,
        writer: Writer | None,
        bell: Bell,
        loop: asyncio.AbstractEventLoop,
        *,
        poll_s: float,
    ) -> None:
        self._path = str(path)
        self._loop = loop
        self._reader = reader
        self._writer = writer
        self._bell = bell
        self._poll_s = poll_s
        self._is_open = True
        self._durables = Durables(self, self._path)
        self._reading = Reading(
            path=self._path,
            bell=bell,
            pages=self._pages,
            settled=self._settled,
            poll_s=None if writer else poll_s,
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All of a log's, without those of writing when it is opened read-only."""
        return WRITING if self._writer else READING

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Append all or none; see `hms_bus.abc.EventLog.append`."""
        # Hot path: 5 µs on the loop for one envelope, 1.5 of them in make_entry.
        writer = self._writable()
        entries: Sequence[Entry]
        if len(envelopes) == 1:
            entries = (make_entry(envelopes[0]),)
        else:
            entries = await _make_entries(envelopes)
            writer = self._writable()
        if expect != "any":
            check_expect((entry.topic for entry in entries), expect)
        future: asyncio.Future[list[Receipt]] = self._loop.create_future()
        writer.submit((entries, expect, future, None))
        return await future

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        """Yield the selected records; see `hms_bus.abc.EventLog.read`.

        A read-only log is followed by asking the file every `poll` seconds.
        """
        return flatten(self.read_batches(selector, follow=follow))

    def read_batches(
        self, selector: Selector, *, follow: bool = False
    ) -> AsyncGenerator[list[Record]]:
        """Yield the same records in lists, none of them empty: fewer steps for each record."""
        self._check_open()
        return self._reading.begin(selector, follow=follow)

    async def head(self) -> Head:
        """Return the end of what is durable."""
        self._check_open()
        if self._writer:
            return self._writer.head
        return await self._reader.run(partial(read_head, path=self._path))

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check everything; see `hms_bus.abc.EventLog.verify`. Runs beside the writer."""
        self._check_open()
        audit = Audit(expected)
        is_last = False
        while not is_last:
            work = partial(audit_page, audit=audit, limit=_AUDIT_AT_ONCE)
            total, is_last = await self._reader.run(work)
            if progress is not None:
                progress(audit.records, total)
        return audit.conclude()

    # -- durables ------------------------------------------------------------------------------

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        """Return the scope of a consumer; see `hms_bus.abc.ConsumingLog.consume`."""
        self._writable()
        return self._durables.consume(durable)

    async def durables(self) -> list[DurableInfo]:
        """Return all durables; see `hms_bus.abc.ConsumingLog.durables`."""
        return await self._durables.infos()

    async def forget(self, name: str) -> None:
        """Remove a durable; see `hms_bus.abc.ConsumingLog.forget`."""
        await self._durables.forget(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """Deliver dead letters again; see `hms_bus.abc.ConsumingLog.redrive`."""
        await self._durables.redrive(name, positions)

    async def keep(self, changes: Changes, dead_letters: Sequence[Envelope]) -> None:
        """Keep what has changed of a durable; see `hms_bus.log.durable.engine.Shelf`."""
        await self._write(partial(_save, changes=changes), dead_letters)

    async def read_at(self, positions: Sequence[int]) -> list[Record]:
        """Return the records at `positions`."""
        records: list[Record] = []
        for start in range(0, len(positions), _READ_AT_ONCE):
            part = positions[start : start + _READ_AT_ONCE]
            rows = await self._reader.run(partial(rows_at, positions=part, path=self._path))
            records += self._reading.records(rows)
        return records

    async def count(self, wants_topic: Callable[[str], bool], after: int) -> int:
        """Return how many records on wanted topics lie behind a position, up to a million."""
        topics = TopicSet(wants_topic, self._path)
        return await self._reader.run(partial(count_records, topics=topics, after=after))

    async def load(self, name: str) -> Saved | None:
        """Return what is kept of a durable."""
        found = await self._reader.run(partial(tables.load, name=name, path=self._path))
        return found[0] if found else None

    async def load_all(self) -> list[Saved]:
        """Return what is kept of all durables, by name."""
        self._check_open()
        return await self._reader.run(partial(tables.load, name=None, path=self._path))

    async def remove(self, name: str) -> None:
        """Remove all that is kept of a durable."""
        await self._write(partial(tables.remove, name=name), ())

    def claim(self, name: str) -> AbstractContextManager[None]:
        """Nobody else can work on a durable: the file has one writer, and that is used once."""
        del name
        return nullcontext()

    async def _write(self, work: Work, envelopes: Sequence[Envelope]) -> None:
        writer = self._writable()
        entries = [make_entry(envelope) for envelope in envelopes]
        future: asyncio.Future[list[Receipt]] = self._loop.create_future()
        writer.submit((entries, "any", future, work))
        await future

    # -- for its own parts ---------------------------------------------------------------------

    def _pages(self, scan: Scan) -> Callable[[], Awaitable[list[Row]]]:
        return partial(self._turn, Pages(scan, self._path).turn)

    async def _turn(self, page: Callable[[sqlite3.Connection], list[Row]]) -> list[Row]:
        rows = await self._reader.run(page)
        # Who comes back after the close must not begin to wait: nobody would wake it.
        self._check_open()
        return rows

    async def _settled(self) -> None:
        """Return when all is readable that was under way."""
        if self._writer is None:
            await asyncio.sleep(self._poll_s)
            return
        # After a failed write nothing is under way any more.
        with suppress(LogReadOnlyError):
            await self.append([])

    def _writable(self) -> Writer:
        writer = self._writer
        if writer is not None and writer.failure is None and self._is_open:
            return writer
        self._check_open()
        if writer is None:
            raise LogReadOnlyError(
                f"log {self._path} was opened read-only: open it without readonly=true",
                path=self._path,
            )
        raise copy(cast("LogReadOnlyError", writer.failure))

    def _check_open(self) -> None:
        if not self._is_open:
            raise StateError(f"the log {self._path} is closed")

    def shut(self) -> None:
        """Refuse new calls and end the followers."""
        self._is_open = False
        self._bell.wake()


def _save(connection: sqlite3.Connection, changes: Changes) -> None:
    tables.make_tables(connection)
    tables.save(connection, changes)


async def _make_entries(envelopes: Sequence[Envelope]) -> list[Entry]:
    """Encode on the loop, where the payloads live, and let others run now and then."""
    entries: list[Entry] = []
    for start in range(0, len(envelopes), _ENTRIES_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        entries += map(make_entry, envelopes[start : start + _ENTRIES_AT_ONCE])
    return entries


class SqliteOpener:
    """Opens log files. Contract: `LogOpener`, `Identifying` and `Locating` of `hms_bus.plugins`."""

    def __call__(self, address: Address) -> AbstractAsyncContextManager[EventLog]:
        """Return the scope of the log file at `sqlite:PATH`, made when there is none.

        Raises `ConfigError` for a wrong option at once. Entering the scope raises `LogLockedError`
        when another writer has it, `LogFormatError` for what is no log of this version, `LogError`.
        Leaving it commits what was appended, ends followers and lets the next writer in.
        """
        return open_file(parse_settings(address))

    def identify(self, address: Address) -> Settings:
        """Return the settings, with the file's real path. Looks at the disk."""
        settings = parse_settings(address)
        return replace(settings, path=Path(os.path.realpath(settings.path)))

    def absolute(self, address: Address) -> str:
        """Return the URL with the file's whole path. Asks for the working folder."""
        path = parse_settings(address).path
        _, mark, query = address.url.partition("?")
        try:
            return f"sqlite://{quote(str(path.absolute()))}{mark}{query}"
        except (OSError, UnicodeError) as error:  # no folder any more, or a name that is no text
            raise ConfigError(f"{address.url!r}: {error}") from error


open_sqlite = SqliteOpener()


@asynccontextmanager
async def open_file(settings: Settings, schema: Schema = CURRENT) -> AsyncGenerator[SqliteLog]:
    """Open the log that `settings` name, whose tables shall be `schema`'s."""
    loop = asyncio.get_running_loop()
    resources = ExitStack()
    try:
        log = await run_to_end(partial(_open, settings, schema, loop, resources))
        try:
            yield log
        finally:
            log.shut()
    finally:
        await run_to_end(resources.close)


def _open(
    settings: Settings,
    schema: Schema,
    loop: asyncio.AbstractEventLoop,
    resources: ExitStack,
) -> SqliteLog:
    """Open everything; `resources` closes it again, whatever came of it. Blocks."""
    path = find_file(settings)
    bell = Bell()
    if settings.is_read_only:
        immutable = check_readable(path, settings, schema)
        reader = _make_reader(path, settings, resources, immutable=immutable)
        return SqliteLog(path, reader, None, bell, loop, poll_s=settings.poll_s)
    connection, lock = open_for_writing(path, settings, schema)
    resources.callback(lock.release)
    resources.callback(connection.close)
    try:
        writer = Writer(connection, path, bell, loop, checkpoint_pages=settings.checkpoint_pages)
    except sqlite3.Error as error:
        raise read_failed(error, str(path)) from error
    resources.callback(writer.close)
    reader = _make_reader(path, settings, resources)
    writer.start()
    resources.callback(writer.finish)
    return SqliteLog(path, reader, writer, bell, loop, poll_s=settings.poll_s)


def _make_reader(
    path: Path, settings: Settings, resources: ExitStack, *, immutable: bool = False
) -> Reader:
    reader = Reader(
        str(path), partial(connect_read_only, path, busy_s=settings.busy_s, immutable=immutable)
    )
    resources.callback(reader.close)
    return reader
