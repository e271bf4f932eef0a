"""`memory:` and `memory:NAME`: a log without a file, with the semantics of the one that has one.

`memory:` is private to its scope. `memory:NAME` is shared by all who have it open in this process,
from whatever thread or event loop, and is gone when the last of them closes it.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from itertools import islice

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
from hms_bus.errors import DurableInUseError, StateError
from hms_bus.log.admission import admit
from hms_bus.log.audit import Audit, Kept
from hms_bus.log.bell import Bell
from hms_bus.log.chain import GENESIS, link
from hms_bus.log.documents import Entry, make_entry
from hms_bus.log.durable.durables import Durables
from hms_bus.log.durable.saved import MOST_COUNTED, Changes, KeptDurable, Saved
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
        "log-durable",
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
        self.durables: dict[str, KeptDurable] = {}
        self.claimed: set[str] = set()

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

    def rows_at(self, positions: Sequence[int]) -> list[Row]:
        return [self._rows[position - 1] for position in positions]

    def count(self, wants_topic: Callable[[str], bool], after: int) -> int:
        topics = {topic for topic, last in self._last_on.items() if last > after}
        wanted = set(filter(wants_topic, topics))
        found = (entry for entry in islice(self._entries, after, None) if entry.topic in wanted)
        return sum(1 for _ in islice(found, MOST_COUNTED))

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
        self._durables = Durables(self, store.name)
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

    # -- durables ------------------------------------------------------------------------------

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        """Return the scope of a consumer; see `hms_bus.abc.ConsumingLog.consume`."""
        self._check_open()
        return self._durables.consume(durable)

    async def durables(self) -> list[DurableInfo]:
        """Return all durables; see `hms_bus.abc.ConsumingLog.durables`."""
        self._check_open()
        return await self._durables.infos()

    async def forget(self, name: str) -> None:
        """Remove a durable; see `hms_bus.abc.ConsumingLog.forget`."""
        await self._durables.forget(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """Deliver dead letters again; see `hms_bus.abc.ConsumingLog.redrive`."""
        await self._durables.redrive(name, positions)

    async def keep(self, changes: Changes, dead_letters: Sequence[Envelope]) -> None:
        """Keep what has changed of a durable; see `hms_bus.log.durable.engine.Shelf`."""
        self._check_open()
        entries = [make_entry(envelope) for envelope in dead_letters]
        with self._store.lock:
            self._store.durables.setdefault(changes.durable.name, KeptDurable()).apply(changes)
            self._store.append(entries, "any")
            last = self._store.last_position()
        self._bell.ring(last)

    async def read_at(self, positions: Sequence[int]) -> list[Record]:
        """Return the records at `positions`."""
        with self._store.lock:
            rows = self._store.rows_at(positions)
        return self._reading.records(rows)

    async def count(self, wants_topic: Callable[[str], bool], after: int) -> int:
        """Return how many records on wanted topics lie behind a position."""
        with self._store.lock:
            return self._store.count(wants_topic, after)

    async def load(self, name: str) -> Saved | None:
        """Return what is kept of a durable."""
        self._check_open()
        with self._store.lock:
            kept = self._store.durables.get(name)
            return kept and kept.saved()

    async def load_all(self) -> list[Saved]:
        """Return what is kept of all durables, by name."""
        with self._store.lock:
            kept = [kept.saved() for _, kept in sorted(self._store.durables.items())]
        return [saved for saved in kept if saved is not None]

    async def remove(self, name: str) -> None:
        """Remove all that is kept of a durable."""
        with self._store.lock:
            del self._store.durables[name]

    @contextmanager
    def claim(self, name: str) -> Generator[None]:
        """Keep the durable from those who have the same log open on another event loop."""
        with self._store.lock:
            if name in self._store.claimed:
                raise DurableInUseError(
                    f"the durable {name!r} of {self._store.name} is consumed on another event loop "
                    "of this process: give both the same bus, or take another name",
                    path=self._store.name,
                    name=name,
                )
            self._store.claimed.add(name)
        try:
            yield
        finally:
            with self._store.lock:
                self._store.claimed.discard(name)

    # -- life ----------------------------------------------------------------------------------

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
