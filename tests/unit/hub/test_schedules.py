"""How the hub appends what its schedules send, and that it waits while there is no room."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

from hms_bus.abc import ConsumingLog, DurableInfo
from hms_bus.attributes import new_envelope
from hms_bus.hub.journal import NO_LOG, Journal
from hms_bus.hub.schedules import Schedules
from hms_bus.hub.seams import Sender
from hms_bus.ipc import frames
from hms_bus.plugins import open_log
from hms_bus.schedules import SCHEDULER, make_schedule, schedule_record
from tests.support.turns import turns


class FakeJournal:
    """Takes what is appended, and answers nothing by itself."""

    url = "memory:"

    def __init__(self) -> None:
        self.on_schedule: Callable[[], None] | None = None
        self.appended: asyncio.Queue[tuple[Sender, int]] = asyncio.Queue()

    def append(self, sender: Sender, content: bytes) -> None:
        self.appended.put_nowait((sender, frames.read_append(content)[0]))


@asynccontextmanager
async def running() -> AsyncGenerator[tuple[Schedules, FakeJournal, ConsumingLog]]:
    """Run the schedules of a log in which one is due."""
    journal = FakeJournal()
    schedules = Schedules(cast("Journal", journal))
    schedule = make_schedule(new_envelope("later", "tea", source="/shop"), delay=0)
    async with open_log("memory:") as log:
        assert isinstance(log, ConsumingLog)
        await log.append([schedule_record("tea", "/shop", schedule)])
        task = asyncio.create_task(schedules.run(log))
        try:
            yield schedules, journal, log
        finally:
            task.cancel()
            await asyncio.wait([task])


async def stands(log: ConsumingLog) -> DurableInfo:
    [info] = await log.durables()
    assert info.durable.name == SCHEDULER.name
    return info


async def test_a_schedule_is_settled_when_its_message_has_found_room() -> None:
    async with running() as (_, journal, log):
        sender, call = await journal.appended.get()
        assert (await stands(log)).unacked == 1
        sender.add_receipt(call, 2, frames.LAST)
        await turns(50)
        info = await stands(log)
        assert (info.unacked, info.dead) == (0, ())


async def test_a_message_that_cannot_be_sent_makes_its_schedule_a_dead_letter() -> None:
    async with running() as (_, journal, log):
        sender, call = await journal.appended.get()
        sender.fail(call, NO_LOG)
        await turns(50)
        assert (await stands(log)).dead == (1,)


async def test_nothing_is_appended_while_it_is_held_back() -> None:
    async with running() as (schedules, journal, _):
        schedules.hold_back("a")
        schedules.hold_back("b")
        schedules.go_on("a")
        await turns(50)
        assert journal.appended.empty()
        schedules.go_on("b")
        await journal.appended.get()


async def test_an_answer_that_comes_too_late_does_nothing() -> None:
    async with running() as (_, journal, _):
        sender, call = await journal.appended.get()
    sender.add_receipt(call, 2, frames.LAST)
    sender.fail(call, NO_LOG)
