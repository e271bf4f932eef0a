"""The log: durable appends with a thousand in flight, and reading it into handlers."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiosqlite
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from msgspec import Struct, json

from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.servers import disk_folder
from benchmarks.tally import Tally
from hms_bus import Bus, jsonformat, new_envelope

IN_FLIGHT = 1000
RECORDS = 20_000
FULL = 2
"""What `PRAGMA synchronous` says of FULL."""

EVENTSOURCING = "eventsourcing SQLite recorder, one by one"
AIOSQLITE_INSERT = "aiosqlite, one insert per await"
AIOSQLITE_READ = "aiosqlite async for"
AIOSQLITE_DECODED = "aiosqlite async for, documents decoded by msgspec"


class _Document(Struct):
    """What a handler needs of a stored envelope, for the peer that decodes."""

    id: str
    topic: str
    data: Order


@asynccontextmanager
async def open_append() -> AsyncGenerator[Run]:
    """Publish to a logged bus from a thousand tasks, each awaiting its commits."""
    with disk_folder() as folder:
        bus = Bus("direct://", log=f"sqlite:{folder / 'ours.db'}")

        async def publish(count: int) -> None:
            for _ in range(count):
                receipt = await bus.publish(TOPIC, ORDER)
                assert receipt.position is not None

        async def work(operations: int) -> None:
            await asyncio.gather(*(publish(operations // IN_FLIGHT) for _ in range(IN_FLIGHT)))

        async with bus:
            yield timed(work)


@asynccontextmanager
async def open_eventsourcing() -> AsyncGenerator[Run]:
    """Insert one event per call, as saving an aggregate after each command does."""
    with disk_folder() as folder:
        path = folder / "eventsourcing.db"
        store = SQLiteDatastore(str(path))
        recorder = SQLiteApplicationRecorder(store)
        recorder.create_table()
        with store.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == FULL
        state = json.encode(ORDER)

        async def work(operations: int) -> None:
            aggregate = uuid4()
            for version in range(operations):
                recorder.insert_events([StoredEvent(aggregate, version, TOPIC, state)])

        yield timed(work)
        store.close()


@asynccontextmanager
async def open_aiosqlite_insert() -> AsyncGenerator[Run]:
    """Insert and commit one row per await (autocommit, so that one await does both)."""
    with disk_folder() as folder:
        async with aiosqlite.connect(folder / "insert.db", isolation_level=None) as database:
            await database.execute("PRAGMA journal_mode = WAL")
            await database.execute(f"PRAGMA synchronous = {FULL}")
            await database.execute(
                "CREATE TABLE events (position INTEGER PRIMARY KEY, topic TEXT, payload BLOB)"
            )
            payload = json.encode(ORDER)

            async def work(operations: int) -> None:
                for _ in range(operations):
                    await database.execute(
                        "INSERT INTO events (topic, payload) VALUES (?, ?)", (TOPIC, payload)
                    )

            yield timed(work)


@asynccontextmanager
async def open_read() -> AsyncGenerator[Run]:
    """Replay the log, decode each record and its payload, and await the handler."""
    with disk_folder() as folder:
        bus = Bus("direct://", log=f"sqlite:{folder / 'ours.db'}")
        tally = Tally()

        async def handle(order: Order) -> None:
            tally.add()

        async def work(operations: int) -> None:
            tally.expect(operations)
            async for message in bus.replay(limit=operations):
                await handle(message.decode(Order))
            await tally.complete()

        async with bus:
            for _ in range(RECORDS // IN_FLIGHT):
                await bus.publish_many([(TOPIC, ORDER)] * IN_FLIGHT)
            yield timed(work)


@asynccontextmanager
async def open_aiosqlite_read(parse: Callable[[bytes], object]) -> AsyncGenerator[Run]:
    """Iterate over rows with the same documents, `parse` each, and await a handler."""
    with disk_folder() as folder:
        path = folder / "rows.db"
        _write_rows(path)
        tally = Tally()

        async def handle(document: object) -> None:
            tally.add()

        async with aiosqlite.connect(path) as database:

            async def work(operations: int) -> None:
                tally.expect(operations)
                async with database.execute(
                    "SELECT position, recorded_ns, document FROM records ORDER BY position LIMIT ?",
                    (operations,),
                ) as rows:
                    async for _, _, document in rows:
                        await handle(parse(document))
                await tally.complete()

            yield timed(work)


def _as_it_is(document: bytes) -> bytes:
    return document


def _write_rows(path: Path) -> None:
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(
            "CREATE TABLE records"
            " (position INTEGER PRIMARY KEY, recorded_ns INTEGER, document BLOB)"
        )
        database.executemany(
            "INSERT INTO records (recorded_ns, document) VALUES (?, ?)",
            (
                (number, jsonformat.encode(new_envelope(TOPIC, ORDER, source="/agents/shop")))
                for number in range(RECORDS)
            ),
        )
        database.commit()
    finally:
        database.close()


READERS = (
    Contender(name=AIOSQLITE_READ, open=partial(open_aiosqlite_read, _as_it_is)),
    Contender(
        name=AIOSQLITE_DECODED,
        open=partial(open_aiosqlite_read, json.Decoder(_Document).decode),
    ),
)
"""The peers that iterate over the rows of a file."""

ROWS = (
    Race(
        name="append",
        title=f"durable append (FULL), {IN_FLIGHT:,} in flight through the bus",
        unit="messages",
        ours=Contender(name="hms-bus", open=open_append, step=IN_FLIGHT),
        peers=(
            Contender(name=EVENTSOURCING, open=open_eventsourcing),
            Contender(name=AIOSQLITE_INSERT, open=open_aiosqlite_insert),
        ),
        targets=(
            Target(against=EVENTSOURCING, limit=30),
            Target(against=AIOSQLITE_INSERT, limit=30),
        ),
        order_of_magnitude=100_000,
    ),
    Race(
        name="read",
        title="read the log into handlers",
        unit="records",
        ours=Contender(name="hms-bus", open=open_read),
        peers=READERS,
        targets=(Target(against=AIOSQLITE_READ, limit=1.5),),
        operations=RECORDS,
    ),
)
