"""A bus whose hub talks nonsense: it stays sound, tries again, and works when there is a hub."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from hms_bus.ipc.places import Place, find_place
from hms_bus.transports.ipc import client
from tests.support.busy_bus import outlive_nonsense

CONNECTIONS = 40


@pytest.fixture
def place(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place of the hub; its clients come back at once, however often they were sent away."""
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "_AFTER_BYE_S", 0.01)
    runtime.mkdir(mode=0o700)
    return find_place("test")


@pytest.fixture
async def accidents() -> AsyncGenerator[list[dict[str, Any]]]:
    """What the event loop was told that nobody has handled; there must be nothing."""
    accidents: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: accidents.append(context))
    yield accidents
    gc.collect()  # tasks and futures tell when they are let go of
    await asyncio.sleep(0)
    assert not accidents


@pytest.mark.parametrize("log", [None, "sqlite:{folder}/events.db"], ids=["no log", "log"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_bus_works_again_when_the_nonsense_is_over(
    place: Place, accidents: list[dict[str, Any]], seed: int, log: str | None
) -> None:
    url = None if log is None else log.format(folder=place.folder)
    await outlive_nonsense(place, seed, CONNECTIONS, url)
    assert asyncio.all_tasks() == {asyncio.current_task()}
