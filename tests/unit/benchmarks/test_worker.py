"""A worker process: greeting, turns, errors, end. The worker is a real one, of this interpreter."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks import worker as worker_module
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


async def test_a_task_may_answer_with_more_than_the_seconds() -> None:
    async with start_worker(PYTHON, MODULE) as worker:
        await worker.ask(open="describe")
        assert await worker.ask(run=2) == {"operations": 2, "double": 4}


async def test_the_loop_of_a_worker_goes_on_while_it_waits_for_its_turn() -> None:
    async with remote_task(PYTHON, MODULE, "beside") as run:
        # It completes only when something else on the loop has run before the command came.
        assert await run(1) == 1


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "STOP_S", 0.0)
    async with start_worker(PYTHON, MODULE) as worker:
        await worker.ask(open="refuse_to_end")
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


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
