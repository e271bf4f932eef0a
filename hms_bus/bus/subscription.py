"""A subscription's lanes: the tasks that take messages from its mailbox and handle them.

Never a task per message (300k/s against more than a million): a lane is one task that drains the
mailbox without yielding, and waits when it is empty. `concurrency` is the number of lanes; they are
started when there is work for them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Protocol

from msgspec import Struct

from hms_bus.abc import Overflow
from hms_bus.bus import context, waits
from hms_bus.bus.keyed import KeyedOrder
from hms_bus.bus.mailbox import Item, Mailbox
from hms_bus.bus.stats import Counters, SubscriptionStats
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.topics import Pattern

Work = Callable[[Envelope, str | None], Awaitable[Any]]
"""Handles one message to the end. What it raises is reported and ends nothing else.

Returns `EXPIRED` when it looks at `expirytime` itself and it was too late.
"""

EXPIRED = object()
"""The message was not handled, because its time was over or its sender did not want it any more."""


class Keeper(Protocol):
    """The open bus, as far as its subscriptions need it."""

    loop: asyncio.AbstractEventLoop
    base_context: Context
    """What every lane starts from, so that none inherits the message that caused its start."""

    def on_failed(
        self, subscription: "Subscription", error: BaseException, envelope: Envelope
    ) -> None:
        """A handler has raised `error`."""
        ...

    def on_dropped(
        self, subscription: "Subscription", envelope: Envelope, reply_to: str | None
    ) -> None:
        """A full queue has dropped a message."""
        ...


_BURST = 256
"""Messages that a lane handles before it lets the event loop turn, when no handler waits."""


class Options(Struct, frozen=True, kw_only=True):
    """How a subscription queues and works.

    `concurrency` is the number of messages handled at once; those with the same `partitionkey`
    stay in order. `max_queue` counts waiting messages, `overflow` says what happens beyond it.
    """

    group: str | None = None
    concurrency: int = 1
    max_queue: int = 1024
    overflow: Overflow = "block"


class Subscription:
    """A mailbox and its lanes; the sink that transports offer to, by `offer` and `load`."""

    __slots__ = (
        "_idle",
        "_is_closed",
        "_keeper",
        "_keyed",
        "_lanes",
        "answers",
        "counters",
        "mailbox",
        "name",
        "offer",
        "options",
        "pattern",
        "work",
    )

    def __init__(
        self,
        pattern: Pattern,
        name: str,
        options: Options,
        *,
        work: Work,
        answers: bool,
        keeper: Keeper,
    ) -> None:
        self.pattern = pattern
        self.name = name
        self.options = options
        self.counters = Counters()
        self.work = work
        self.answers = answers
        self._keeper = keeper
        self._lanes: list[asyncio.Task[None]] = []
        self._keyed: KeyedOrder | None = None
        self._idle: list[Callable[[], None]] = []
        self._is_closed = False
        self.mailbox = Mailbox(
            self, limit=options.max_queue, overflow=options.overflow, loop=keeper.loop
        )
        self.mailbox.can_grow = True
        # Bound once: the transport calls it for every message.
        self.offer = self.mailbox.offer

    @property
    def load(self) -> int:
        """Accepted and not handled yet."""
        return self.mailbox.load + self._parked

    @property
    def overflow(self) -> Overflow:
        """What it does when it is full."""
        return self.options.overflow

    @property
    def room(self) -> int | None:
        """How many messages more it queues; `None` where a full queue holds nobody back."""
        return self.mailbox.room

    def on_idle(self, notify: Callable[[], None]) -> None:
        """Call `notify` each time that the load has become 0."""
        self._idle.append(notify)

    def on_room(self, notify: Callable[[], None]) -> None:
        """Call `notify` once, soon, when at most half of the limit is queued."""
        self.mailbox.on_room(notify)

    def interrupt(self, address: str | None) -> None:
        """Go on: what was accepted is handled, whoever sent it."""

    def fail(self, error: BusError) -> None:
        """Go on: what was accepted is handled; nobody waits here who could be told."""

    @property
    def _parked(self) -> int:
        return 0 if self._keyed is None else self._keyed.parked

    @property
    def title(self) -> str:
        """What errors and the log call this subscription."""
        return f"{self.pattern.text} ({self.name})"

    @property
    def can_grow(self) -> bool:
        """Whether another lane would be started if there were work for it."""
        return len(self._lanes) < self.options.concurrency

    @property
    def lanes(self) -> list[asyncio.Task[None]]:
        """The tasks that handle messages."""
        return self._lanes

    def on_dropped(self, envelope: Envelope, reply_to: str | None) -> None:
        """Count a message that the full queue dropped, and tell the bus."""
        self.counters.dropped += 1
        self._keeper.on_dropped(self, envelope, reply_to)

    def before_wait(self, room: asyncio.Future[None]) -> list[str]:
        """Note that the current task waits for room here; see `waits.enter`."""
        return waits.enter(self, room)

    def grow(self) -> None:
        """Start another lane."""
        keeper = self._keeper
        if self._keyed is None and self.options.concurrency > 1:
            self._keyed = KeyedOrder(self.options.max_queue, keeper.loop, self.before_wait)
        lane = keeper.loop.create_task(
            self._run(), name=f"lane of {self.title}", context=keeper.base_context.copy()
        )
        self._lanes.append(lane)
        waits.lane_owner[lane] = self
        self.mailbox.can_grow = self.can_grow

    async def _run(self) -> None:  # noqa: C901, PLR0912 - one loop, see its first line
        """Take and handle for ever. Written out, since a call for each step would cost a third.

        How it handles one message stands in `_handle` once more.
        """
        mailbox, counters, work = self.mailbox, self.counters, self.work
        queue, pop, set_cause = mailbox.queue, mailbox.queue.popleft, context.cause.set
        keyed, checks_expiry = self._keyed, not self.answers
        takers, create_future = mailbox.takers, self._keeper.loop.create_future
        burst = 0
        if (task := asyncio.current_task()) is not None:
            context.lane.set(task)
        # Whoever opened the bus may have been serving a request: its deadline is not ours.
        context.deadline.set(None)
        mailbox.in_progress += 1
        counters.busy_ns -= time.perf_counter_ns()
        while True:
            if queue and not mailbox.ranked and not mailbox.publishers:
                item = pop()
            elif (taken := mailbox.take()) is not None:
                item = taken
            else:
                counters.busy_ns += time.perf_counter_ns()
                mailbox.in_progress -= 1
                if self._idle and self.load == 0:
                    self._tell_idle()
                if self._is_closed:
                    return
                taker = create_future()
                takers.append(taker)
                await taker
                mailbox.in_progress += 1
                counters.busy_ns -= time.perf_counter_ns()
                burst = 0
                continue
            envelope, reply_to = item
            if keyed is not None and envelope.partitionkey is not None:
                await keyed.handle(item, envelope.partitionkey, self._handle)
            elif envelope.expirytime is not None and checks_expiry and is_expired(envelope):
                counters.expired += 1
            else:
                set_cause(envelope)
                try:
                    if await work(envelope, reply_to) is EXPIRED:
                        counters.expired += 1
                    else:
                        counters.handled += 1
                except BaseException as error:  # noqa: BLE001 - see `_failed`
                    self._failed(error, envelope)
            burst += 1
            if burst >= _BURST:
                burst = 0
                await asyncio.sleep(0)

    def _failed(self, error: BaseException, envelope: Envelope) -> None:
        """Report what a handler raised, unless it means that this lane or the program ends.

        A handler may raise anything; awaiting a task that somebody cancelled raises
        `CancelledError`, and the lane goes on all the same.
        """
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise error
        if is_cancelled(error):
            raise error
        self.counters.failed += 1
        try:
            self._keeper.on_failed(self, error, envelope)
        except Exception as failure:  # noqa: BLE001 - a log handler is the user's code, too
            self._keeper.loop.call_exception_handler(
                {"message": f"reporting an error of {self.name} failed", "exception": failure}
            )

    async def _handle(self, item: Item) -> None:
        """Handle one message that has a key. Mirrors what `_run` does with one that has none."""
        envelope, reply_to = item
        try:
            if not self.answers and envelope.expirytime is not None and is_expired(envelope):
                self.counters.expired += 1
                return
            context.cause.set(envelope)
            if await self.work(envelope, reply_to) is EXPIRED:
                self.counters.expired += 1
            else:
                self.counters.handled += 1
        except BaseException as error:  # noqa: BLE001 - see `_failed`
            self._failed(error, envelope)

    def _tell_idle(self) -> None:
        for notify in tuple(self._idle):
            notify()

    async def drained(self) -> None:
        """Return when nothing is queued or in progress."""
        if not self.load:
            return
        idle = asyncio.Event()
        self._idle.append(idle.set)
        try:
            while self.load:
                idle.clear()
                await idle.wait()
        finally:
            self._idle.remove(idle.set)

    async def close(self) -> list[Item]:
        """End the lanes at once, cancelling their handlers; return what was not handled."""
        self._is_closed = True
        self.mailbox.can_grow = False
        left = [] if self._keyed is None else self._keyed.waiting()
        left += self.mailbox.close()
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        for lane in self._lanes:
            waits.lane_owner.pop(lane, None)
        self._lanes.clear()
        return left

    @property
    def _busy_ns(self) -> int:
        """How long the lanes have been at work, those included that are."""
        # Each of those has only subtracted the time when it began.
        return self.counters.busy_ns + self.mailbox.in_progress * time.perf_counter_ns()

    def stats(self) -> SubscriptionStats:
        """Return the counters as they are now."""
        counters = self.counters
        through = counters.handled + counters.failed
        held_up = 0 if self._keyed is None else self._keyed.held_up
        return SubscriptionStats(
            pattern=self.pattern.text,
            handler=self.name,
            group=self.options.group,
            queued=len(self.mailbox) + self._parked,
            in_progress=self.mailbox.in_progress - held_up,
            handled=counters.handled,
            failed=counters.failed,
            dropped=counters.dropped,
            expired=counters.expired,
            mean_handler_s=self._busy_ns / through / 1e9 if through else 0.0,
        )


def is_expired(envelope: Envelope) -> bool:
    """Whether the time of `expirytime` is over."""
    expires_ns = envelope.expires_ns
    return expires_ns is not None and expires_ns <= time.time_ns()


def is_cancelled(error: BaseException) -> bool:
    """Whether `error` means that the current task ends, not one that it has waited for."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
