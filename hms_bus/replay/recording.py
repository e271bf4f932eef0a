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

from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.envelope import Envelope

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
    """What is to be played, in order; `forget` moves on."""

    def __init__(
        self, batches: AsyncGenerator[list[Record]], *, ahead: int, remap: Mapping[str, str]
    ) -> None:
        self._batches = batches
        self._ahead = ahead
        self._remap = remap
        self._upcoming: deque[Record] = deque()
        self._caused: dict[str, list[Envelope]] = {}
        self._reading = asyncio.Lock()
        self._has_ended = False

    async def peek(self, limit: int) -> list[Record]:
        """Return the next records, at most `limit`; none at the end.

        Raises `LogCorruptError` when what comes next cannot be read, `LogError`.
        """
        while len(self._upcoming) < _WINDOW and await self._read_on():
            pass
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

    def caused_by(self, cause: str | None) -> Sequence[Envelope]:
        """Return what the message with the id `cause` has caused, as far as was read ahead.

        `None`: what nothing has caused.
        """
        if cause is None:
            return [r.envelope for r in self._upcoming if r.envelope.causationid is None]
        return self._caused.get(cause, ())

    async def find(self, search: Callable[[], T | None]) -> T | None:
        """Read on until `search` finds something, or for `ahead` records."""
        while (found := search()) is None:
            if len(self._upcoming) >= self._ahead or not await self._read_on():
                return None
        return found

    async def close(self) -> None:
        """Read no further."""
        async with self._reading:
            self._has_ended = True
            await self._batches.aclose()

    async def _read_on(self) -> bool:
        """Read one batch more; return whether there was one."""
        async with self._reading:
            if self._has_ended:
                return False
            batch = await anext(self._batches, None)
            if batch is None:
                self._has_ended = True
                return False
        self._take_in(self._renamed(batch) if self._remap else batch)
        return True

    def _take_in(self, batch: list[Record]) -> None:
        self._upcoming += batch
        caused = self._caused
        for record in batch:
            cause = record.envelope.causationid
            if cause is not None:
                if (entry := caused.get(cause)) is None:
                    caused[cause] = [record.envelope]
                else:
                    entry.append(record.envelope)

    def _renamed(self, batch: list[Record]) -> list[Record]:
        new = self._remap
        return [
            replace(
                record,
                envelope=record.envelope.replace(
                    topic=new.get(record.envelope.topic, record.envelope.topic),
                    source=new.get(record.envelope.source, record.envelope.source),
                ),
            )
            for record in batch
        ]
