"""Three agents with a model and a tool: what the tests of replays record and replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from hms_bus import Bus, effect

TASKS = 6


class Plan(Struct, frozen=True):
    """What the model makes of a task."""

    task: int
    words: list[str]
    draw: float


class Model:
    """Answers differently each time, as models do; counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, task: int, prompt: str) -> Plan:
        self.calls += 1
        return Plan(task, [prompt, f"answer {self.calls}"], self.calls / 7)


def planner(bus: Bus, model: Model, prompt: Callable[[int], str] = str) -> None:
    """Ask the model about each task, twice about the even ones."""

    @bus.subscribe("task.new")
    async def plan(task: int) -> None:
        for _ in range(2 - task % 2):
            made = await effect("model.complete", model.complete, task, prompt(task))
            await bus.publish("task.planned", made)


def worker(bus: Bus) -> None:
    """Ask for the price of each plan."""

    @bus.subscribe("task.planned")
    async def work(plan: Plan) -> None:
        price = await bus.request("tool.price", plan, returns=float, timeout=30)
        await bus.publish("task.done", {"task": plan.task, "price": price})


def tool(bus: Bus) -> None:
    """Answer with a price."""

    @bus.serve("tool.price")
    async def price(plan: Plan) -> float:
        return plan.task + plan.draw


def team(url: str, model: Model, *, log: str | None = None, **planning: Any) -> list[Bus]:
    """Return the three agents, each on a bus of its own."""
    names = ("tool", "worker", "planner")
    buses = {name: Bus(url, log=log, source=f"/agents/{name}") for name in names}
    tool(buses["tool"])
    worker(buses["worker"])
    planner(buses["planner"], model, **planning)
    return list(buses.values())


async def record(path: Path, model: Model, *, url: str = "direct://team") -> str:
    """Let the team do its tasks at `url` and keep a log in `path`; return the log's URL."""
    log = f"sqlite:{path}"
    tool_bus, worker_bus, planner_bus = team(url, model, log=log)
    async with tool_bus, worker_bus, planner_bus:
        desk = Bus(url, log=log, source="/agents/desk")
        async with desk, desk.subscribe("task.done") as done:
            for task in range(TASKS):
                await desk.publish("task.new", task)
            for _ in range(TASKS + TASKS // 2):
                await anext(done)
    return log
