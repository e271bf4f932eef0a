"""Event sourcing: events of a log into rows of an SQLite file, with the cursor beside them."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, DomainEvent
from eventsourcing.persistence import ApplicationRecorder, Tracking
from eventsourcing.projection import Projection as PeerProjection
from eventsourcing.projection import ProjectionRunner
from eventsourcing.sqlite import SQLiteTrackingRecorder

from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.servers import disk_folder
from hms_bus import Bus
from hms_bus.sourcing import Projection
from hms_bus.sourcing.sqlite import open_views

EVENTS = 5_000
AT_ONCE = 1_000

PEER = "eventsourcing ProjectionRunner"
PEER_NORMAL = "eventsourcing ProjectionRunner, synchronous=NORMAL"

_TABLE = "CREATE TABLE IF NOT EXISTS sold (item TEXT PRIMARY KEY, quantity INTEGER NOT NULL)"
_ADD = (
    "INSERT INTO sold VALUES (?, ?) "
    "ON CONFLICT (item) DO UPDATE SET quantity = quantity + excluded.quantity"
)


def _check(path: Path, events: int) -> None:
    """Let a view that is wrong end the benchmark."""
    database = sqlite3.connect(path)
    try:
        [quantity] = database.execute("SELECT sum(quantity) FROM sold").fetchone()
    finally:
        database.close()
    assert quantity == events * ORDER.quantity


@asynccontextmanager
async def open_ours() -> AsyncGenerator[Run]:
    """Project all events of a log into a new file, one statement for each, and decode each."""
    sold: Projection[sqlite3.Connection] = Projection("sold", TOPIC)

    @sold.setup
    def create(rows: sqlite3.Connection) -> None:
        rows.execute(_TABLE)

    @sold.on(Order)
    def add(order: Order, rows: sqlite3.Connection) -> None:
        rows.execute(_ADD, (order.item, order.quantity))

    numbers = count()
    with disk_folder() as folder:
        async with Bus("direct://", log=f"sqlite:{folder / 'ours.db'}") as bus:
            for _ in range(EVENTS // AT_ONCE):
                await bus.publish_many([(TOPIC, ORDER)] * AT_ONCE)

            async def run(operations: int) -> float:
                assert operations == EVENTS
                path = folder / f"view-{next(numbers)}.db"
                async with open_views(path) as views:
                    seconds = await timed(lambda _: _project(sold, bus, views))(operations)
                _check(path, operations)
                return seconds

            yield run


async def _project(sold: Projection[sqlite3.Connection], bus: Bus, views: Any) -> None:
    assert await sold.run(bus.log, views) == EVENTS


class Basket(Aggregate):
    """What the peer's events belong to."""

    class Ordered(Aggregate.Event):
        """The order, as attributes: the peer takes no Struct."""

        number: int
        customer: str
        item: str
        quantity: int
        note: str

        def apply(self, aggregate: Any) -> None:
            """Change nothing: only the events count."""


class Baskets(Application[UUID]):
    """The application whose events are projected: in memory, since in SQLite none can be followed.

    The runner makes an application of its own, which finds the events that were written before.
    """

    written: ApplicationRecorder | None = None

    def construct_recorder(self) -> ApplicationRecorder:
        """Return the events of all applications of this class."""
        if Baskets.written is None:
            Baskets.written = super().construct_recorder()
        return Baskets.written


class SoldView(SQLiteTrackingRecorder):
    """The peer's rows, changed in one transaction with its tracking, as its documentation does."""

    def construct_create_table_statements(self) -> list[str]:
        """Add the table of the view."""
        return [*super().construct_create_table_statements(), _TABLE]

    def add(self, item: str, quantity: int, tracking: Tracking) -> None:
        """Count one order."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(_ADD, (item, quantity))


class NormalSoldView(SoldView):
    """The same with SQLite's setting that our views have."""

    def create_table(self) -> None:
        """Create the tables and keep the setting; the pool hands the connection out again."""
        super().create_table()
        with self.datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA synchronous = NORMAL")


class Sold(PeerProjection[SoldView]):
    """The peer's projection."""

    name = "sold"

    @singledispatchmethod
    def process_event(self, domain_event: DomainEvent, tracking: Tracking) -> None:
        """Pass over what is no order."""

    @process_event.register
    def _(self, domain_event: Basket.Ordered, tracking: Tracking) -> None:
        self.view.add(domain_event.item, domain_event.quantity, tracking)


def _write_baskets(environment: dict[str, str]) -> None:
    """Write one aggregate of which all events but the first are orders."""
    if Baskets.written is not None:
        return
    application = Baskets(environment)
    basket = Basket()
    for _ in range(EVENTS):
        basket.trigger_event(
            Basket.Ordered,
            number=ORDER.number,
            customer=ORDER.customer,
            item=ORDER.item,
            quantity=ORDER.quantity,
            note=ORDER.note,
        )
    application.save(basket)
    application.close()


def _run_peer(environment: dict[str, str], path: Path, view: type[SoldView]) -> float:
    """Project all of the peer's events into a new file; return the seconds from start to end."""
    environment = {**environment, "SOLD_SQLITE_DBNAME": str(path)}
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Baskets,
        projection_class=Sold,
        view_class=view,
        env=environment,
    ) as runner:
        runner.wait(EVENTS + 1, timeout=120)
        seconds = time.perf_counter() - started
    _check(path, EVENTS)
    return seconds


@asynccontextmanager
async def open_peer(view: type[SoldView]) -> AsyncGenerator[Run]:
    """Run the peer's own runner, threads and all, until its view has the last event."""
    numbers = count()
    with disk_folder() as folder:
        environment = {
            "PERSISTENCE_MODULE": "eventsourcing.popo",
            "SOLD_PERSISTENCE_MODULE": "eventsourcing.sqlite",
        }
        await asyncio.to_thread(_write_baskets, environment)

        async def run(operations: int) -> float:
            assert operations == EVENTS
            path = folder / f"view-{next(numbers)}.db"
            return await asyncio.to_thread(_run_peer, environment, path, view)

        yield run


ROWS = (
    Race(
        name="projection",
        title="project a log into rows of SQLite, with a cursor that is as exact as they are",
        unit="events",
        ours=Contender(name="hms-bus", open=open_ours),
        peers=(
            Contender(name=PEER, open=partial(open_peer, SoldView)),
            Contender(name=PEER_NORMAL, open=partial(open_peer, NormalSoldView)),
        ),
        targets=(Target(against=PEER, limit=5), Target(against=PEER_NORMAL, limit=5)),
        operations=EVENTS,
    ),
)
