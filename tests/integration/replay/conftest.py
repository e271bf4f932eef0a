"""The command line in a folder of its own, with a record and the program that made it."""

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.replayed_team import Model, record

SHOP = """
from hms_bus import Bus
from tests.support.replayed_team import Model, Plan, team

def build(url):
    return team(url, Model())

def shouting(url):
    return team(url, Model(), prompt=lambda task: "LOUD")

def cheating(url):
    bus = Bus(url, source="/agents/worker")

    @bus.subscribe("task.planned")
    async def work(plan: Plan) -> None:
        price = await bus.request("tool.price", plan, timeout=30) + (plan.task == 3)
        await bus.publish("task.done", {"task": plan.task, "price": price})

    return bus

def asking_more(url):
    bus = Bus(url, source="/agents/worker")

    @bus.subscribe("task.planned")
    async def work(plan: Plan) -> None:
        await bus.request("tool.stock", plan)

    return bus

def listening(url):
    bus = Bus(url, source="/agents/listener")

    @bus.subscribe("task.new")
    async def hear(task: int) -> None: ...

    return bus

def wants_nothing():
    return team("direct://", Model())

def failing(url):
    return {}["no such team"]
"""


@pytest.fixture
async def cli(tmp_path: Path) -> CommandLine:
    """The command line in a folder that holds `run.db` and `shop.py`."""
    await record(tmp_path / "run.db", Model())
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    return CommandLine(folder=tmp_path)
