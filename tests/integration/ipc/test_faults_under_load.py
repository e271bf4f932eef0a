"""Whoever is killed or stands still under load: what was acknowledged is there, and order holds."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from hms_bus import Bus, Message
from hms_bus.abc import Overflow
from hms_bus.errors import QueueFullError
from hms_bus.ipc.places import RUNTIME_DIR
from tests.support.fault_actors import Actor
from tests.support.fault_checks import seen_by
from tests.support.fault_programs import Load, Part
from tests.support.fault_run import run_faults
from tests.support.hub_process import HubProcess, running_hub


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost_whoever_is_killed(
    runtime: Path, tmp_path: Path, seed: int
) -> None:
    outcome = run_faults(tmp_path, seed)
    assert outcome.acknowledged > 1000
    assert outcome.done.keys() >= {"kill hub", "kill publish", "kill listen", "stop reader"}


# -- who stands still --------------------------------------------------------------------------

LIMITS = """
[limits]
max_client_bytes = 1_048_576
max_bytes = 8_388_608
"""
MAX_CLIENT_BYTES = 2**20
MAX_BYTES = 8 * 2**20

LANES = 8
LOADS = 400
"""Messages of each lane; those of all lanes are more than the hub and the system hold for one."""
WEIGHT = "x" * 4096


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub(config=LIMITS) as hub:
        yield hub


@asynccontextmanager
async def consumer(
    hub: HubProcess, folder: Path, pattern: str, overflow: Overflow
) -> AsyncGenerator[Actor]:
    """Run a consumer in a process of its own; it must end well."""
    actor = Actor(
        Part(
            program="consume",
            source="/load/consumer",
            url=hub.url,
            notes=folder / "consumer.notes",
            errors=folder / "consumer.errors",
            runtime=os.environ[RUNTIME_DIR],
            pattern=pattern,
            overflow=overflow,
        )
    )
    try:
        await asyncio.to_thread(actor.wait_until_ready)
        yield actor
        actor.process.terminate()
        await asyncio.to_thread(actor.wait)
    finally:
        actor.kill()


def figures_of(actor: Actor, status: dict[str, Any]) -> dict[str, Any]:
    [figures] = [client for client in status["clients"] if client["pid"] == actor.pid]
    return figures


class Witness:
    """Counts what comes on the topics `load.*` and `other`, and answers on `echo`."""

    def __init__(self, bus: Bus) -> None:
        self.loads: list[tuple[str, int]] = []
        self.others = 0
        self._changed = asyncio.Event()

        @bus.subscribe("load.*", max_queue=50)
        async def load(msg: Message) -> None:
            self.loads.append((msg.topic, msg.decode(Load).n))
            self._changed.set()

        @bus.subscribe("other", max_queue=50)
        async def other(msg: Message) -> None:
            self.others += 1
            self._changed.set()

        @bus.serve("echo")
        async def echo(load: Load) -> int:
            return load.n

    async def has(self, *, loads: int = 0, others: int = 0) -> None:
        """Return when so much has come."""
        while len(self.loads) < loads or self.others < others:
            self._changed.clear()
            await self._changed.wait()


async def publish_lane(bus: Bus, lane: int) -> int:
    """Publish on a topic, one after the other; return how many were refused."""
    refused = 0
    for n in range(1, LOADS + 1):
        try:
            await bus.publish(f"load.{lane}", Load(n, WEIGHT), partitionkey="a")
        except QueueFullError:
            refused += 1
    return refused


@pytest.mark.parametrize("overflow", get_args(Overflow))
async def test_a_consumer_that_stands_still_delays_nobody_else(
    hub: HubProcess, tmp_path: Path, overflow: Overflow
) -> None:
    bus, sender = Bus(hub.url), Bus(hub.url)
    witness = Witness(bus)
    async with (
        consumer(hub, tmp_path, "load.*", overflow) as actor,
        bus,
        sender,
        asyncio.TaskGroup() as group,
    ):
        actor.stop()
        lanes = [group.create_task(publish_lane(sender, lane)) for lane in range(LANES)]
        if overflow.startswith("drop"):
            await witness.has(loads=LANES * LOADS)
        for n in range(500):
            await sender.publish("other", Load(n, WEIGHT))
            assert await sender.request("echo", Load(n, WEIGHT), returns=int) == n
        await witness.has(others=500)
        figures = await hub.status()
        queued = figures_of(actor, figures)["queued_bytes"]
        assert queued == figures["totals"]["queued_bytes"] <= MAX_BYTES
        if overflow.startswith("drop"):
            assert queued <= MAX_CLIENT_BYTES
            assert figures_of(actor, figures)["dropped"] > 0
            await asyncio.gather(*lanes)
        else:
            assert not any(lane.done() for lane in lanes), "publishers wait, as the policy says"

        actor.go_on()
        refused = sum(await asyncio.gather(*lanes))
        await witness.has(loads=LANES * LOADS)
        await hub.until(lambda status: status["totals"]["queued_bytes"] == 0)
    of_lanes = [[n for topic, n in witness.loads if topic == f"load.{i}"] for i in range(LANES)]
    assert of_lanes == [list(range(1, LOADS + 1))] * LANES
    handled = len(seen_by(actor.part.notes)["note"])
    if overflow == "block":
        assert handled == LANES * LOADS
    elif overflow == "error":
        assert handled == LANES * LOADS - refused
    else:
        assert 0 < handled < LANES * LOADS


@pytest.mark.parametrize("overflow", get_args(Overflow))
async def test_requests_do_not_pile_up_for_who_stands_still(
    hub: HubProcess, tmp_path: Path, overflow: Overflow
) -> None:
    bus, sender = Bus(hub.url), Bus(hub.url)
    Witness(bus)
    async with consumer(hub, tmp_path, "echo", overflow) as actor, bus, sender:
        actor.stop()
        for start in range(0, 4000, 100):
            asked = [
                sender.request("echo", Load(n, WEIGHT), returns=int)
                for n in range(start, start + 100)
            ]
            assert await asyncio.gather(*asked) == list(range(start, start + 100))
        figures = figures_of(actor, await hub.status())
        assert figures["queued_bytes"] <= MAX_CLIENT_BYTES
        actor.go_on()
        await hub.until(lambda status: status["totals"]["queued_bytes"] == 0)
    numbers = [n for _, n, _ in seen_by(actor.part.notes)["note"]]
    assert all(n < later for n, later in pairwise(numbers))
