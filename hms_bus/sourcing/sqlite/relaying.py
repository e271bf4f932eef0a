"""The relay: publishes what waits in an outbox, in order, and takes it out once the log has it."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from hms_bus import jsonformat
from hms_bus.bus import Bus
from hms_bus.envelope import Envelope
from hms_bus.errors import EnvironmentFailure, QueueFullError, StoreError
from hms_bus.sourcing.sqlite.file import StoreFile, open_file

_logger = logging.getLogger("hms_bus")

_AT_ONCE = 100
_Waiting = list[tuple[int, bytes]]


class Relay:
    """Publishes an outbox to a bus. Made by `open_relay`.

    A message leaves the outbox after it was published, so a relay that dies in between publishes it
    again with the same id and source: on a logged topic it is kept and delivered once. On others it
    may be delivered twice. One relay at a time keeps the order.
    """

    def __init__(self, file: StoreFile, bus: Bus, *, poll_s: float) -> None:
        self._file = file
        self._bus = bus
        self._poll_s = poll_s

    async def run(self, *, follow: bool = False) -> int:
        """Publish all that waits and return how many that were.

        With `follow`, look again every `poll_s` seconds until cancelled, also after a failure that
        may pass, as when the application holds its write lock for long. Raises `StoreError`, and
        what `Bus.forward` raises; the message stays then.
        """
        published = 0
        while True:
            try:
                while count := await self._publish_some():
                    published += count
            except EnvironmentFailure as error:
                if not (follow and error.retryable):
                    raise
                _logger.warning("the outbox %s waits: %s", self._file.path, error)
            if not follow:
                return published
            await asyncio.sleep(self._poll_s)

    async def _publish_some(self) -> int:
        waiting = await self._file.read(_waiting)
        done = 0
        try:
            for _, document in waiting:
                await self._publish(jsonformat.decode(document))
                done += 1
        finally:
            if done:
                last, _ = waiting[done - 1]
                await self._file.write(
                    lambda connection: connection.execute(
                        "DELETE FROM hms_outbox WHERE sequence <= ?", (last,)
                    )
                )
        return done

    async def _publish(self, envelope: Envelope) -> None:
        try:
            await self._bus.forward(envelope)
        except QueueFullError as error:
            if error.position is None:
                raise
            # The log has it; a subscriber whose policy is to refuse did just that.
            _logger.warning("from the outbox %s: %s", self._file.path, error)


@asynccontextmanager
async def open_relay(path: str | Path, bus: Bus, *, poll_s: float = 0.1) -> AsyncGenerator[Relay]:
    """Open the outbox in the application's file at `path`.

    Raises `StoreError`, also when the file or the outbox in it is not there: who relays an empty
    outbox of its own would never notice.
    """
    if not await asyncio.to_thread(Path(path).exists):
        raise StoreError(f"there is no file {path}: is the name right?", path=str(path))
    async with open_file(path, "", synchronous="FULL", journal=None) as file:
        await file.read(partial(_check_outbox, path=file.path))
        yield Relay(file, bus, poll_s=poll_s)


def _check_outbox(connection: sqlite3.Connection, *, path: str) -> None:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'hms_outbox'"
    if connection.execute(query).fetchone() is None:
        raise StoreError(
            f"{path} has no outbox: let the application execute OUTBOX_TABLE, or name its file",
            path=path,
        )


def _waiting(connection: sqlite3.Connection) -> _Waiting:
    return connection.execute(
        "SELECT sequence, document FROM hms_outbox ORDER BY sequence LIMIT ?", (_AT_ONCE,)
    ).fetchall()
