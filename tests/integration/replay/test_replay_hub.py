"""Replays and hubs: what was recorded on `ipc://`, and recorded events that are sent there."""

import asyncio
import os
from pathlib import Path

from hms_bus import Bus, Message
from hms_bus.ipc.places import RUNTIME_DIR
from hms_bus.replay import compare, rerun
from tests.support.command_line import CommandLine
from tests.support.replayed_team import TASKS, Model, Plan, record, team

DONE = TASKS + TASKS // 2


async def test_effects_that_a_hub_has_kept_are_replayed(tmp_path: Path) -> None:
    model = Model()
    await record(tmp_path / "hub.db", model, url="ipc://recorded-team")
    assert model.calls == DONE
    again = Model()
    outcome = await rerun(str(tmp_path / "hub.db"), lambda url: team(url, again), effects="strict")
    assert compare(outcome.recorded, outcome.outputs).is_same
    assert len(outcome.outputs) == 4 * DONE
    assert again.calls == 0


async def test_events_go_to_a_hub_and_requests_when_they_are_asked_for(cli: CommandLine) -> None:
    cli.settings[RUNTIME_DIR] = os.environ[RUNTIME_DIR]
    arguments = ("replay", "run.db", "--to", "ipc://replayed-team")
    asked: list[tuple[int, object, str | None]] = []
    async with (
        Bus("ipc://replayed-team", log="memory:", source="/agents/tool") as bus,
        bus.subscribe("task.>") as events,
    ):

        @bus.serve("tool.price")
        async def price(plan: Plan, message: Message) -> float:
            extensions = message.envelope.extensions or {}
            asked.append((plan.task, extensions.get("replayed"), message.envelope.correlationid))
            return 0.0

        ended = await asyncio.to_thread(cli.run, *arguments)
        assert f"published {TASKS + 2 * DONE} events, left out {DONE} requests" in ended.err
        assert asked == []
        heard = [await anext(events) for _ in range(TASKS + 2 * DONE)]
        assert {str(event.envelope.correlationid or event.id) for event in heard} == {
            event.id for event in heard if event.topic == "task.new"
        }
        ended = await asyncio.to_thread(cli.run, *arguments, "--requests")
        assert f"{TASKS + 2 * DONE} were there already, asked {DONE} requests" in ended.err
    assert sorted(task for task, *_ in asked) == sorted([*range(TASKS), *range(0, TASKS, 2)])
    assert {marked for _, marked, _ in asked} == {True}
    assert {corr for *_, corr in asked} == {e.id for e in heard if e.topic == "task.new"}


async def test_an_agent_that_had_its_log_from_the_hub_has_one_in_a_replay(tmp_path: Path) -> None:
    run = tmp_path / "hub.db"

    def keeper(url: str) -> Bus:
        bus = Bus(url, source="/agents/keeper")

        @bus.subscribe("entry", durable="books")
        async def book(number: int) -> None:
            async for earlier in bus.replay("entry"):
                number += earlier.data
            await bus.publish("sum", number)

        return bus

    async with (
        Bus("ipc://kept-books", log=f"sqlite:{run}", source="/desk") as desk,
        keeper("ipc://kept-books"),
        desk.subscribe("sum") as sums,
    ):
        for number in (1, 2, 3):
            await desk.publish("entry", number)
            await anext(sums)
    outcome = await rerun(str(run), keeper)
    assert [output.decode(int) for output in outcome.outputs] == [2, 5, 9]
    assert compare(outcome.recorded, outcome.outputs).is_same
