"""How the demo's agents are dealt out to processes."""

import pytest

from hms_bus.cli.demo.processes import deal
from hms_bus.demo import TEAM


@pytest.mark.parametrize("processes", range(1, len(TEAM) + 1))
def test_every_agent_has_one_place_and_no_process_is_idle(processes: int) -> None:
    hands = deal(list(TEAM), processes)
    assert sorted(name for hand in hands for name in hand) == sorted(TEAM)
    assert len(hands) == processes
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


def test_each_of_four_processes_has_a_reader() -> None:
    for hand in deal(list(TEAM), 4):
        assert any(name.startswith("reader") for name in hand)
