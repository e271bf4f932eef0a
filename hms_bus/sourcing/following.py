"""A projection that runs beside the program: how far it is, and how it ended."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from hms_bus.errors import StateError


class Following:
    """The progress of a projection that is kept up to date. Made by `Projection.running`."""

    def __init__(self, name: str) -> None:
        self.position = 0
        """The position of the last record that was handled."""
        self._name = name
        self._moved = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    async def reached(self, position: int) -> None:
        """Return when the record at `position`, on a topic of the projection, is in the rows.

        Raises what ended the projection before, `StateError` if that was the end of its log.
        """
        while self.position < position:
            if self._task is None or self._task.done():
                self._raise_end()
                raise StateError(f"projection {self._name!r} ended at position {self.position}")
            self._moved.clear()
            await self._moved.wait()

    def move(self, position: int) -> None:
        """Note how far it has come."""
        self.position = position
        self._moved.set()

    @asynccontextmanager
    async def beside(self, run: Coroutine[Any, Any, Any]) -> AsyncGenerator[None]:
        """Run `run` as long as the scope lasts; the scope raises what `run` did, if it failed."""
        task = self._task = asyncio.ensure_future(run)
        task.add_done_callback(lambda _: self._moved.set())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._raise_end()

    def _raise_end(self) -> None:
        task = self._task
        if task is not None and task.done() and not task.cancelled():
            task.result()
