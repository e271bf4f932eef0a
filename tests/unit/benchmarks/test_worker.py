"""A worker process: greeting, turns, errors, end. The worker is a real one, of this interpreter."""

import sys
from pathlib import Path

import pytest

from benchmarks.worker import WorkerError, remote_task, start_worker

PYTHON = Path(sys.executable)
MODULE = "tests.support.benchmark_worker"


async def test_a_worker_greets_with_its_name_and_version() -> None:
    async with start_worker(PYTHON, MODULE) as worker:
        assert worker.greeting == {"name": "counter", "version": "1.2.3"}


async def test_a_task_is_set_up_with_its_options_and_runs_again_and_again() -> None:
    async with remote_task(PYTHON, MODULE, "multiply", factor=0.5) as run:
        assert await run(10) == 5
        assert await run(20) == 10


async def test_what_a_peer_prints_is_not_taken_for_an_answer() -> None:
    async with remote_task(PYTHON, MODULE, "chatter") as run:
        assert await run(3) == 3


async def test_an_error_of_the_peer_is_told_by_name() -> None:
    async with remote_task(PYTHON, MODULE, "fail") as run:
        with pytest.raises(WorkerError, match="ZeroDivisionError: no operations"):
            await run(1)


async def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(WorkerError, match="KeyError"):
        async with remote_task(PYTHON, MODULE, "unknown"):
            pass


async def test_a_worker_that_dies_is_told_from_one_that_answers() -> None:
    async with remote_task(PYTHON, MODULE, "die") as run:
        with pytest.raises(WorkerError, match="ended without an answer"):
            await run(1)


async def test_a_missing_environment_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="make venv-bench"):
        async with start_worker(tmp_path / "python", MODULE):
            pass
