"""The record, read a little ahead of what is played, with the causes of what lies ahead.

Memory is flat: what was played is forgotten, and an answer is looked for at most `ahead` records
further on.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.replay.renaming import Renaming

T = TypeVar("T")

_AT_ONCE = 500
_WINDOW = 1024


@runtime_checkable
class _InBatches(Protocol):
    """A log that yields its records in lists: fewer steps for each."""

    def read_batches(self, selector: Selector) -> AsyncGenerator[list[Record]]: ...


async def batches_of(log: EventLog, selector: Selector) -> AsyncGenerator[list[Record]]:
    """Yield the selected records in lists. Raises what `EventLog.read` raises."""
    if isinstance(log, _InBatches):
        async with aclosing(log.read_batches(selector)) as batches:
            async for batch in batches:
                yield batch
        return
    records: AsyncIterator[Record] = log.read(selector)
    batch: list[Record] = []
    async for record in records:
        batch.append(record)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


class Recording:
    """What is to be played, in order; `forget` moves on.

    What can be read is played, whoever has met the end of that while looking ahead: `failure` is
    raised by `peek` behind it.
    """

    def __init__(
        self, batches: AsyncGenerator[list[Record]], *, ahead: int, remap: Mapping[str, str]
    ) -> None:
        self.failure: BusError | None = None
        """Why no more could be read, once that was tried."""
        self._batches = batches
        self._ahead = ahead
        self._renaming = Renaming(remap)
        self._upcoming: deque[Record] = deque()
        self._caused: dict[str, list[Record]] = {}
        self._reading: asyncio.Task[bool] | None = None
        self._has_ended = False

    async def peek(self, limit: int) -> list[Record]:
        """Return the next records, at most `limit`; none at the end.

        Raises `LogCorruptError` when the next one cannot be read, `LogError`.
        """
        while len(self._upcoming) < _WINDOW and await self._read_on():
            pass
        if not self._upcoming and self.failure is not None:
            raise self.failure
        return list(islice(self._upcoming, limit))

    def forget(self, count: int) -> None:
        """Move on by `count` records: they are not found any more."""
        pop = self._upcoming.popleft
        for _ in range(count):
            cause = pop().envelope.causationid
            if cause is not None:
                # They stand in the order of the record, so the first one is it.
                caused = self._caused[cause]
                caused.pop(0)
                if not caused:
                    del self._caused[cause]

    def caused_by(self, cause: str | None) -> list[Envelope]:
        """Return what the message with the id `cause` has caused, as far as was read ahead.

        `None`: what nothing has caused.
        """
        return [record.envelope for record in self.records_caused_by(cause)]

    def records_caused_by(self, cause: str | None) -> Sequence[Record]:
        """Return the records of what `caused_by` returns."""
        if cause is None:
            return [record for record in self._upcoming if record.envelope.causationid is None]
        return self._caused.get(cause, ())

    @property
    def read_to_ns(self) -> int:
        """When the last record was recorded that was read ahead; 0 if none was."""
        return self._upcoming[-1].recorded_ns if self._upcoming else 0

    async def find(self, search: Callable[[], T | None]) -> T | None:
        """Read on until `search` finds something, for `ahead` records, or as far as can be read."""
        while (found := search()) is None:
            if len(self._upcoming) >= self._ahead or not await self._read_on():
                return None
        return found

    async def close(self) -> None:
        """Read no further."""
        self._has_ended = True
        try:
            if self._reading is not None:
                await asyncio.wait([self._reading])
        finally:
            if self._reading is not None:  # who closes was cancelled meanwhile
                self._reading.cancel()
                await asyncio.wait([self._reading])
            await self._batches.aclose()

    async def _read_on(self) -> bool:
        """Read one batch more; return whether there was one.

        In a task of its own: who is cancelled while it waits takes nothing from the others.
        """
        if self._reading is None:
            if self._has_ended:
                return False
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> bool:
        try:
            batch = await anext(self._batches, None)
        except BusError as error:
            self.failure, batch = error, None
        finally:
            self._reading = None
        if batch is None:
            self._has_ended = True
            return False
        renaming = self._renaming
        self._take_in(list(map(renaming.record, batch)) if renaming.is_needed else batch)
        return True

    def _take_in(self, batch: list[Record]) -> None:
        self._upcoming += batch
        caused = self._caused
        for record in batch:
            cause = record.envelope.causationid
            if cause is not None:
                if (entry := caused.get(cause)) is None:
                    caused[cause] = [record]
                else:
                    entry.append(record)
