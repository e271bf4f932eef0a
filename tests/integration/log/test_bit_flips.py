"""Every flipped bit inside a record is found by `verify`."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import Verification
from hms_bus.log.audit import Audit
from hms_bus.log.checking import audit_page
from hms_bus.log.reader import connect_read_only
from hms_bus.plugins import open_log
from tests.support.events import event

RECORDS = 3
LEAF_PAGE = 0x0D


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a closed log of a few records, all in one page."""
    path = tmp_path / "events.db"

    async def fill() -> None:
        async with open_log(f"sqlite:{path}") as log:
            await log.append([event("a.b", {"n": n}, correlationid="c") for n in range(RECORDS)])

    asyncio.run(fill())
    return path


def verify(path: Path) -> Verification:
    """Do what `EventLog.verify` does, without a thread: some thousand times."""
    audit = Audit()
    with closing(connect_read_only(path, busy_s=0, immutable=True)) as connection:
        audit_page(connection, audit, limit=100)
    return audit.conclude()


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer (SQLite file format 1.6), and where it ends."""
    value = 0
    while True:
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at


def record_cells(path: Path) -> Iterator[range]:
    """Yield where in the file each record stands: its lengths, its header, its columns."""
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'records'"
        ).fetchone()
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    start = (root - 1) * page_bytes
    page = path.read_bytes()[start : start + page_bytes]
    assert page[0] == LEAF_PAGE
    for n in range(int.from_bytes(page[3:5])):
        cell = int.from_bytes(page[8 + 2 * n : 10 + 2 * n])
        payload_bytes, at = read_varint(page, cell)
        _, at = read_varint(page, at)
        yield range(start + cell, start + at + payload_bytes)


def placeholder(path: Path, cell: range) -> int:
    """Return where the storage class of `position` stands in a record's header.

    SQLite keeps an INTEGER PRIMARY KEY as the number of the row; this byte says NULL, and if it
    says 0 instead nothing that can be read changes.
    """
    data = path.read_bytes()
    _, at = read_varint(data, cell.start)
    _, at = read_varint(data, at)
    return at + 1


def everything(path: Path) -> list[object]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT records.*, typeof(document), typeof(hash), typeof(payload_hash) FROM records"
        ).fetchall()


def test_every_flipped_bit_of_every_record_is_found(path: Path) -> None:
    sound = path.read_bytes()
    records = everything(path)
    cells = list(record_cells(path))
    without_meaning = {(placeholder(path, cell), 3) for cell in cells}
    assert len(cells) == RECORDS
    with path.open("r+b", buffering=0) as file:
        for offset in (offset for cell in cells for offset in cell):
            for bit in range(8):
                file.seek(offset)
                file.write(bytes([sound[offset] ^ 1 << bit]))
                if (offset, bit) in without_meaning:
                    assert everything(path) == records
                else:
                    assert not verify(path).is_sound, (offset, bit)
            file.seek(offset)
            file.write(sound[offset : offset + 1])
    assert verify(path).is_sound


COLUMNS = ("position", "recorded_ns", "topic", "source", "id", "hash", "payload_hash", "document")


@pytest.mark.parametrize("column", COLUMNS)
def test_every_change_of_a_column_by_sql_is_found(path: Path, column: str) -> None:
    sound = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT * FROM records WHERE position = 2").fetchone()
    value = row[COLUMNS.index(column)]
    for changed in changes(value):
        path.write_bytes(sound)
        with closing(sqlite3.connect(path)) as connection:
            update = f"UPDATE records SET {column} = ? WHERE position = 2"  # noqa: S608 - as above
            connection.execute(update, [changed])
            connection.commit()
        assert not verify(path).is_sound, changed


def changes(value: object) -> list[object]:
    """Return other values for a column; for text and octets one for each of their bytes."""
    if isinstance(value, int):
        return [value + 10, value + 10**6, -value]
    if isinstance(value, str):
        return [value[:n] + chr(ord(value[n]) ^ 64) + value[n + 1 :] for n in range(len(value))]
    if isinstance(value, bytes):
        return [value[:n] + bytes([value[n] ^ 64]) + value[n + 1 :] for n in range(len(value))]
    return [bytes(32), b"", 0, "text"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET document = CAST(document AS BLOB) WHERE position = 2",
        "UPDATE records SET id = CAST(id AS BLOB) WHERE position = 2",
        "UPDATE records SET recorded_ns = recorded_ns + 0.5 WHERE position = 2",
        "DELETE FROM records WHERE position = 1",
        "DELETE FROM records WHERE position = 2",
        "UPDATE records SET position = position + 1 WHERE position = 3",
        "UPDATE records SET position = 0 WHERE position = 1",
        "UPDATE topics SET last = 2",
        "UPDATE topics SET name = 'a.c'",
        "UPDATE sources SET name = 'other'",
        "DELETE FROM topics",
        "INSERT INTO topics VALUES (7, 'c.d', 2)",
    ],
)
def test_other_damage_is_found(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    assert not verify(path).is_sound
