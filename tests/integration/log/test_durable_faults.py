"""Durable work whose processes are killed: all of it is done, in order, and nothing else."""

from pathlib import Path

import pytest

from tests.support.durable_run import Where, run_durable
from tests.support.hub_places import runtime_folder


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("where", "seed"), [("direct", 1), ("ipc", 2)])
def test_everything_is_handled_though_anybody_is_killed(
    tmp_path: Path, where: Where, seed: int
) -> None:
    with runtime_folder():
        outcome = run_durable(tmp_path, seed, where, seconds=5)
    assert outcome.handled >= outcome.acknowledged > 0
    assert sum(outcome.done.values()) > 3
