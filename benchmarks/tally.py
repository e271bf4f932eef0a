"""Counting handled messages. Standard library only: peers in environments of their own use it."""

import asyncio
import time


class Tally:
    """Counts what handlers have handled, and completes when that was all."""

    __slots__ = ("_complete", "_expected", "_seen")

    def __init__(self) -> None:
        self._complete = asyncio.Event()
        self._expected = 0
        self._seen = 0

    def expect(self, count: int) -> None:
        """Start again at 0; complete at `count`."""
        self._complete.clear()
        self._expected = count
        self._seen = 0

    def add(self) -> None:
        """Count one. The whole work of every handler."""
        self._seen += 1
        if self._seen == self._expected:
            self._complete.set()

    async def complete(self) -> None:
        """Return when all have been counted."""
        await self._complete.wait()


class Arrivals:
    """Counts what comes over a connection, be it before or after it is waited for."""

    __slots__ = ("_complete", "_due", "_last_ns", "_seen")

    def __init__(self) -> None:
        self._complete = asyncio.Event()
        self._due = 0
        self._last_ns = 0
        self._seen = 0

    def add(self) -> None:
        """Count one. The whole work of every handler."""
        self._seen += 1
        if self._seen == self._due:
            self._last_ns = time.monotonic_ns()
            self._complete.set()

    async def take(self, count: int) -> int:
        """Wait for `count` more than were taken; return when the last one came (monotonic ns)."""
        self._due += count
        if self._seen >= self._due:
            return time.monotonic_ns()
        self._complete.clear()
        await self._complete.wait()
        return self._last_ns
