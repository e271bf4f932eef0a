"""Buses on each kind of log that event sourcing has to hold on."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from hms_bus import Bus
from tests.support.hub_places import runtime_folder


@pytest.fixture
def runtime() -> Iterator[Path]:
    with runtime_folder() as folder:
        yield folder


@pytest.fixture(params=["memory", "sqlite", "hub"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path, runtime: Path) -> AsyncGenerator[Bus]:
    """Open a bus with an empty log: in memory, in a file, or behind a hub in another process."""
    file = f"sqlite:{tmp_path / 'events.db'}"
    url, log = {
        "memory": ("direct://", "memory:"),
        "sqlite": ("direct://", file),
        "hub": ("ipc://sourcing", file),
    }[request.param]
    async with Bus(url, log=log, source="/agents/bank") as opened:
        yield opened
