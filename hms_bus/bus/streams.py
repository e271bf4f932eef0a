"""Reading messages in a loop: `async with bus.subscribe(pattern) as messages`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from hms_bus.abc import Overflow
from hms_bus.bus import context, waits
from hms_bus.bus.mailbox import Mailbox
from hms_bus.bus.message import Message
from hms_bus.bus.stats import Counters, SubscriptionStats
from hms_bus.bus.subscription import Options, is_expired
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.topics import Pattern


class MessageStream:
    """The messages of one subscription, as an async iterator; the sink that transports offer to.

    A message counts as handled when the next one is asked for. Until then it is the cause of what
    the loop's body publishes. The iterator ends when its scope does, and when the bus is closed,
    behind what was accepted before. It raises why when the transport lets nobody in any more.
    """

    answers = False

    def __init__(self, pattern: Pattern, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self.pattern = pattern
        self.title = f"{pattern.text} (stream)"
        self._options = options
        self._counters = Counters()
        self._mailbox = Mailbox(self, limit=options.max_queue, overflow=options.overflow, loop=loop)
        self._holds_one = False
        self._is_closed = False
        self._has_ended = False
        self._failure: BusError | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._has_more_readers = False
        self._idle: list[Callable[[], None]] = []
        self.offer: Callable[[Envelope, str | None], Awaitable[None] | None] = self._mailbox.offer

    @property
    def load(self) -> int:
        """Accepted and not handled yet."""
        return self._mailbox.load

    @property
    def overflow(self) -> Overflow:
        """What it does when it is full."""
        return self._options.overflow

    @property
    def room(self) -> int | None:
        """How many messages more it queues; `None` where a full queue holds nobody back."""
        return self._mailbox.room

    def on_idle(self, notify: Callable[[], None]) -> None:
        """Call `notify` each time that the load has become 0."""
        self._idle.append(notify)

    def on_room(self, notify: Callable[[], None]) -> None:
        """Call `notify` once, soon, when at most half of the limit is queued."""
        self._mailbox.on_room(notify)

    def interrupt(self, address: str | None) -> None:
        """Go on: what was accepted is read, whoever sent it."""

    def fail(self, error: BusError) -> None:
        """End the iteration with `error`, behind what has been accepted so far."""
        self._failure = error
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self.finish_one()
        if (task := asyncio.current_task()) is not self._reader:
            self._has_more_readers = self._reader is not None and not self._reader.done()
            self._reader = task
        while True:
            if self._is_closed:
                raise StopAsyncIteration
            item = self._mailbox.take()
            if item is None:
                if self._failure is not None:
                    raise self._failure
                if self._has_ended:
                    raise StopAsyncIteration
                await self._mailbox.wait()
                continue
            self._holds_one = True
            self._mailbox.in_progress = 1
            envelope, reply_to = item
            if envelope.expirytime is None or not is_expired(envelope):
                self._counters.handled += 1
                break
            self._counters.expired += 1
            self.finish_one()
        context.cause.set(envelope)
        return Message(envelope, captures=self.pattern.capture(envelope.topic), reply_to=reply_to)

    def close(self) -> None:
        """End the iteration, also one that waits for a message."""
        self.finish_one()
        self._is_closed = True
        self.end()
        self._mailbox.close()

    def end(self) -> None:
        """End the iteration behind what has been accepted so far."""
        self._has_ended = True
        for taker in self._mailbox.takers:
            if not taker.done():
                taker.set_result(None)

    def finish_one(self) -> None:
        """Say that the message handed out last has been handled."""
        if self._holds_one:
            self._holds_one = False
            self._mailbox.in_progress = 0
            if self._idle and not self._mailbox:
                for notify in tuple(self._idle):
                    notify()

    def stats(self) -> SubscriptionStats:
        """Return the counters as they are now; how long the loop's body takes is not measured."""
        return SubscriptionStats(
            pattern=self.pattern.text,
            handler="stream",
            group=self._options.group,
            queued=len(self._mailbox),
            in_progress=self._mailbox.in_progress,
            handled=self._counters.handled,
            failed=0,
            dropped=self._counters.dropped,
            expired=self._counters.expired,
            mean_handler_s=0.0,
        )

    # -- the mailbox's owner -------------------------------------------------------------------

    def on_dropped(self, envelope: Envelope, reply_to: str | None) -> None:
        """Count a message that the full queue dropped."""
        del envelope, reply_to
        self._counters.dropped += 1

    def before_wait(self, room: asyncio.Future[None]) -> list[str]:
        """Let every publisher wait but the one who reads the stream, as it would wait for itself.

        With several readers, another one may go on.
        """
        del room
        task = waits.waiting_task()
        if task is None or task is not self._reader or self._has_more_readers:
            return []
        return [self.title, self.title]

    def grow(self) -> None:
        """Do nothing: a stream has one reader."""
