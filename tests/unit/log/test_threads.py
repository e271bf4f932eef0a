"""Blocking work that goes on to its end."""

import asyncio
import threading

import pytest

from hms_bus.log.threads import run_to_end


async def test_the_result_and_the_error_of_the_work() -> None:
    assert await run_to_end(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await run_to_end(lambda: 1 // 0)


async def test_a_cancellation_goes_on_when_the_work_is_over() -> None:
    may_end = threading.Event()
    ended = threading.Event()

    def work() -> None:
        may_end.wait(10)
        ended.set()

    task = asyncio.create_task(run_to_end(work))
    await asyncio.sleep(0.01)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
