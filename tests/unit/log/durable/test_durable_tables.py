"""The tables of durables: what is saved is loaded, and a file without durables has none of them."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import ConsumingLog, Durable, Selector
from hms_bus.errors import LogCorruptError, UsageError
from hms_bus.log.durable import tables
from hms_bus.log.durable.saved import Changes, KeptDurable, Row, Saved, State
from hms_bus.plugins import open_log
from tests.support.events import events


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Open a database as the log's readers do, with texts as bytes."""
    with closing(sqlite3.connect(":memory:")) as opened:
        opened.text_factory = bytes
        yield opened


def changes(name: str = "d", *rows: Row, removed: tuple[int, ...] = (), floor: int = 3) -> Changes:
    durable = Durable(name=name, pattern="a.>", group="g", start=2, max_deliveries=None)
    return Changes(
        durable=durable,
        floor=floor,
        delivered=2**63 - 1,
        delivered_ns=17,
        written=rows,
        removed=removed,
    )


def save(connection: sqlite3.Connection, *steps: Changes) -> Saved | None:
    """Save one after the other; return what is kept after them."""
    tables.make_tables(connection)
    kept = KeptDurable()
    for step in steps:
        tables.save(connection, step)
        kept.apply(step)
    return kept.saved()


def load(connection: sqlite3.Connection, name: str | None = None) -> list[Saved]:
    return tables.load(connection, name, path="events.db")


def test_without_tables_there_are_no_durables(connection: sqlite3.Connection) -> None:
    assert load(connection) == load(connection, "d") == []


def test_what_is_saved_is_loaded(connection: sqlite3.Connection) -> None:
    rows = [Row(9 - state, state, state, 2**63 - state) for state in State]
    kept = save(connection, changes("d", *rows))
    assert kept is not None
    assert len(kept.rows) == len(State)
    assert load(connection, "d") == [kept]


def test_what_was_redriven_is_known_when_it_is_loaded(connection: sqlite3.Connection) -> None:
    row = Row(4, State.WAITING, 2, 5, is_redriven=True)
    assert save(connection, changes("d", row)) is not None
    [loaded] = load(connection, "d")
    assert loaded.rows == (row,)


@pytest.mark.parametrize("settings", ["{}", '{"name":1}', "\x00", '{"name":"d","pattern":"a",'])
async def test_a_durable_that_cannot_be_read_can_be_removed(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "events.db"

    def damage() -> None:
        with closing(sqlite3.connect(path)) as opened, opened:
            opened.execute("UPDATE durables SET settings = ? WHERE name = 'd'", (settings,))

    async with open_log(f"sqlite:{path}") as log:
        assert isinstance(log, ConsumingLog)
        for name in ("c", "d"):
            async with log.consume(Durable(name=name, pattern=">")):
                pass
    await asyncio.to_thread(damage)
    async with open_log(f"sqlite:{path}") as log:
        assert isinstance(log, ConsumingLog)
        with pytest.raises(LogCorruptError, match="hms-bus durable rm d"):
            await log.durables()
        await log.forget("d")
        assert [info.durable.name for info in await log.durables()] == ["c"]


def test_steps_add_up_in_the_tables_as_in_memory(connection: sqlite3.Connection) -> None:
    out, waiting = Row(4, State.OUT, 2, 5), Row(4, State.WAITING, 2, 6)
    parked = Row(8, State.PARKED, 0, 0)
    kept = save(
        connection,
        changes("d", out, parked),
        changes("d", waiting, removed=(5,)),
        changes("d", removed=(8,), floor=4),
    )
    assert kept is not None
    assert (kept.rows, kept.floor) == ((waiting,), 4)
    assert load(connection, "d") == [kept]


def test_durables_do_not_touch_each_other(connection: sqlite3.Connection) -> None:
    row = Row(4, State.DEAD, 0, 0)
    tables.make_tables(connection)
    for name in ("b", "B", "a", "é"):
        tables.save(connection, changes(name, row))
    tables.save(connection, changes("b", removed=(4,)))
    tables.remove(connection, "a")
    loaded = {saved.durable.name: saved.rows for saved in load(connection)}
    assert loaded == {"B": (row,), "b": (), "é": (row,)}
    assert list(loaded) == ["B", "b", "é"]
    assert load(connection, "a") == []


async def test_a_file_gets_the_tables_with_its_first_durable(tmp_path: Path) -> None:
    path = tmp_path / "events.db"

    def names() -> set[str]:
        with closing(sqlite3.connect(path)) as opened:
            found = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {name for (name,) in found}

    async with open_log(f"sqlite:{path}") as log:
        assert isinstance(log, ConsumingLog)
        await log.append(events(2))
        assert await log.durables() == []
        with pytest.raises(UsageError, match="no durable"):
            await log.forget("d")
    assert not {"durables", "deliveries"} & await asyncio.to_thread(names)
    async with open_log(f"sqlite:{path}") as log:
        assert isinstance(log, ConsumingLog)
        async with log.consume(Durable(name="d", pattern=">")):
            pass
    assert {"durables", "deliveries"} <= await asyncio.to_thread(names)
    async with open_log(f"sqlite:{path}?readonly=true") as log:
        assert isinstance(log, ConsumingLog)
        [info] = await log.durables()
        assert (info.durable.name, info.floor, info.lag) == ("d", 0, 2)
        assert len([record async for record in log.read(Selector())]) == 2
