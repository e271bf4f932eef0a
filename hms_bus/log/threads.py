"""Blocking work of opening and closing: in a thread, and to its end whatever happens meanwhile."""

import asyncio
from collections.abc import Callable
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
