"""Blocking work of opening and closing: in a thread, and to its end whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(work: Callable[[], T]) -> T:
    """Return `work()` from a thread.

    When the caller is cancelled, the cancellation goes on only after `work` is over, so that what
    it opened can be closed.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                # Cancelled once more; the first cancellation is under way already.
                continue
        raise


@asynccontextmanager
async def opened_in_thread(open_it: Callable[[ExitStack], T]) -> AsyncGenerator[T]:
    """Yield `open_it(undo)` from a thread; afterwards what it has put into `undo` is done in one.

    That is so whatever happens: also when `open_it` fails half-way or is cancelled.
    """
    undo = ExitStack()
    try:
        yield await run_to_end(lambda: open_it(undo))
    finally:
        await run_to_end(undo.close)
