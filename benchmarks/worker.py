"""A process that is started once and then takes turns with others: a peer of another environment,
or one side of what goes between processes.

Commands and answers are JSON lines on its stdin and stdout. It greets with its name and version;
`{"open": task, ...options}` sets a task up, `{"run": operations}` answers with the seconds, or with
the object that the task returns. Standard library only, since an environment without ours imports
this module.
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

STOP_S = 5.0
"""How long a worker may take to end before it is killed."""

Run = Callable[[int], Awaitable[float]]
Work = Callable[[int], Awaitable[float | Mapping[str, Any]]]
"""What a worker does of so many operations: the seconds, or all that it has to say about them."""
Task = Callable[..., AbstractAsyncContextManager[Work]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class WorkerError(Exception):
    """The worker could not be started, or failed; says what to do next."""


class Worker:
    """Our end of a worker process; made by `start_worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.greeting: Mapping[str, str] = {}

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._process.pid

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
        """Let the worker end by closing its stdin; kill one that does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
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


def serve(
    name: str,
    version: str,
    tasks: Mapping[str, Task],
    *,
    loop_factory: LoopFactory | None = None,
) -> None:
    """Be the worker: greet, then do what stdin asks for until it ends."""
    # What the peer prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def tell(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    tell({"name": name, "version": version})
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(tasks, tell))
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        raise


async def _serve(tasks: Mapping[str, Task], tell: Callable[[Mapping[str, Any]], None]) -> None:
    commands = await _commands()
    opening = await commands.readline()
    if not opening:
        return
    options = json.loads(opening)
    async with tasks[options.pop("open")](**options) as work:
        gc.collect()
        tell({"opened": True})
        while command := await commands.readline():
            answer = await work(json.loads(command)["run"])
            # Before the answer: afterwards it would take time from whoever is next.
            gc.collect()
            tell(answer if isinstance(answer, Mapping) else {"seconds": answer})


async def _commands() -> asyncio.StreamReader:
    # The loop goes on while it waits for a command, as connections want it to.
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader
