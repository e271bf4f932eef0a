"""Counting handled messages. Standard library only: peers in environments of their own use it."""

import asyncio


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
