"""A check that fails leaves no task behind."""

import asyncio
import gc
from typing import Any

import pytest

from hms_bus.testing.conformance import run


@pytest.mark.parametrize(
    ("check", "url"),
    [
        ("a_dropped_request_is_answered", "faulty:direct://{name}?drop=1"),
        ("a_full_queue_holds_its_publisher_back", "faulty:direct://{name}?cut=9"),
    ],
)
async def test_a_check_that_fails_leaves_no_task_and_no_traceback(check: str, url: str) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    before = asyncio.all_tasks()
    report = await run(url, codecs=["json"], names=[check], log=None, patience_s=0.2)
    assert not report.is_ok
    assert asyncio.all_tasks() == before
    gc.collect()
    assert told == []
