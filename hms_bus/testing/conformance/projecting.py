"""Checks: what follows a log by a cursor of its own: projections, and the outbox before it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from msgspec import Struct

from hms_bus.abc import EventLog, Record
from hms_bus.errors import ProjectionError, StateError, UsageError
from hms_bus.sourcing import Cursor, Elsewhere, MemoryCursors, Projection
from hms_bus.sourcing.sqlite import OUTBOX_TABLE, open_relay, open_views, outbox_insert
from hms_bus.sourcing.sqlite.file import StoreFile, open_file
from hms_bus.testing.conformance.appending import event
from hms_bus.testing.conformance.probes import equal, raises, read, take, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")
of_a_bus = checks_of("logged")


class Counted(Struct, frozen=True):
    """An event of which a projection keeps the number."""

    number: int


class Rows(Protocol):
    """A connection, as far as the handlers of these checks use one."""

    def execute(self, sql: str, parameters: tuple[Any, ...] = (), /) -> Any:
        """Execute one statement."""
        ...


async def fill(log: EventLog, subject: Subject, *numbers: int) -> list[int]:
    """Append an event for each number, on two topics in turn; return their positions."""
    positions: list[int] = []
    for number in numbers:
        topic = f"counted.{number % 2}"
        [receipt] = await log.append([event(subject, Counted(number), topic)])
        positions.append(receipt.position or 0)
    return positions


def into_list(subject: Subject, *, version: int = 1, times: int = 1) -> Projection[list[int]]:
    """Return a projection that keeps each number, `times` so much, and fails on negative ones."""
    projection: Projection[list[int]] = Projection(
        subject.name, subject.topic("counted.*"), version=version
    )

    @projection.on(Counted)
    def counted(event: Counted, rows: list[int]) -> None:
        rows.append(_times(event, times))

    @projection.reset
    def clear(rows: list[int]) -> None:
        rows.clear()

    return projection


def into_table(subject: Subject, *, fails: bool) -> Projection[Rows]:
    """Return a projection that keeps each number in the table `counted`."""
    projection: Projection[Rows] = Projection(subject.name, subject.topic("counted.*"))

    @projection.setup
    def create(rows: Rows) -> None:
        rows.execute("CREATE TABLE counted (position INTEGER PRIMARY KEY, number INTEGER)")

    @projection.on(Counted)
    def counted(event: Counted, rows: Rows, record: Record) -> None:
        row = (record.position, event.number)
        rows.execute("INSERT INTO counted VALUES (?, ?)", row)  # a second time it would fail
        if fails:
            _times(event, 1)

    return projection


def _times(event: Counted, times: int) -> int:
    if event.number < 0:
        raise ValueError(f"{event.number} is negative")
    return event.number * times


@asynccontextmanager
async def _folder() -> AsyncGenerator[Path]:
    folder = await asyncio.to_thread(TemporaryDirectory)
    try:
        yield Path(folder.name)
    finally:
        await asyncio.to_thread(folder.cleanup)


# -- projections -------------------------------------------------------------------------------


@check("log-follow")
async def a_projection_catches_up_and_goes_on(subject: Subject) -> None:
    """What is there, comes meanwhile and comes live is handled once, and so after a pause."""
    rows: list[int] = []
    projection, views = into_list(subject), Elsewhere(rows)
    async with subject.open_log() as log:
        for first in (0, 40, 80):
            await fill(log, subject, *range(first, first + 20))
            async with projection.running(log, views) as following:
                meanwhile = await fill(log, subject, *range(first + 20, first + 30))
                await within(following.reached(meanwhile[-1]), "what came meanwhile")
                live = await fill(log, subject, *range(first + 30, first + 40))
                await within(following.reached(live[-1]), "what came live")
            equal(rows, list(range(first + 40)), "handled")


@check()
async def a_projections_cursor_is_what_was_handled(subject: Subject) -> None:
    """A handler that fails stops the projection at its record; the next run begins with it."""
    rows: list[int] = []
    cursors = MemoryCursors()
    views = Elsewhere(rows, cursors)
    async with subject.open_log() as log:
        places = await fill(log, subject, 0, 1, -2, 3)
        for _ in range(2):
            with raises(ProjectionError, "a handler that fails") as caught:
                await into_list(subject).run(log, views)
            equal(caught.error.position, places[2], "position in the error")
            equal(rows, [0, 1], "handled")
            cursor = await cursors.cursor(subject.name)
            equal(cursor and cursor.position, places[1], "cursor")
        mended = Projection[list[int]](subject.name, subject.topic("counted.*"))
        mended.on(Counted)(_keep)
        equal(await mended.run(log, views), places[3], "cursor at the end")
        equal(rows, [0, 1, -2, 3], "handled in the end")


def _keep(event: Counted, rows: list[int]) -> None:
    rows.append(event.number)


@check()
async def rows_and_cursor_change_together(subject: Subject) -> None:
    """In a file, what a failure has undone is neither in the rows nor behind the cursor."""
    async with _folder() as folder, subject.open_log() as log:
        path = folder / "views.db"
        places = await fill(log, subject, 0, 1, -2, 3)
        async with open_views(path) as views:
            with raises(ProjectionError, "a handler that fails"):
                await into_table(subject, fails=True).run(log, views)
            equal(await _table(path), list(zip(places[:2], [0, 1], strict=True)), "rows")
        async with open_views(path) as views:
            cursor = await views.cursor(subject.name)
            equal(cursor and cursor.position, places[1], "cursor when it is opened again")
            await into_table(subject, fails=False).run(log, views)
            equal(await _table(path), list(zip(places, [0, 1, -2, 3], strict=True)), "all rows")


async def _table(path: Path) -> list[Any]:
    statement = "SELECT position, number FROM counted ORDER BY position"
    async with open_file(path, "", synchronous="NORMAL") as file:
        return await file.read(lambda connection: connection.execute(statement).fetchall())


@check()
async def a_rebuilt_projection_equals(subject: Subject) -> None:
    """Rebuilding makes the same rows; those of an older version are refused until it is done."""
    rows: list[int] = []
    views = Elsewhere(rows)
    async with subject.open_log() as log:
        await fill(log, subject, *range(10))
        projection = into_list(subject)
        await projection.run(log, views)
        last = await fill(log, subject, 10, 11)
        equal(await projection.rebuild(log, views), last[-1], "cursor")
        equal(rows, list(range(12)), "rows that were made again")
        newer = into_list(subject, version=2, times=10)
        with raises(UsageError, "running a newer version on old rows"):
            await newer.run(log, views)
        equal(rows, list(range(12)), "rows of the older version")
        await newer.rebuild(log, views)
        equal(rows, [10 * number for number in range(12)], "rows of the newer version")


@check("log-survives-process")
async def a_projection_goes_on_when_the_log_is_opened_again(subject: Subject) -> None:
    """A cursor that was kept leads to the same place in a log that was closed meanwhile."""
    rows: list[int] = []
    projection, views = into_list(subject), Elsewhere(rows)
    for first in (0, 5, 10):
        async with subject.open_log() as log:
            await fill(log, subject, *range(first, first + 5))
            await projection.run(log, views)
            equal(rows, list(range(first + 5)), "handled")
    async with subject.open_log() as log:
        await projection.rebuild(log, views)
    equal(rows, list(range(15)), "made again")


@check()
async def a_projection_goes_on_in_its_own_log_only(subject: Subject) -> None:
    """Where the record at the cursor is another one, or none, nothing is handled or skipped."""
    rows: list[int] = []
    projection = into_list(subject)
    async with subject.open_log() as log:
        places = await fill(log, subject, *range(5))
        cursors = MemoryCursors()
        await projection.run(log, Elsewhere(rows, cursors))
        right = await cursors.cursor(subject.name)
        for wrong in (
            Cursor(position=places[2], version=1, event_id="of-another-log"),
            Cursor(position=places[-1] + 1, version=1, event_id=right.event_id if right else ""),
        ):
            cursors = MemoryCursors()
            await cursors.save(subject.name, None, wrong)
            with raises(StateError, "running on another log"):
                await projection.run(log, Elsewhere(rows, cursors))
            equal(rows, list(range(5)), "rows of the other log")
            equal(await cursors.cursor(subject.name), wrong, "cursor in the other log")
            await projection.rebuild(log, Elsewhere(rows, cursors))
            equal(rows, list(range(5)), "rows that were made again")
            equal(await cursors.cursor(subject.name), right, "cursor in this log")


# -- the outbox --------------------------------------------------------------------------------


@of_a_bus("log-dedup", survives={"delay"})
async def a_relay_that_dies_publishes_once(subject: Subject) -> None:
    """What a relay publishes again, since it died before it knew, is kept and delivered once."""
    topic = subject.topic("orders")
    async with (
        _outbox() as (path, shop),
        subject.bus(log=subject.log_url) as bus,
        subject.publisher(log=None, logged=[]) as other,
        other.subscribe(topic) as messages,
        open_relay(path, bus) as relay,
    ):
        for number in range(3):
            await _put(shop, subject, topic, number)
        waiting = await shop.read(_waiting)
        equal(await relay.run(), 3, "published")
        equal(await shop.read(_waiting), [], "left in the outbox")
        # As if it had died after the log had them and before they were taken out.
        await shop.write(lambda connection: connection.executemany(_RESTORE, waiting))
        await _put(shop, subject, topic, 3)
        equal(await relay.run(), 4, "published again")
        records = await read(bus.log, pattern=topic)
        equal([r.envelope.decode() for r in records], [0, 1, 2, 3], "the log")
        equal([m.data for m in await take(messages, 4)], [0, 1, 2, 3], "delivered")


_RESTORE = "INSERT INTO hms_outbox (sequence, id, document) VALUES (?, ?, ?)"


@asynccontextmanager
async def _outbox() -> AsyncGenerator[tuple[Path, StoreFile]]:
    async with _folder() as folder:
        path = folder / "shop.db"
        async with open_file(path, OUTBOX_TABLE, synchronous="FULL", journal=None) as shop:
            yield path, shop


async def _put(shop: StoreFile, subject: Subject, topic: str, number: int) -> None:
    """Do what the application does in a transaction of its own."""
    statement, values = outbox_insert(topic, number, source=subject.source)
    await shop.write(lambda connection: connection.execute(statement, values))


def _waiting(connection: Any) -> list[Any]:
    return connection.execute(
        "SELECT sequence, id, document FROM hms_outbox ORDER BY sequence"
    ).fetchall()
