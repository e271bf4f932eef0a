"""What several tests of the bus stand on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.plugins import plugged_in
from tests.support.turns import turns


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    await turns(2)
    left = {task.get_name() for task in asyncio.all_tasks() - before - {asyncio.current_task()}}
    assert left == set()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make `keeping:` a scheme of transports, which bring a log that delivers."""
    folder = tmp_path_factory.mktemp("plugins")
    with plugged_in(folder, "transports", keeping="tests.support.keeping:open_keeping"):
        yield
