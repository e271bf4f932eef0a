"""Waking those who wait for a log to grow."""

import asyncio
import threading
from typing import Any

import pytest

from hms_bus.log.bell import Bell


async def test_who_is_behind_does_not_wait() -> None:
    await Bell(5).wait_beyond(4)


async def test_a_ring_wakes_those_it_reaches() -> None:
    bell = Bell(3)
    waits = [asyncio.create_task(bell.wait_beyond(position)) for position in (3, 4, 5)]
    await asyncio.sleep(0)
    bell.ring(5)
    done, waiting = await asyncio.wait(waits, timeout=0.01)
    assert done == set(waits[:2])
    bell.ring(6)
    await asyncio.gather(*waiting)


async def test_a_wake_wakes_everybody() -> None:
    bell = Bell()
    waits = [asyncio.create_task(bell.wait_beyond(position)) for position in (0, 10)]
    await asyncio.sleep(0)
    bell.wake()
    await asyncio.gather(*waits)


async def test_a_wait_ends_with_its_time() -> None:
    await Bell().wait_beyond(0, timeout_s=0.001)


async def test_a_cancelled_wait_leaves_the_others_alone() -> None:
    bell = Bell()
    first, second = (asyncio.create_task(bell.wait_beyond(0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bell.ring(1)
    await second


async def test_a_ring_from_another_thread_and_waiters_on_two_loops() -> None:
    bell = Bell()
    other = threading.Thread(target=asyncio.run, args=(bell.wait_beyond(0),))
    other.start()
    wait = asyncio.create_task(bell.wait_beyond(0))
    await asyncio.sleep(0)
    await asyncio.to_thread(bell.ring, 1)
    await wait
    await asyncio.to_thread(other.join)


def _pass_over(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing."""


def test_a_waiter_whose_loop_is_gone_is_passed_over() -> None:
    bell = Bell()
    loop = asyncio.new_event_loop()
    # The task never ends, which is what this is about: asyncio is not to complain of it.
    loop.set_exception_handler(_pass_over)
    waiting = loop.create_task(bell.wait_beyond(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    bell.ring(1)
    waiting.get_coro().close()  # pyright: ignore[reportOptionalMemberAccess]


async def test_a_late_ring_of_an_earlier_position_takes_nothing_back() -> None:
    bell = Bell()
    bell.ring(6)
    bell.ring(5)
    async with asyncio.timeout(10):
        await bell.wait_beyond(5)
