"""Files whose pages are whole, with values in them that no log writes: `LogCorruptError`."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import LogCorruptError
from hms_bus.plugins import open_log
from tests.support.events import events


async def damaged(path: Path, statement: str) -> str:
    """Write five records, damage them, and return the URL."""
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(5, "a.b"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
    return f"sqlite:{path}"


async def read(url: str, selector: Selector) -> tuple[list[int], LogCorruptError]:
    """Return the positions that could be read, and the error that ended it."""
    positions: list[int] = []

    async def read_all() -> None:
        async with open_log(f"{url}?readonly=true") as log:
            async for record in log.read(selector):
                positions.append(record.position)  # noqa: PERF401 - kept when the reading fails

    with pytest.raises(LogCorruptError) as corrupt:
        await read_all()
    return positions, corrupt.value


@pytest.mark.parametrize("value", ["x'ff61'", "CAST(x'ff61' AS TEXT)"])
async def test_a_topic_that_is_no_text(tmp_path: Path, value: str) -> None:
    url = await damaged(tmp_path / "events.db", f"UPDATE topics SET name = {value}")  # noqa: S608 - our own
    positions, error = await read(url, Selector(pattern="a.*"))
    assert positions == []
    assert "topic" in error.message
    assert error.path.endswith("events.db")


@pytest.mark.parametrize("column", ["recorded_ns", "document"])
@pytest.mark.parametrize(
    ("backwards", "expected"), [(False, [1, 2]), (True, [5, 4])], ids=["forwards", "backwards"]
)
async def test_a_record_with_a_value_of_the_wrong_type(
    tmp_path: Path, column: str, expected: list[int], *, backwards: bool
) -> None:
    value = "'noon'" if column == "recorded_ns" else "17"
    statement = f"UPDATE records SET {column} = {value} WHERE position = 3"  # noqa: S608 - our own
    url = await damaged(tmp_path / "events.db", statement)
    positions, error = await read(url, Selector(backwards=backwards))
    assert positions == expected
    assert error.position == 3


@pytest.mark.parametrize(
    "selector",
    [Selector(since_ns=1), Selector(until_ns=10**18), Selector(since_ns=1, backwards=True)],
    ids=["since", "until", "since, backwards"],
)
async def test_times_that_are_no_numbers(tmp_path: Path, selector: Selector) -> None:
    url = await damaged(tmp_path / "events.db", "UPDATE records SET recorded_ns = 'noon'")
    positions, error = await read(url, selector)
    assert positions == []
    assert error.position in range(1, 6)


@pytest.mark.parametrize(
    ("column", "value"),
    [("recorded_ns", "'noon'"), ("recorded_ns", "1.5"), ("hash", "5"), ("hash", "x'00'")],
)
async def test_a_last_record_that_nothing_can_follow(
    tmp_path: Path, column: str, value: str
) -> None:
    statement = f"UPDATE records SET {column} = {value} WHERE position = 5"  # noqa: S608 - our own
    url = await damaged(tmp_path / "events.db", statement)
    with pytest.raises(LogCorruptError, match="hms-bus log doctor") as refused:
        async with open_log(url):
            pass
    assert refused.value.position == 5
    async with open_log(f"{url}?readonly=true") as log:
        with pytest.raises(LogCorruptError) as refused:
            await log.head()
        assert refused.value.position == 5
        assert (await log.verify()).position == 5


async def test_an_id_that_cannot_be_compared(tmp_path: Path) -> None:
    url = await damaged(tmp_path / "events.db", "UPDATE records SET id = x'ff' WHERE position = 2")
    with pytest.raises(LogCorruptError, match="hms-bus log doctor"):
        async with open_log(url):
            pass


async def test_a_damaged_index_is_refused_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    url = await damaged(path, "UPDATE topics SET last = 5")
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'records_by_id'"
        ).fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(LogCorruptError, match="is damaged"):
        async with open_log(url):
            pass
