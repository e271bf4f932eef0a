"""Cores: what is started in the scope keeps to them, and we have ours back."""

import os
import subprocess
import sys

from benchmarks.pinning import pinned

COUNT = "import os; print(len(os.sched_getaffinity(0)))"


def cores_of_a_child() -> int:
    return int(
        subprocess.run([sys.executable, "-c", COUNT], capture_output=True, check=True).stdout
    )


def test_what_is_started_in_the_scope_has_so_many_cores() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert cores_of_a_child() == 1
    assert os.sched_getaffinity(0) == before


def test_none_leaves_all_cores() -> None:
    with pinned(None):
        assert cores_of_a_child() == len(os.sched_getaffinity(0))
