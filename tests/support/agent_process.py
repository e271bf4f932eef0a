"""Starts `tests.support.bus_agent`, and tells it what to do."""

import asyncio
import json
import subprocess
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""How long a test waits for what must come."""


class AgentFailed(Exception):  # noqa: N818 - as subprocess.CalledProcessError, a fact
    """What a command of the agent raised: the class's name, its code, and its facts."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(f"{facts['type']}: {facts['code']}: {facts['message']}")
        self.type: str = facts["type"]
        self.code: str = facts["code"]
        self.message: str = facts["message"]
        self.retryable: bool = facts["retryable"]
        self.details: dict[str, Any] = facts["details"]


class Box:
    """What the agent has said to one end; a thread fills it, and any event loop empties it."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._wake: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def put(self, item: Any) -> None:
        with self._lock:
            self._items.append(item)
            if self._wake is not None:
                with suppress(RuntimeError):  # the loop of a test that has failed
                    self._wake()

    async def next(self) -> Any:
        """Return the first item, once there is one. One task at a time waits here."""
        loop = asyncio.get_running_loop()
        while True:
            came = asyncio.Event()
            with self._lock:
                if self._items:
                    return self._items.popleft()
                self._wake = partial(loop.call_soon_threadsafe, came.set)
            async with asyncio.timeout(PATIENCE_S):
                await came.wait()


class AgentProcess:
    """The agent of one codec. One thread reads what it says."""

    def __init__(self, process: subprocess.Popen[str], codec: str) -> None:
        self.codec = codec
        self._process = process
        self._numbers = count(1)
        self._said: defaultdict[Any, Box] = defaultdict(Box)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            who, *what = cast("list[Any]", json.loads(line))
            if who == "heard":
                self._said["heard", what[0]].put(what[1])
            else:
                self._said[who].put(what)

    async def do(self, method: str, **arguments: Any) -> Any:
        """Return what the command returns. Raises `AgentFailed`; cancelling it is passed on."""
        number = next(self._numbers)
        self._tell(number, method, arguments)
        try:
            how, result = await self._said[number].next()
        except asyncio.CancelledError:
            self._tell(0, "cancel", {"number": number})
            raise
        if how == "failed":
            raise AgentFailed(result)
        return result

    async def heard(self, pattern: str) -> dict[str, Any]:
        """Return the next envelope that it has heard on `pattern`, in the JSON format."""
        return await self._said["heard", pattern].next()

    async def noted(self, text: str) -> None:
        """Return when it notes `text`, which must be what it notes next."""
        assert await self._said["noted"].next() == [text]

    def _tell(self, number: int, method: str, arguments: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, method, arguments]) + "\n")
        self._process.stdin.flush()


@contextmanager
def running_agent(url: str, codec: str, log: str = "") -> Generator[AgentProcess]:
    """Run an agent, whose bus is open; it ends with the scope."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.bus_agent", url, codec, log],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == ["noted", "ready"]
            yield AgentProcess(process, codec)
        finally:
            process.kill()
