"""autogen-core as a contender: it wants protobuf 5, so it runs in an environment of its own."""

from functools import partial
from typing import Any

from benchmarks.model import Contender
from benchmarks.worker import ROOT, remote_task

PYTHON = ROOT / ".venv-autogen" / "bin" / "python"
MODULE = "benchmarks.peers.autogen"


def autogen(name: str, task: str, *, step: int = 1, **options: Any) -> Contender:
    """Return the contender that does `task` of `benchmarks.peers.autogen` with these options."""
    return Contender(
        name=name, open=partial(remote_task, PYTHON, MODULE, task, **options), step=step
    )
