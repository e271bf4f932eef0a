"""What only a log in memory does: being private, or shared by name."""

import asyncio

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import StateError
from hms_bus.plugins import open_log
from tests.support.events import event, events


async def test_a_log_without_a_name_is_private() -> None:
    async with open_log("memory:") as one, open_log("memory:") as other:
        await one.append(events(2))
        assert (await other.head()).position == 0


async def test_a_log_with_a_name_is_shared_while_somebody_has_it_open() -> None:
    async with open_log("memory:shared") as one:
        await one.append(events(2))
        async with open_log("memory:shared") as other, open_log("memory:another") as another:
            assert await other.head() == await one.head()
            assert (await another.head()).position == 0
            await other.append(events(1))
        assert (await one.head()).position == 3
    async with open_log("memory:shared") as later:
        assert (await later.head()).position == 0


async def test_closing_one_opening_ends_only_its_own_followers() -> None:
    async with open_log("memory:shared") as one:
        async with open_log("memory:shared") as other:
            theirs = asyncio.create_task(anext(other.read(Selector(), follow=True), None))
            ours = asyncio.ensure_future(anext(one.read(Selector(), follow=True)))
            await asyncio.sleep(0.01)
        assert await theirs is None
        with pytest.raises(StateError, match="memory:shared is closed"):
            await other.append(events(1))
        await one.append(events(1))
        assert (await ours).position == 1


async def test_another_event_loop_in_another_thread_shares_it() -> None:
    async def append_there() -> None:
        async with open_log("memory:shared") as log:
            await log.append(events(3))

    async with open_log("memory:shared") as log:
        following = asyncio.create_task(
            asyncio.wait_for(anext(log.read(Selector(first=3), follow=True)), 5)
        )
        await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, append_there())
        assert (await following).position == 3


async def test_a_payload_that_changes_later_stays_as_it_was() -> None:
    payload = {"n": 1}
    async with open_log("memory:") as log:
        await log.append([event(data=payload)])
        payload["n"] = 2
        [record] = [record async for record in log.read(Selector())]
    assert record.envelope.decode() == {"n": 1}
