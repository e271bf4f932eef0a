"""A peer in another environment: a process that is started once and then takes turns with us.

Commands and answers are JSON lines on its stdin and stdout. It greets with its name and version;
`{"open": task, ...options}` sets a task up, `{"run": operations}` answers with the seconds.
Standard library only, since both environments import this module.
"""

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[[int], Awaitable[float]]
Task = Callable[..., AbstractAsyncContextManager[Run]]


class WorkerError(Exception):
    """The worker could not be started, or failed; says what to do next."""


class Worker:
    """Our end of a worker process; made by `start_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.greeting: Mapping[str, str] = {}

    async def greet(self) -> None:
        """Read the worker's greeting."""
        self.greeting = await self._answer()

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and return its answer. Raises `WorkerError`."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            # A worker that has died is told from its answer, which may still say why.
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            await self._process.stdin.drain()
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise WorkerError("the worker ended without an answer; its stderr says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"the worker failed: {answer['error']}")
        return answer

    async def stop(self) -> None:
        """Let the worker end by closing its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def start_worker(python: Path, module: str) -> AsyncGenerator[Worker]:
    """Start `python -m module` and wait for its greeting; it ends with the scope."""
    if not python.exists():
        raise WorkerError(f"{python} does not exist. Next step: make venv-bench")
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-m",
        module,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    worker = Worker(process)
    try:
        await worker.greet()
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def remote_task(python: Path, module: str, task: str, **options: Any) -> AsyncGenerator[Run]:
    """Set `task` up in a worker of its own; yields what runs it there and returns its seconds."""
    async with start_worker(python, module) as worker:
        await worker.ask(open=task, **options)

        async def run(operations: int) -> float:
            answer = await worker.ask(run=operations)
            return float(answer["seconds"])

        yield run


def serve(name: str, version: str, tasks: Mapping[str, Task]) -> None:
    """Be the worker: greet, then do what stdin asks for until it ends."""
    # What the peer prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    tell({"name": name, "version": version})
    try:
        asyncio.run(_serve(tasks, tell))
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        raise


async def _serve(tasks: Mapping[str, Task], tell: Callable[[Mapping[str, Any]], None]) -> None:
    opening = await _next_command()
    if opening is None:
        return
    task = tasks[opening.pop("open")]
    async with task(**opening) as run:
        tell({"opened": True})
        while (command := await _next_command()) is not None:
            gc.collect()
            tell({"seconds": await run(command["run"])})


async def _next_command() -> dict[str, Any] | None:
    # Reading blocks this loop, on purpose: between two runs nothing of the peer may take time.
    line = sys.stdin.readline()
    return json.loads(line) if line else None
