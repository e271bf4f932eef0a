"""Looking at a hub's lock file from outside: whether it is held, and when it is let go."""

import asyncio
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from hms_bus import kernellock
from hms_bus.filelock import OPEN_FLAGS

_LOOK_EACH_S = 0.02


class Watch:
    """A scope that watches the lock file as it is when the scope is entered.

    It has the file open, not locked: a hub that comes later makes a new file, if the one before has
    ended in order. Entering and leaving block, shortly.
    """

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._lock, os.O_RDONLY | OPEN_FLAGS)
        except FileNotFoundError:
            self._descriptor = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def is_held(self) -> bool:
        """Whether a process has the lock. Blocks, shortly."""
        if self._descriptor is None:
            return False
        return kernellock.is_taken(self._descriptor)

    async def released(self) -> None:
        """Return when no process has the lock."""
        while await asyncio.to_thread(lambda: self.is_held):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(_LOOK_EACH_S)
