"""A durable subscription: what the log hands out is handled, and what became of it is told to it.

Reads from the log only. Nothing is fetched that has no place: what is fetched and not settled
counts against `max_unacked` and its ack wait runs. How much is fetched ahead follows the handlers:
one message per lane while they are slow, so that other consumers get their share, and up to
`max_queue` while they are quick. What no lane begins, since the handlers hang or the subscription
ends, is handed back at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol

from hms_bus.abc import Consumer, ConsumingLog, Delivery, Durable, Outcome, Settlement
from hms_bus.bounces import text_of
from hms_bus.bus import context
from hms_bus.bus.mailbox import Item
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import Handler
from hms_bus.bus.redelivery import Redelivery
from hms_bus.bus.stats import Counters, SubscriptionStats
from hms_bus.bus.subscription import Keeper, Options, is_cancelled
from hms_bus.config import BusConfig
from hms_bus.errors import (
    BusError,
    DisconnectedError,
    EnvironmentFailure,
    QueueFullError,
    StateError,
)
from hms_bus.topics import Pattern, overlaps, parse_pattern

logger = logging.getLogger("hms_bus")

_BURST = 256
"""Messages that a lane handles before it lets the event loop turn, when no handler waits."""

_QUICK_S = 0.05
"""Handlers that are through with all that was fetched in less get more at once."""

_SLOW_S = 0.5

_PAUSE_S = 1.0
"""Before a log is asked again that could not be read."""


class DurableKeeper(Keeper, Protocol):
    """The open bus, as far as durable subscriptions need it."""

    config: BusConfig

    def on_delivery_failed(
        self,
        subscription: "DurableSubscription",
        error: BaseException,
        message: Message,
        what_follows: str,
    ) -> None:
        """A handler has raised `error`; what follows is what becomes of the message, in words."""
        ...


class DurableSubscription:
    """The consumer of a durable, and the lanes that handle what it gets."""

    answers = False

    def __init__(
        self,
        pattern: Pattern,
        name: str,
        options: Options,
        *,
        durable: Durable,
        redelivery: Redelivery,
        handler: Handler,
        keeper: DurableKeeper,
    ) -> None:
        self.pattern = pattern
        self.name = name
        self.options = options
        self.counters = Counters()
        self.work = handler
        self._durable = durable
        self._redelivery = redelivery
        self._keeper = keeper
        self._most = max(min(options.max_queue, durable.max_unacked), 1)
        self._ahead = min(options.concurrency, self._most)
        self._queue: deque[tuple[Delivery, float]] = deque()
        """What was fetched, and when on the loop's clock its ack wait began."""
        self._outcomes: list[Settlement] = []
        self._settling = False
        self._is_stopped = False
        self._in_progress = 0
        self._fetched_at = 0.0
        self._moved_at = 0.0
        """When a lane has last begun something after it was idle, or finished something."""
        self._lanes: list[asyncio.Task[None]] = []
        self._takers: deque[asyncio.Future[None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._has_outcomes = asyncio.Event()
        self._scope = AsyncExitStack()
        self._consumer: Consumer | None = None

    # -- life ----------------------------------------------------------------------------------

    async def open(self, log: ConsumingLog) -> None:
        """Take part in the durable. Raises what `hms_bus.abc.ConsumingLog.consume` does."""
        self._warn_of_what_is_not_logged()
        self._consumer = await self._scope.enter_async_context(log.consume(self._durable))

    def _warn_of_what_is_not_logged(self) -> None:
        tokens, logged = self.pattern.tokens, self._keeper.config.logged
        if tokens[0].startswith("$"):  # what the log writes itself, dead letters say
            return
        if not any(overlaps(tokens, parse_pattern(each).tokens) for each in logged):
            logger.warning(
                "%s: the bus logs no topic that this selects, so only what others append to the "
                "log will come: add the pattern to logged=%r",
                self.title,
                list(logged),
            )

    def begin(self) -> None:
        """Begin to fetch and handle; once, after `open`."""
        if self._consumer is None:
            raise StateError("the subscription is not open")
        for work in (self._fetch_all, self._settle_all, self._extend_all):
            task = self._keeper.loop.create_task(
                work(self._consumer),
                name=f"{work.__name__} of {self.title}",
                context=self._keeper.base_context.copy(),
            )
            self._tasks.append(task)

    async def stop(self) -> None:
        """Fetch and begin nothing more; the log gives what was not begun to others, at once."""
        self._is_stopped = True
        if self._tasks:  # else the fetch that is under way would get the same again
            self._tasks[0].cancel()
            await asyncio.wait(self._tasks[:1])
        self._hand_back()
        self._note_change()

    async def drained(self) -> None:
        """Return when nothing is in progress and all that was handled is settled."""
        while self.load:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> list[Item]:
        """End at once, cancelling handlers: what they were handling is tried again."""
        await self.stop()
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._lanes.clear()
        while (self._outcomes or self._settling) and not self._tasks[1].done():
            self._changed.clear()
            await self._changed.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(BusError):
            await self._scope.aclose()
        return []

    # -- what the bus asks ---------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What errors and the log call this subscription."""
        return f"{self.pattern.text} ({self.name}, durable {self._durable.name})"

    @property
    def lanes(self) -> list[asyncio.Task[None]]:
        """The tasks that handle messages."""
        return self._lanes

    @property
    def load(self) -> int:
        """Fetched and not settled yet."""
        return len(self._queue) + self._in_progress + len(self._outcomes) + self._settling

    def stats(self) -> SubscriptionStats:
        """Return the counters as they are now."""
        counters = self.counters
        through = counters.handled + counters.failed
        return SubscriptionStats(
            pattern=self.pattern.text,
            handler=self.name,
            group=self.options.group,
            queued=len(self._queue),
            in_progress=self._in_progress,
            handled=counters.handled,
            failed=counters.failed,
            dropped=0,
            expired=0,
            mean_handler_s=counters.busy_ns / through / 1e9 if through else 0.0,
        )

    # -- fetching ------------------------------------------------------------------------------

    async def _fetch_all(self, consumer: Consumer) -> None:
        while True:
            taken = len(self._queue) + self._in_progress
            room = self._ahead - taken
            # Half of it at once, for the sake of larger steps, unless a lane has nothing to do.
            if room < 1 or (2 * room < self._ahead and taken >= self.options.concurrency):
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                deliveries = await consumer.fetch(room)
            except StateError:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not go unheard
                if not (isinstance(error, EnvironmentFailure) and error.retryable):
                    logger.error("%s has ended: %s", self.title, text_of(error))  # noqa: TRY400
                    return
                logger.warning("%s: %s; it is tried again", self.title, error)
                await asyncio.sleep(_PAUSE_S)
                continue
            self._accept(deliveries)

    def _accept(self, deliveries: Sequence[Delivery]) -> None:
        self._adapt()
        loop = self._keeper.loop
        self._fetched_at = now = loop.time()
        if self._in_progress < self.options.concurrency:
            self._moved_at = now
        self._queue.extend((delivery, now) for delivery in deliveries)
        needed = min(len(deliveries), self.options.concurrency)
        while self._takers and needed:
            needed -= 1
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
        while len(self._lanes) < self.options.concurrency and needed:
            needed -= 1
            lane = loop.create_task(
                self._run(),
                name=f"lane of {self.title}",
                context=self._keeper.base_context.copy(),
            )
            self._lanes.append(lane)

    def _adapt(self) -> None:
        """Fetch more at once while that is handled quickly, and less while it is not."""
        took_s = self._keeper.loop.time() - self._fetched_at
        if took_s < _QUICK_S:
            self._ahead = min(2 * self._ahead, self._most)
        elif took_s > _SLOW_S:
            self._ahead = max(self._ahead // 2, min(self.options.concurrency, self._most))

    async def _extend_all(self, consumer: Consumer) -> None:
        """Keep the ack wait of what is only queued from running out, while the lanes get on.

        While all of them hang, it is for others, and only as much is fetched as they can begin.
        """
        while True:
            await asyncio.sleep(self._durable.ack_wait_s / 3)
            if self._hangs:
                self._ahead = min(self.options.concurrency, self._most)
                self._hand_back()
            elif waiting := [_said(delivery, "progress") for delivery, _ in self._queue]:
                with suppress(BusError):
                    await consumer.settle(waiting)

    @property
    def _hangs(self) -> bool:
        """Whether no lane is free, and none has got on within the last ack wait."""
        still_s = self._keeper.loop.time() - self._moved_at
        return self._in_progress >= self.options.concurrency and still_s > self._durable.ack_wait_s

    # -- handling ------------------------------------------------------------------------------

    async def _run(self) -> None:
        queue, loop = self._queue, self._keeper.loop
        if (task := asyncio.current_task()) is not None:
            context.lane.set(task)
        context.deadline.set(None)
        burst = 0
        while not self._is_stopped:  # a handler may end well though it is cancelled
            if not queue:
                self._note_change()
                taker = loop.create_future()
                self._takers.append(taker)
                await taker
                burst = 0
                continue
            delivery, fetched_at = queue.popleft()
            self._in_progress += 1
            began = loop.time()
            if began - fetched_at > self._durable.ack_wait_s / 10:
                # The handler shall have the whole of its ack wait.
                self._outcomes.append(_said(delivery, "progress"))
                self._has_outcomes.set()
            try:
                await self._handle(delivery)
            finally:
                self._in_progress -= 1
                self._moved_at = now = loop.time()
                self.counters.busy_ns += int((now - began) * 1e9)
                if len(queue) * 2 <= self._ahead:
                    self._note_change()
            burst += 1
            if burst >= _BURST:
                burst = 0
                await asyncio.sleep(0)

    async def _handle(self, delivery: Delivery) -> None:
        record = delivery.record
        envelope = record.envelope
        pattern = self.pattern
        message = Message(
            envelope,
            captures=pattern.capture(envelope.topic) if pattern.captures else None,
            position=record.position,
            recorded_ns=record.recorded_ns,
            attempt=delivery.attempt,
            settle=self._settle_now,
        )
        context.cause.set(envelope)
        context.attempt.set(delivery.attempt)
        try:
            await self.work(message)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            self._failed(error, message)
        else:
            self.counters.handled += 1
            if not message.is_settled and self._redelivery.ack == "after":
                self._note(message, "ack")

    def _failed(self, error: BaseException, message: Message) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise error
        if is_cancelled(error):
            self._cancelled(message)
            raise error
        self.counters.failed += 1
        what_follows = "was settled by hand"
        if not message.is_settled:
            what_follows = self._try_again(error, message)
        try:
            self._keeper.on_delivery_failed(self, error, message, what_follows)
        except Exception as failure:  # noqa: BLE001 - a log handler is the user's code, too
            self._keeper.loop.call_exception_handler(
                {"message": f"reporting an error of {self.name} failed", "exception": failure}
            )

    def _try_again(self, error: BaseException, message: Message) -> str:
        """Let a message come again that could not be handled, if it may; return what follows."""
        code = error.code if isinstance(error, BusError) else "UNKNOWN"
        if _will_never_succeed(error):
            self._note(message, "term", code=code, reason=text_of(error))
            return "becomes a dead letter, since trying again would not help"
        delay_s = self._redelivery.backoff.delay_s(message.attempt)
        self._note(message, "nak", delay_s=delay_s, code=code, reason=text_of(error))
        most = self._durable.max_deliveries
        if most is not None and message.attempt >= most:
            return "becomes a dead letter, since this was the last attempt"
        return f"comes again in {delay_s:.3g} s"

    def _cancelled(self, message: Message) -> None:
        """Let the attempt count, for it may have had effects, unless it was the last one.

        Who ends a bus makes no dead letter: then the same attempt is made again.
        """
        if message.is_settled:
            return
        most = self._durable.max_deliveries
        is_last = most is not None and message.attempt >= most
        self._note(
            message,
            "defer" if is_last else "nak",
            code="CANCELLED",
            reason="the handler was cancelled, since its bus was closed",
        )

    # -- settling ------------------------------------------------------------------------------

    def _hand_back(self) -> None:
        """Let the settler tell the log that what is queued was not begun: others get it at once."""
        if self._queue:
            self._outcomes += [_said(delivery, "defer") for delivery, _ in self._queue]
            self._queue.clear()
            self._has_outcomes.set()

    def _note(self, message: Message, outcome: Any, **how: Any) -> None:
        """Let the settler tell the log what became of a message."""
        message.is_settled = True
        self._outcomes.append(
            Settlement(
                position=message.position or 0, attempt=message.attempt, outcome=outcome, **how
            )
        )
        self._has_outcomes.set()

    async def _settle_now(self, settlement: Settlement) -> None:
        if self._consumer is None:
            raise StateError("the subscription is not open")
        await self._consumer.settle([settlement])

    async def _settle_all(self, consumer: Consumer) -> None:
        """Tell the log in batches: while one is under way, the next gathers."""
        while True:
            await self._has_outcomes.wait()
            self._has_outcomes.clear()
            outcomes, self._outcomes = self._outcomes, []
            self._settling = True
            try:
                await consumer.settle(outcomes)
            except Exception as error:  # noqa: BLE001 - the next ones can be settled all the same
                if self._is_stopped and isinstance(error, DisconnectedError):
                    outcomes += self._outcomes  # who ends does not wait for a hub twice
                    self._outcomes.clear()
                logger.warning(
                    "%s: what became of %d messages could not be kept, they will be delivered "
                    "again: %s",
                    self.title,
                    len(outcomes),
                    error,
                )
            finally:
                self._settling = False
                self._note_change()

    def _note_change(self) -> None:
        self._changed.set()


def _said(delivery: Delivery, outcome: Outcome) -> Settlement:
    return Settlement(position=delivery.record.position, attempt=delivery.attempt, outcome=outcome)


def _will_never_succeed(error: BaseException) -> bool:
    """Whether another delivery would fail in the same way.

    What is closed now may be open when the message comes again. A full queue is never for good,
    also where publishing once more would say it twice.
    """
    return (
        isinstance(error, BusError)
        and not error.retryable
        and not isinstance(error, StateError | QueueFullError)
    )
