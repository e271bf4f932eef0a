"""Rows between processes: a short run of what needs no peer beyond those of the tests."""

import pytest

from benchmarks.rows import ipc
from benchmarks.stage import System


@pytest.mark.parametrize("system", [ipc.HMS, ipc.NATS], ids=["hms", "nats"])
async def test_messages_go_from_sender_to_receiver(system: System) -> None:
    async with ipc.open_one_way(system, 1024) as run:
        assert await run(200) > 0
        assert await run(1) > 0


@pytest.mark.parametrize("system", [ipc.HMS, ipc.NATS], ids=["hms", "nats"])
async def test_requests_are_answered(system: System) -> None:
    async with ipc.open_requests(system, 128, 8) as run:
        assert await run(64) > 0


async def test_one_at_a_time_the_median_counts() -> None:
    async with ipc.open_requests(ipc.NATS, 128, 1, cores=1) as run:
        assert await run(20) > 0


@pytest.mark.parametrize("system", [ipc.HMS_LOGGED, ipc.JETSTREAM], ids=["hms", "nats"])
async def test_durable_messages_are_acknowledged(system: System) -> None:
    async with ipc.open_durable(system, 128) as run:
        assert await run(2000) > 0


async def test_clients_in_a_ring_cost_the_hub_time() -> None:
    async with ipc.open_crowd(3) as run:
        assert await run(30) > 0


def test_every_row_has_a_target_for_a_peer_that_it_has() -> None:
    for row in ipc.ROWS:
        assert row.targets
        assert {target.against for target in row.targets} <= {peer.name for peer in row.peers}


def test_names_are_unique() -> None:
    names = [row.name for row in ipc.ROWS]
    assert len(set(names)) == len(names)
