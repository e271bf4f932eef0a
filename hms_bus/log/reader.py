"""Reading a log file: a few threads with read-only connections that come and go with each page.

A read-only connection never checkpoints, so the writing one stays the only one that does: SQLite
3.7.0 to 3.51.2 can lose a commit when two connections write or checkpoint at the same moment
(https://sqlite.org/wal.html, "The WAL-reset bug").
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from hms_bus.errors import StateError
from hms_bus.log.failures import read_failed

T = TypeVar("T")

_THREADS = 4


def connect_read_only(path: Path, *, busy_s: float, immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that can neither write nor checkpoint. Its texts come as bytes."""
    mode = "immutable=1" if immutable else "mode=ro"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = bytes
    return connection


class Reader:
    """Runs functions on read-only connections in threads. Owned by one event loop."""

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._idle: deque[sqlite3.Connection] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hms-bus log reader")
        self._is_open = True

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return `work` of a connection inside one read transaction: a consistent view.

        Cancelling leaves the thread to finish on its own. Raises `LogError`, and `StateError`
        once `close` was called.
        """
        if not self._is_open:
            raise StateError(f"the log {self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work)

    def shut(self) -> None:
        """Refuse new work."""
        self._is_open = False

    def close(self) -> None:
        """Wait for the work under way and close all connections. Blocks."""
        self.shut()
        self._threads.shutdown(wait=True)
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._borrow()
            try:
                connection.execute("BEGIN")
                result = work(connection)
                connection.execute("ROLLBACK")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise read_failed(error, self._path) from error
        self._idle.append(connection)
        return result

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()
