"""Reading a log in lists, whether or not it has a way of its own to do that."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast, runtime_checkable

from hms_bus.abc import EventLog, Record, Selector

LARGEST_BATCH = 1024


@runtime_checkable
class _Batched(Protocol):
    def read_batches(
        self, selector: Selector, *, follow: bool = False
    ) -> AsyncGenerator[list[Record]]: ...


def batches_of(
    log: EventLog, selector: Selector, *, follow: bool = False
) -> AsyncGenerator[list[Record]]:
    """Yield what `log.read` yields, in lists of what is there without waiting, none of them empty.

    Our own logs read so by themselves (`read_batches`). Raises as `read`.
    """
    if isinstance(log, _Batched):
        return log.read_batches(selector, follow=follow)
    return _gathered(log, selector, follow=follow)


async def _gathered(
    log: EventLog, selector: Selector, *, follow: bool
) -> AsyncGenerator[list[Record]]:
    """Read one by one in a task, so that a wait for the next record holds back none that came."""
    waiting: list[Record] = []
    news = asyncio.Event()
    room = asyncio.Event()

    async def read() -> None:
        records = cast("AsyncGenerator[Record]", log.read(selector, follow=follow))
        async with aclosing(records):
            async for record in records:
                waiting.append(record)
                news.set()
                if len(waiting) >= LARGEST_BATCH:
                    room.clear()
                    await room.wait()

    task = asyncio.ensure_future(read())
    task.add_done_callback(lambda _: news.set())
    try:
        while not task.done() or waiting:
            await news.wait()
            if not task.done():
                news.clear()
            batch = waiting[:]
            waiting.clear()
            room.set()
            if batch:
                yield batch
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
