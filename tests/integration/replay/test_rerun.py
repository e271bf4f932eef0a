"""Agents that handle a recorded run again: nothing differs but what was changed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hms_bus import Backoff, Bus, Envelope, Message, effect, jsonformat
from hms_bus.abc import Selector
from hms_bus.errors import ConfigError, NoRespondersError, UnrecordedError
from hms_bus.plugins import open_log
from hms_bus.replay import Outcome, compare, rerun
from hms_bus.replay.rerunning import Agents, Build
from tests.support.replayed_team import TASKS, Model, Plan, record, team, worker
from tests.support.runs import said

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
async def run(tmp_path: Path) -> str:
    """The path of a log that the team has kept."""
    await record(tmp_path / "run.db", Model())
    return str(tmp_path / "run.db")


def unchanged(url: str) -> Agents:
    return team(url, Model())


async def test_unchanged_agents_say_the_same(run: str) -> None:
    model = Model()
    outcome = await rerun(run, lambda url: team(url, model), effects="strict")
    assert compare(outcome.recorded, outcome.outputs).is_same
    # Per task: plans, questions, prices and results; the even ones have two plans.
    assert len(outcome.outputs) == len(outcome.recorded) == 4 * (TASKS + TASKS // 2)
    assert (outcome.unrecorded, outcome.failures, model.calls) == ([], [], 0)


async def test_a_hundred_replays_are_identical_to_the_byte(run: str) -> None:
    seen = {
        b"\n".join(map(jsonformat.encode, (await rerun(run, unchanged)).outputs))
        for _ in range(100)
    }
    assert len(seen) == 1


async def test_a_replay_appends_nothing(run: str) -> None:
    before = Path(run).read_bytes()
    await rerun(run, lambda url: team(url, Model(), log=f"sqlite:{run}"))
    async with open_log(f"sqlite:{run}?readonly=true") as log:
        head = await log.head()
    assert Path(run).read_bytes() == before
    assert head.position > TASKS


async def test_a_changed_agent_differs_where_it_must(run: str) -> None:
    def changed(url: str) -> Agents:
        buses = team(url, Model())
        second = Bus(url, source="/agents/worker")

        @second.subscribe("task.planned")
        async def work(plan: Plan) -> None:
            price = await second.request("tool.price", plan, returns=float, timeout=30)
            price += plan.task == 3
            await second.publish("task.done", {"task": plan.task, "price": price})

        return [buses[0], second, buses[2]]

    outcome = await rerun(run, changed, effects="strict")
    then, now = outcome.recorded, outcome.outputs
    differing = [
        (old.topic, old.decode()["task"])
        for old, new in zip(ordered(then), ordered(now), strict=True)
        if old.decode() != new.decode()
    ]
    assert differing == [("task.done", 3)]
    assert not compare(then, now).is_same


def ordered(outputs: list[Envelope]) -> list[Envelope]:
    return sorted(outputs, key=lambda output: (output.causationid or "", output.topic))


async def test_a_prompt_that_is_asked_once_more_is_unrecorded(run: str) -> None:
    def curious(url: str) -> Agents:
        bus = Bus(url, source="/agents/planner")
        model = Model()

        @bus.subscribe("task.new")
        async def plan(task: int) -> None:
            for _ in range(2):
                await bus.publish(
                    "task.planned", await effect("model.complete", model.complete, task, "")
                )

        return bus

    outcome = await rerun(run, curious)
    assert {(one.what, one.ordinal) for one in outcome.unrecorded} == {
        ("$effect.model.complete", 1)
    }
    assert len(outcome.unrecorded) == TASKS // 2
    with pytest.raises(UnrecordedError) as caught:
        await rerun(run, curious, effects="strict")
    assert (caught.value.agent, caught.value.ordinal) == ("/agents/planner", 1)
    assert caught.value.cause is not None


async def test_live_effects_run(run: str) -> None:
    model = Model()
    outcome = await rerun(run, lambda url: team(url, model), effects="live")
    assert model.calls == TASKS + TASKS // 2
    assert outcome.unrecorded == []
    assert len(outcome.outputs) == len(outcome.recorded)


async def test_live_requests_go_once_to_the_agent_that_serves_them(run: str) -> None:
    asked: list[int] = []

    def dearer(url: str) -> Agents:
        bus = Bus(url, source="/agents/tool")

        @bus.serve("tool.price")
        async def price(plan: Plan) -> float:
            asked.append(plan.task)
            return plan.task + plan.draw + 1

        return [bus, *list(team(url, Model()))[1:]]

    live = await rerun(run, dearer, effects="live")
    assert len(asked) == TASKS + TASKS // 2
    assert dearer_by(live, "$reply.tool.price") == dearer_by(live, "task.done") == {1}
    # With those of the record only what the tool says differs, and nobody acts on it.
    kept = await rerun(run, dearer, effects="recorded")
    assert dearer_by(kept, "$reply.tool.price") == {1}
    assert dearer_by(kept, "task.done") == {0}


def dearer_by(outcome: Outcome, topic: str) -> set[int]:
    """By how much the prices on `topic` are higher than they were, in a rerun of all agents."""
    then, now = (
        [prices(output) for output in outputs if output.topic == topic]
        for outputs in (outcome.recorded, outcome.outputs)
    )
    assert len(now) == TASKS + TASKS // 2
    return {round(new - old) for old, new in zip(sorted(then), sorted(now), strict=True)}


def prices(output: Envelope) -> float:
    data = output.decode()
    return data if output.topic.startswith("$") else data["price"]


async def test_an_unrecorded_request_goes_to_an_agent_that_takes_part(run: str) -> None:
    answers: list[object] = []

    def asking(url: str) -> Agents:
        bus = Bus(url, source="/agents/auditor")

        @bus.subscribe("task.done")
        async def audit(msg: Message) -> None:
            answers.append(await bus.request("tool.price", Plan(100, [], 0.5), returns=float))

        return [team(url, Model())[0], bus]

    outcome = await rerun(run, asking)
    assert answers == [100.5] * (TASKS + TASKS // 2)
    assert {one.agent for one in outcome.unrecorded} == {"/agents/auditor"}


async def test_an_unrecorded_request_that_nobody_serves_fails_in_the_handler(run: str) -> None:
    def asking(url: str) -> Agents:
        bus = Bus(url, source="/agents/auditor")

        @bus.subscribe("task.done")
        async def audit() -> None:
            await bus.request("tool.unknown")

        return bus

    outcome = await rerun(run, asking)
    assert {type(failure.error) for failure in outcome.failures} == {NoRespondersError}
    assert len(outcome.failures) == TASKS + TASKS // 2


async def test_only_some_agents_take_part(run: str) -> None:
    outcome = await rerun(run, unchanged, only=["worker"], effects="strict")
    assert {output.source for output in outcome.outputs} == {"/agents/worker"}
    assert compare(outcome.recorded, outcome.outputs).is_same
    with pytest.raises(ConfigError, match="/agents/planner"):
        await rerun(run, unchanged, only=["nobody"])


async def test_a_part_of_the_record_is_played(run: str) -> None:
    async with open_log(f"sqlite:{run}?readonly=true") as log:
        roots = [r async for r in log.read(Selector(pattern="task.new"))]
    chosen = roots[2].envelope.correlationid
    outcome = await rerun(run, unchanged, selector=Selector(correlation=chosen), effects="strict")
    assert {output.correlationid for output in outcome.outputs} == {chosen}
    assert compare(outcome.recorded, outcome.outputs).is_same
    last = roots[0].position
    outcome = await rerun(run, unchanged, selector=Selector(last=last), effects="strict")
    assert {output.topic for output in outcome.outputs} == {"task.planned"}
    assert compare(outcome.recorded, outcome.outputs).is_same


async def test_topics_and_agents_can_be_renamed(run: str) -> None:
    def renamed(url: str) -> Agents:
        bus = Bus(url, source="/agents/new-worker")

        @bus.subscribe("plan.made")
        async def work(plan: Plan) -> None:
            price = await bus.request("tool.price", plan, returns=float, timeout=30)
            await bus.publish("task.done", {"task": plan.task, "price": price})

        return bus

    remap = {"task.planned": "plan.made", "/agents/worker": "/agents/new-worker"}
    outcome = await rerun(run, renamed, remap=remap, effects="strict")
    assert compare(outcome.recorded, outcome.outputs).is_same
    assert len(outcome.outputs) == 2 * (TASKS + TASKS // 2)


async def test_what_is_built_may_be_one_bus_or_a_scope(run: str) -> None:
    def one(url: str) -> Bus:
        bus = Bus(url, source="/agents/worker")
        worker(bus)
        return bus

    async def several(url: str) -> dict[str, Bus]:
        return {"worker": one(url)}

    @asynccontextmanager
    async def scope(url: str) -> AsyncGenerator[Bus]:
        async with one(url) as bus:
            yield bus

    builders: list[Build] = [one, several, scope]
    outcomes = [await rerun(run, build) for build in builders]
    assert outcomes[0].outputs
    for outcome in outcomes:
        assert compare(outcome.recorded, outcome.outputs).is_same
    with pytest.raises(ConfigError, match="build it with the URL"):
        await rerun(run, lambda url: Bus("direct://", source=url))


async def test_a_member_of_a_group_gets_what_it_handled_however_late(tmp_path: Path) -> None:
    backlog = 2000  # more than a replay reads ahead unless it has to
    found = [said("found", number, by="/agents/scout") for number in range(backlog)]
    read = [
        said("read", event.decode(), by=f"/agents/reader-{event.decode() % 2}", cause=event)
        for event in found
    ]
    async with open_log(f"sqlite:{tmp_path / 'late.db'}") as log:
        await log.append([*found, *read])

    def readers(url: str) -> Agents:
        for number in (0, 1):
            bus = Bus(url, source=f"/agents/reader-{number}")

            @bus.subscribe("found", group="readers")
            async def echo(found: int, bus: Bus = bus) -> None:
                await bus.publish("read", found)

            yield bus

    outcome = await rerun(str(tmp_path / "late.db"), readers, effects="strict")
    assert [output.source for output in outcome.outputs] == [event.source for event in read]


async def test_the_effects_of_the_last_attempt_count(tmp_path: Path) -> None:
    path, calls, done = str(tmp_path / "tries.db"), list[int](), asyncio.Event()

    def build(url: str) -> Bus:
        bus = Bus(url, log=f"sqlite:{path}", source="/agents/desk")

        def ask() -> str:
            calls.append(len(calls) + 1)
            return f"answer {len(calls)}"

        @bus.subscribe("tasks", durable="desk", backoff=Backoff(first_s=0.01))
        async def work(task: str, message: Message) -> None:
            answer = await effect("model", ask)
            if answer == "answer 1":
                raise RuntimeError("the first answer is never good")
            await bus.publish("results", f"{task}: {answer}")
            done.set()

        return bus

    async with build("direct://") as bus:
        await bus.publish("tasks", "one")
        await asyncio.wait_for(done.wait(), 10)
    outcome = await rerun(path, build, effects="strict")
    assert calls == [1, 2]
    assert [output.decode() for output in outcome.outputs] == ["one: answer 2"]
    assert compare(outcome.recorded, outcome.outputs).is_same
