"""The logs that tests of what all logs do run on."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hms_bus.abc import EventLog
from hms_bus.plugins import open_log


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventLog]:
    """Open an empty log, once of each kind."""
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(url) as opened:
        yield opened
