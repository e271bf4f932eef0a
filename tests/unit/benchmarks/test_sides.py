"""Asking: how many questions, how many of them at once, and what is told of them."""

import asyncio

import pytest

from benchmarks.sides import asking, nothing, now


@pytest.mark.parametrize("in_flight", [1, 4])
async def test_so_many_are_asked_and_so_many_of_them_at_once(in_flight: int) -> None:
    asked = waiting = most = 0

    async def ask() -> None:
        nonlocal asked, waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0)
        waiting -= 1
        asked += 1

    answer = await asking(ask, in_flight)(20)
    assert isinstance(answer, dict)
    assert (asked, most) == (20, in_flight)
    assert 0 < answer["median_s"] <= answer["seconds"]


async def test_a_side_that_acts_by_itself_has_nothing_to_do() -> None:
    assert await nothing(1000) == 0


async def test_the_clock_of_the_sides_does_not_run_backwards() -> None:
    assert now() <= now()
