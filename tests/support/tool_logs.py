"""Logs on disk for tests of the tools: made, read back, damaged."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from hms_bus import new_envelope
from hms_bus.abc import Verification
from hms_bus.envelope import Envelope
from hms_bus.log.tools.stored import Stored, open_source
from hms_bus.plugins import open_log

PAGE = 4096


def fill(path: Path, envelopes: Sequence[Envelope]) -> Path:
    """Append `envelopes` to the log at `path`."""

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            await log.append(envelopes)

    asyncio.run(append())
    return path


def numbered(
    count: int, *, first: int = 1, padding: int = 0, source: str = "/shop"
) -> list[Envelope]:
    """Make events on three topics whose payloads are numbers from `first` on, and `padding`."""
    return [
        new_envelope(
            f"orders.{['eu', 'us', 'jp'][n % 3]}.created",
            {"n": n, "padding": "x" * padding},
            source=source,
            type="Order",
            id=f"{source}-{n:06d}",
        )
        for n in range(first, first + count)
    ]


def records(path: Path) -> list[Stored]:
    """Read all records, which must be sound."""
    with open_source(path) as source:
        return [*source.walk()]


def numbers(path: Path) -> list[int]:
    """The numbers of `numbered` that the log holds, in its order."""
    return [
        int(one.id.rpartition("-")[2]) for one in records(path) if not one.topic.startswith("$")
    ]


def verify(path: Path) -> Verification:
    """Verify the whole log."""

    async def check() -> Verification:
        async with open_log(f"sqlite:{path}?readonly=true") as log:
            return await log.verify()

    return asyncio.run(check())


def leaves_of(path: Path, table: str = "records") -> list[int]:
    """The numbers of the leaf pages of a table."""
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    return _below(path.read_bytes(), root)


def _below(content: bytes, number: int) -> list[int]:
    page = content[(number - 1) * PAGE : number * PAGE]
    if page[0] in {0x0D, 0x0A}:
        return [number]
    count = int.from_bytes(page[3:5])
    cells = (int.from_bytes(page[12 + 2 * i : 14 + 2 * i]) for i in range(count))
    children = [int.from_bytes(page[cell : cell + 4]) for cell in cells]
    return [
        leaf for child in (*children, int.from_bytes(page[8:12])) for leaf in _below(content, child)
    ]


def root_of(path: Path, table: str = "records") -> int:
    """The number of a table's root page."""
    with closing(sqlite3.connect(path)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    return root


def overwrite(path: Path, offset: int, octets: bytes) -> None:
    """Write `octets` into the middle of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def kill_writer(path: Path, envelopes: Sequence[Envelope], target: Path) -> Path:
    """Copy a log with its WAL while a writer has it open, as a power cut would leave it."""

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            await log.append(envelopes)
            for suffix in ("", "-wal"):
                await asyncio.to_thread(
                    shutil.copyfile, f"{path}{suffix}", target.with_name(target.name + suffix)
                )

    asyncio.run(append())
    return target


def raising(error: Exception) -> Callable[[int, int | None], None]:
    """A report that ends the work."""

    def report(done: int, total: int | None) -> None:
        raise error

    return report
