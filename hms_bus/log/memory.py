"""`memory:` and `memory:NAME`: a log without a file, with the semantics of the one that has one.

`memory:` is private to its scope. `memory:NAME` is shared by all who have it open in this process,
from whatever thread or event loop, and is gone when the last of them closes it.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from hms_bus.abc import Capability, EventLog, Expect, Head, Receipt, Record, Selector, Verification
from hms_bus.envelope import Envelope
from hms_bus.errors import StateError
from hms_bus.log.admission import admit
from hms_bus.log.audit import Audit, Kept
from hms_bus.log.bell import Bell
from hms_bus.log.chain import GENESIS, link
from hms_bus.log.documents import Entry, make_entry
from hms_bus.log.reading import Reading, flatten
from hms_bus.log.scan import Row, Scan
from hms_bus.log.selection import Selection
from hms_bus.logrules import check_expect
from hms_bus.plugins import Address

CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "log-expect",
        "log-dedup",
        "log-batch",
        "log-read-backwards",
        "log-read-by-time",
        "log-follow",
        "log-verify",
    }
)

_AUDIT_BATCH = 1000


class _Store:
    """The records and what finds them. Every method but the constructor needs `lock`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.bell = Bell()
        self._rows: list[Row] = []
        self._entries: list[Entry] = []
        self._hashes = [GENESIS]
        self._positions: dict[tuple[str, str], int] = {}
        self._last_on: dict[str, int] = {}

    def find(self, source: str, id: str) -> int | None:  # noqa: A002 - the attribute's name
        return self._positions.get((source, id))

    def last_on(self, topic: str) -> int:
        return self._last_on.get(topic, 0)

    def head(self) -> Head:
        position, recorded_ns, _ = self._rows[-1] if self._rows else (0, 0, b"")
        return Head(position=position, hash=self._hashes[-1], recorded_ns=recorded_ns)

    def append(self, entries: Sequence[Entry], expect: Expect) -> list[Receipt]:
        receipts, fresh = admit(entries, expect, self, len(self._rows))
        recorded_ns = max(time.time_ns(), self.head().recorded_ns)
        for entry in fresh:
            position = len(self._rows) + 1
            self._hashes.append(link(self._hashes[-1], position, recorded_ns, entry.document))
            self._rows.append((position, recorded_ns, entry.document))
            self._entries.append(entry)
            self._positions[entry.source, entry.id] = position
            self._last_on[entry.topic] = position
        return receipts

    def last_position(self) -> int:
        return len(self._rows)

    def recorded_ns(self, position: int) -> int:
        return self._rows[position - 1][1]

    def rows(
        self, first: int, last: int, *, backwards: bool, limit: int, selection: Selection
    ) -> tuple[list[Row], int]:
        wants_topic = selection.wants_topic
        places = range(first - 1, last)
        found: list[Row] = []
        for place in reversed(places) if backwards else places:
            if wants_topic is None or wants_topic(self._entries[place].topic):
                found.append(self._rows[place])
                if len(found) == limit:
                    return found, place + 1
        return found, first if backwards else last

    def kept(self, after: int, count: int) -> list[Kept]:
        return [
            Kept(*row[:2], entry.topic, entry.id, entry.source, hash_, None, row[2])
            for row, entry, hash_ in zip(
                self._rows[after : after + count],
                self._entries[after : after + count],
                self._hashes[after + 1 : after + 1 + count],
                strict=True,
            )
        ]


class MemoryLog:
    """One opening of a `_Store`. Contract: `hms_bus.abc.EventLog`."""

    capabilities = CAPABILITIES

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._is_open = True
        self._bell = store.bell
        self._reading = Reading(
            path=store.name, bell=self._bell, pages=self._pages, settled=self._settled
        )

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Append all or none; see `hms_bus.abc.EventLog.append`."""
        self._check_open()
        entries = [make_entry(envelope) for envelope in envelopes]
        if expect != "any":
            check_expect((entry.topic for entry in entries), expect)
        with self._store.lock:
            receipts = self._store.append(entries, expect)
            last = self._store.last_position()
        self._bell.ring(last)
        return receipts

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        """Yield the selected records; see `hms_bus.abc.EventLog.read`."""
        return flatten(self.read_batches(selector, follow=follow))

    def read_batches(
        self, selector: Selector, *, follow: bool = False
    ) -> AsyncGenerator[list[Record]]:
        """Yield the same records in lists, none of them empty: fewer steps for each record."""
        self._check_open()
        return self._reading.begin(selector, follow=follow)

    async def head(self) -> Head:
        """Return the end of the log."""
        self._check_open()
        with self._store.lock:
            return self._store.head()

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check everything; see `hms_bus.abc.EventLog.verify`."""
        self._check_open()
        audit = Audit(expected)
        while not audit.has_problem:
            with self._store.lock:
                batch = self._store.kept(audit.position, _AUDIT_BATCH)
                total = self._store.last_position()
            if not batch:
                break
            for kept in batch:
                audit.feed(kept)
            if progress is not None:
                progress(audit.records, total)
            await asyncio.sleep(0)
        return audit.conclude()

    def close(self) -> None:
        """End all followers of this opening; any other use raises `StateError` from now on."""
        self._is_open = False
        self._bell.wake()

    def _pages(self, scan: Scan) -> Callable[[], Awaitable[list[Row]]]:
        return partial(self._turn, scan)

    async def _turn(self, scan: Scan) -> list[Row]:
        # A reader of a long log must not keep the loop from everybody else.
        await asyncio.sleep(0)
        self._check_open()
        with self._store.lock:
            return scan.turn(self._store)

    async def _settled(self) -> None:
        """Nothing is ever under way: an append is done before it lets go of the lock."""

    def _check_open(self) -> None:
        if not self._is_open:
            raise StateError(f"the log {self._store.name} is closed")


_shared: dict[str, tuple[_Store, int]] = {}
_shared_lock = threading.Lock()


def open_memory(address: Address) -> AbstractAsyncContextManager[EventLog]:
    """Return the scope of the log at `memory:` or `memory:NAME`.

    Raises `ConfigError` for an option, at once.
    """
    address.only()
    return _open(address)


@asynccontextmanager
async def _open(address: Address) -> AsyncGenerator[EventLog]:
    store = _acquire(address)
    log = MemoryLog(store)
    try:
        yield log
    finally:
        log.close()
        _release(address)


def _acquire(address: Address) -> _Store:
    """Return a store of one's own, or the one of that name."""
    if not address.path:
        return _Store(address.url)
    with _shared_lock:
        store, users = _shared.get(address.path, (_Store(address.url), 0))
        _shared[address.path] = store, users + 1
        return store


def _release(address: Address) -> None:
    if not address.path:
        return
    with _shared_lock:
        store, users = _shared.pop(address.path)
        if users > 1:
            _shared[address.path] = store, users - 1
