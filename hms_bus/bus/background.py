"""What a bus does while nobody waits for it: emitted messages, late deliveries, error hooks."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hms_bus.envelope import Envelope
from hms_bus.errors import QueueFullError

logger = logging.getLogger("hms_bus")


class Background:
    """Work that ends on its own. At most `limit` pieces at a time, so that it cannot pile up."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        """Pieces that were accepted and not begun."""
        self._tasks: set[asyncio.Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks) + self.reserved

    def run(self, work: Awaitable[Any], topic: str) -> None:
        """Let `work`, which is about `topic`, finish on its own; its error is logged.

        Raises `QueueFullError` when the limit is reached; `work` is not begun then.
        """
        try:
            self.check_room(topic)
        except QueueFullError:
            if inspect.iscoroutine(work):
                work.close()
            raise
        self.begin(work, topic)

    def check_room(self, topic: str) -> None:
        """Raise `QueueFullError` when the limit is reached."""
        if len(self) >= self.limit:
            raise QueueFullError(queue=f"emit to {topic}", limit=self.limit)

    def begin(self, work: Awaitable[Any], topic: str) -> None:
        """Begin `work`, whatever is under way."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._note_end(done, topic))

    def _note_end(self, task: asyncio.Future[Any], topic: str) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background work for %s failed: %s", topic, error, exc_info=error)

    async def finished(self) -> None:
        """Return when all that is under way now has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def end(self) -> None:
        """Cancel what is under way, and return when it has ended."""
        for task in self._tasks:
            task.cancel()
        await self.finished()


class Emits:
    """Emitted messages that need more than a transport, in the order in which they were emitted."""

    def __init__(
        self,
        background: Background,
        settle: Callable[[], Awaitable[None]],
        send: Callable[[Envelope], Coroutine[Any, Any, object]],
    ) -> None:
        self._background = background
        self._settle = settle
        self._send = send
        self._held_back: deque[Envelope] = deque()
        self._under_way = 0

    def __bool__(self) -> bool:
        return self._under_way > 0

    def add(self, envelope: Envelope, *, hold_back: bool) -> None:
        """Send in the background; what is emitted meanwhile queues up behind it.

        `hold_back` says that subscriptions are being opened, which should get the message.
        """
        topic = envelope.topic
        if hold_back or self._held_back:
            if not self._held_back:
                self._background.run(self._release(), topic)
            self._background.check_room(topic)
            self._held_back.append(envelope)
            self._background.reserved += 1
        else:
            self._background.run(self._send_one(envelope), topic)
        self._under_way += 1

    async def _release(self) -> None:
        """Begin, in order, what was held back."""
        await self._settle()
        while self._held_back:
            envelope = self._held_back.popleft()
            self._background.reserved -= 1
            self._background.begin(self._send_one(envelope), envelope.topic)

    async def _send_one(self, envelope: Envelope) -> None:
        try:
            await self._send(envelope)
        finally:
            self._under_way -= 1
