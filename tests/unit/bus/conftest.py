"""What several tests of the bus stand on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.turns import turns


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    await turns(2)
    left = {task.get_name() for task in asyncio.all_tasks() - before - {asyncio.current_task()}}
    assert left == set()
