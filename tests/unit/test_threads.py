"""Blocking work that goes on to its end."""

import asyncio
import threading
from contextlib import ExitStack

import pytest

from hms_bus.threads import opened_in_thread, run_to_end


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


async def test_what_was_opened_in_a_thread_is_closed_in_one() -> None:
    said: list[str] = []

    def open_it(undo: ExitStack) -> str:
        undo.callback(said.append, "closed")
        return threading.current_thread().name

    async with opened_in_thread(open_it) as name:
        assert name != threading.main_thread().name
        assert said == []
    assert said == ["closed"]


async def test_what_was_opened_before_a_failure_is_closed() -> None:
    said: list[str] = []

    def open_it(undo: ExitStack) -> None:
        undo.callback(said.append, "closed")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with opened_in_thread(open_it):
            said.append("never")
    assert said == ["closed"]


async def test_what_is_opened_during_a_cancellation_is_closed() -> None:
    said: list[str] = []
    has_begun, may_end = threading.Event(), threading.Event()

    def open_it(undo: ExitStack) -> None:
        has_begun.set()
        may_end.wait(10)
        undo.callback(said.append, "closed")

    async def use() -> None:
        async with opened_in_thread(open_it):
            said.append("never")

    task = asyncio.create_task(use())
    await asyncio.to_thread(has_begun.wait, 10)
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["closed"]
