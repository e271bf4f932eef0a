"""One connection to an SQLite file, used in threads and by one piece of work at a time."""

import asyncio
import os
import shlex
import sqlite3
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from hms_bus.errors import StateError, StoreError
from hms_bus.log.failures import is_busy
from hms_bus.threads import run_to_end

T = TypeVar("T")

BUSY_S = 5.0
"""How long is waited for another process that writes the file."""

_PRIVATE_MODE = 0o600
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StoreFile:
    """An open file. Made by `open_file`; used on the event loop that opened it."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._turn = asyncio.Lock()
        self._is_open = True

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work(connection)` from a thread. Raises `StoreError`, `StateError`."""
        async with self._turn:
            if not self._is_open:
                raise StateError(f"{self.path} is closed")
            return await run_to_end(partial(self._translated, work))

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work(connection)`, committed; nothing of it stays when it raises.

        When the call is cancelled, `work` is done to its end before. Raises as `read`, and
        `StateError` when `work` has ended the transaction itself.
        """
        return await self.read(partial(self._in_transaction, work))

    async def close(self) -> None:
        """Wait for the work under way, and close."""
        async with self._turn:
            self._is_open = False
            await run_to_end(self._connection.close)

    def _in_transaction(
        self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
    ) -> T:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            if not connection.in_transaction:
                raise StateError(
                    f"a handler has ended the transaction on {self.path}: no COMMIT, commit() or "
                    "executescript() there, which commits before it begins"
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _translated(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error


@asynccontextmanager
async def open_file(
    path: str | Path,
    tables: str,
    *,
    synchronous: str,
    journal: str | None = "WAL",
    is_private: bool = False,
) -> AsyncGenerator[StoreFile]:
    """Open the file at `path`, made with `tables` when there is none.

    `synchronous` and `journal` are SQLite's; a file of somebody else keeps its own journal with
    `None`. `is_private`: only its user may read it; one that others may read is refused. Raises
    `StoreError`.
    """
    name = str(path)
    connection = await run_to_end(
        partial(_open, name, tables, synchronous, journal, is_private=is_private)
    )
    file = StoreFile(name, connection)
    try:
        yield file
    finally:
        await file.close()


def _open(
    path: str, tables: str, synchronous: str, journal: str | None, *, is_private: bool
) -> sqlite3.Connection:
    try:
        if is_private:
            _make_private(path)
        connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    try:
        if journal is not None:
            connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(tables)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from error
    return connection


def _make_private(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_MODE)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if os.name == "posix" and mode & _OF_OTHERS:
        command = f"chmod 600 {shlex.quote(path)}"
        raise StoreError(
            f"others may read or write {path} (mode {mode:04o}): run: {command}", path=path
        )


def _unusable(path: str, error: Exception) -> StoreError:
    failure = StoreError(f"{path} cannot be used: {error}", path=path)
    failure.retryable = isinstance(error, sqlite3.Error) and is_busy(error)
    return failure
