"""The outbox: rows of an application and its messages, both or neither, and once in the log."""

import asyncio
import logging
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest

from hms_bus import Bus, Message, Record, Selector
from hms_bus.errors import ConfigError, EncodeError, QueueFullError, StoreError, TopicError
from hms_bus.sourcing.sqlite import OUTBOX_TABLE, file, open_relay, outbox_insert
from tests.support import killed_relay
from tests.support.sourced import Deposited, Registered

SHOP = "/agents/shop"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def shop(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database of an application, with an outbox."""
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        with connection:
            connection.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY)")
            connection.execute(OUTBOX_TABLE)
        yield connection


def order(shop: sqlite3.Connection, number: int, topic: str = "orders.1") -> str:
    """Insert an order and tell about it, in one transaction; return the message's id."""
    with shop:
        shop.execute("INSERT INTO orders VALUES (?)", (number,))
        statement, values = outbox_insert(topic, Deposited(number), source=SHOP)
        shop.execute(statement, values)
        return values[0]


def waiting(shop: sqlite3.Connection) -> int:
    return shop.execute("SELECT count(*) FROM hms_outbox").fetchone()[0]


async def kept(bus: Bus) -> list[Record]:
    return [record async for record in bus.log.read(Selector())]


async def test_what_was_committed_is_published_in_order_and_once(
    bus: Bus, shop: sqlite3.Connection, path: Path
) -> None:
    ids = [order(shop, number) for number in range(250)]
    async with open_relay(path, bus) as relay:
        assert await relay.run() == 250
        assert await relay.run() == 0
    records = await kept(bus)
    assert [record.envelope.id for record in records] == ids
    assert [record.envelope.decode(Deposited).amount for record in records] == [*range(250)]
    assert {record.envelope.source for record in records} == {SHOP}
    assert waiting(shop) == 0


async def test_what_was_rolled_back_is_never_published(
    bus: Bus, shop: sqlite3.Connection, path: Path
) -> None:
    order(shop, 1)

    def order_what_is_ordered() -> None:
        with shop:
            shop.execute(*outbox_insert("orders.1", Deposited(1), source=SHOP))
            shop.execute("INSERT INTO orders VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        order_what_is_ordered()
    async with open_relay(path, bus) as relay:
        assert await relay.run() == 1


async def test_publishing_again_after_a_crash_keeps_and_delivers_it_once(
    bus: Bus, shop: sqlite3.Connection, path: Path
) -> None:
    seen: list[int] = []
    last = asyncio.Event()

    @bus.subscribe("orders.*")
    async def handle(event: Deposited) -> None:
        seen.append(event.amount)
        if event.amount == 9:
            last.set()

    for number in range(3):
        order(shop, number)
    rows = shop.execute("SELECT id, document FROM hms_outbox").fetchall()
    async with open_relay(path, bus) as relay:
        await relay.run()
        with shop:  # as if the relay had died before it took them out
            shop.executemany("INSERT INTO hms_outbox (id, document) VALUES (?, ?)", rows)
        order(shop, 9)
        assert await relay.run() == 4
    await last.wait()
    assert seen == [0, 1, 2, 9]
    assert len(await kept(bus)) == 4


async def test_a_relay_follows_the_application(
    bus: Bus, shop: sqlite3.Connection, path: Path
) -> None:
    arrived: asyncio.Queue[str] = asyncio.Queue()

    @bus.subscribe("orders.*")
    async def handle(message: Message) -> None:
        arrived.put_nowait(message.id)

    async with open_relay(path, bus, poll_s=0.01) as relay:
        task = asyncio.create_task(relay.run(follow=True))
        for number in range(3):
            id_ = order(shop, number)
            assert await arrived.get() == id_
        task.cancel()
        await asyncio.wait([task])


async def test_a_subscriber_that_refuses_holds_nothing_up(
    bus: Bus, shop: sqlite3.Connection, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    @bus.subscribe("orders.*", max_queue=1, overflow="error")
    async def slow(event: Deposited) -> None:
        await release.wait()

    for number in range(5):
        order(shop, number)
    async with open_relay(path, bus) as relay:
        assert await relay.run() == 5
    release.set()
    assert len(await kept(bus)) == 5
    assert "outbox" in caplog.text


async def test_a_message_that_cannot_go_out_stays_and_those_before_it_went(
    shop: sqlite3.Connection, path: Path
) -> None:
    async with Bus("direct://") as bus, open_relay(path, bus) as relay:
        release = asyncio.Event()

        @bus.subscribe("full.*", max_queue=1, overflow="error")
        async def slow(event: Deposited) -> None:
            await release.wait()

        order(shop, 1)
        for number in (2, 3, 4):
            order(shop, number, "full.1")
        with pytest.raises(QueueFullError):
            await relay.run()
        assert 0 < waiting(shop) < 4
        release.set()


async def test_a_message_put_by_a_handler_is_caused_by_what_is_handled(
    bus: Bus, shop: sqlite3.Connection, path: Path
) -> None:
    done = asyncio.Event()

    @bus.subscribe("payments.*")
    async def pay(event: Deposited) -> None:
        await asyncio.to_thread(order, shop, event.amount)
        done.set()

    paid = await bus.publish("payments.1", Deposited(7))
    await done.wait()
    async with open_relay(path, bus) as relay:
        await relay.run()
    assert (await kept(bus))[-1].envelope.causationid == paid.id


def test_what_cannot_be_published_cannot_be_put() -> None:
    with pytest.raises(TopicError):
        outbox_insert("orders.*", 1, source=SHOP)
    with pytest.raises(EncodeError):
        outbox_insert("orders.1", object(), source=SHOP)
    with pytest.raises(ConfigError, match="clear"):
        outbox_insert("orders.1", Registered(customer="ann", email="x"), source=SHOP)


async def test_an_asynchronous_library_takes_the_same_statement(bus: Bus, path: Path) -> None:
    async with aiosqlite.connect(path) as database:
        await database.execute(OUTBOX_TABLE)
        await database.execute(*outbox_insert("orders.1", Deposited(1), source=SHOP, id="one"))
        await database.commit()
    async with open_relay(path, bus) as relay:
        assert await relay.run() == 1
    assert [record.envelope.id for record in await kept(bus)] == ["one"]


async def test_a_file_that_is_no_database_has_no_outbox(bus: Bus, path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"shop\.db"):
        async with open_relay(path, bus):
            pass


async def test_what_has_no_outbox_is_refused_and_not_made(bus: Bus, tmp_path: Path) -> None:
    missing = tmp_path / "typo.db"
    with pytest.raises(StoreError, match=r"no file .*typo\.db: is the name right") as caught:
        async with open_relay(missing, bus):
            pass
    assert caught.value.path == str(missing)
    assert not missing.exists()
    missing.touch()
    with pytest.raises(StoreError, match=r"no outbox.*OUTBOX_TABLE"):
        async with open_relay(missing, bus):
            pass


async def test_a_relay_waits_for_an_application_that_holds_its_lock(
    bus: Bus,
    shop: sqlite3.Connection,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, arrived = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(file, "BUSY_S", 0.01)

    def note(*_: object) -> None:
        said.set()

    monkeypatch.setattr(logging.getLogger("hms_bus"), "warning", note)

    @bus.subscribe("orders.*")
    async def handle(event: Deposited) -> None:
        arrived.set()

    async with open_relay(path, bus, poll_s=0.01) as relay:
        order(shop, 1)
        shop.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked") as caught:
            await relay.run()
        assert caught.value.retryable
        task = asyncio.create_task(relay.run(follow=True))
        await said.wait()
        assert not arrived.is_set()
        shop.rollback()
        await arrived.wait()
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.timeout(120)
async def test_kill_9_between_log_and_outbox_doubles_nothing(
    shop: sqlite3.Connection, path: Path, tmp_path: Path
) -> None:
    log = f"sqlite:{tmp_path / 'events.db'}"
    ids = [order(shop, number) for number in range(300)]
    for count in (1, 7, 100, 101):
        assert await run_relay(log, path, count) == -signal.SIGKILL
        assert waiting(shop) > 0
    assert await run_relay(log, path, 0) == 0
    async with Bus("direct://", log=log) as bus:
        assert [record.envelope.id for record in await kept(bus)] == ids
    assert waiting(shop) == 0


async def run_relay(log: str, path: Path, count: int) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", killed_relay.__name__, log, str(path), str(count)
    )
    return await process.wait()
