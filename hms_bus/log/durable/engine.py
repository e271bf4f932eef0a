"""One durable at work: it reads the log, hands out to its consumers, and keeps what they say."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Protocol

from hms_bus.abc import Delivery, DurableInfo, Head, Record, Selector, Settlement
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, StateError, UsageError
from hms_bus.log.durable.cursor import Cursor
from hms_bus.log.durable.dead import dead_letter
from hms_bus.log.durable.saved import Changes, Saved
from hms_bus.logrules import dead_letter_topic
from hms_bus.topics import parse_pattern

_LOOK_AGAIN_S = 5.0
"""How long a wait is trusted: the loop's clock stands still while the machine sleeps."""


class Shelf(Protocol):
    """The log, as far as its durables need it."""

    def read_batches(
        self, selector: Selector, *, follow: bool = False
    ) -> AsyncGenerator[list[Record]]:
        """Yield the selected records in lists, none of them empty."""
        ...

    async def read_at(self, positions: Sequence[int]) -> list[Record]:
        """Return the records at `positions`, which are there and in order. Raises `LogError`."""
        ...

    async def count(self, wants_topic: Callable[[str], bool], after: int) -> int:
        """Return how many records on wanted topics lie behind a position, up to a million."""
        ...

    async def keep(self, changes: Changes, dead_letters: Sequence[Envelope]) -> None:
        """Keep the changes and append the dead letters, both or neither. Raises `LogError`."""
        ...

    async def load(self, name: str) -> Saved | None:
        """Return what is kept of a durable."""
        ...

    async def load_all(self) -> list[Saved]:
        """Return what is kept of all durables, by name."""
        ...

    async def remove(self, name: str) -> None:
        """Remove all that is kept of a durable. Raises `LogError`."""
        ...

    async def head(self) -> Head:
        """Return the end of the log."""
        ...

    def claim(self, name: str) -> AbstractContextManager[None]:
        """Return the scope in which nobody else works on a durable.

        Entering it raises `DurableInUseError`, in a log that others have open, too.
        """
        ...


class Engine:
    """One durable, from its first consumer to its last. On one event loop."""

    def __init__(self, shelf: Shelf, saved: Saved, *, is_new: bool = False) -> None:
        self.cursor = Cursor(saved, is_new=is_new)
        self.consumers: set[LogConsumer] = set()
        self._shelf = shelf
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._room = asyncio.Event()
        self._feeder: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._failure: BusError | None = None
        self._is_stopped = False
        self._matches = parse_pattern(self.cursor.durable.pattern).matches
        own = dead_letter_topic(self.cursor.durable.name)
        self._own_letters = own if self._matches(own) else None
        """Its dead letters, if it selects their topic: they are passed over, else each that fails
        made another one."""

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what was left, and begin to read behind it."""
        await self.take_up()
        pattern = self.cursor.durable.pattern
        self._feeder = self._loop.create_task(self._feed(), name=f"feed {pattern}")

    async def take_up(self) -> None:
        """Take up what was left."""
        singles, between = self.cursor.missing()
        left: list[Record] = await self._shelf.read_at(singles) if singles else []
        if between:
            pattern = self.cursor.durable.pattern
            bounds = Selector(pattern=pattern, first=between.start, last=between.stop - 1)
            async with aclosing(self._shelf.read_batches(bounds)) as batches:
                async for batch in batches:
                    left += self._wanted(batch)
        self.cursor.restore(left)

    def _wanted(self, batch: list[Record]) -> list[Record]:
        own = self._own_letters
        return batch if own is None else [each for each in batch if each.envelope.topic != own]

    def _wants_topic(self, topic: str) -> bool:
        return self._matches(topic) and topic != self._own_letters

    async def stop(self) -> None:
        """Stop reading, keep what was settled, let those who wait go."""
        if self._feeder is not None:
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)
        with suppress(BusError):
            await self.keep()
        self._is_stopped = True
        self._wake_all()

    async def _feed(self) -> None:
        selector = Selector(pattern=self.cursor.durable.pattern, first=self.cursor.fed + 1)
        try:
            async with aclosing(self._shelf.read_batches(selector, follow=True)) as batches:
                async for batch in batches:
                    self.cursor.feed(self._wanted(batch))
                    self._wake()
                    while not self.cursor.wants_records:
                        self._room.clear()
                        await self._room.wait()
            self._failure = StateError("the log is closed")
        except BusError as error:
            self._failure = error
        self._wake_all()

    # -- handing out ---------------------------------------------------------------------------

    async def fetch(self, limit: int, consumer: "LogConsumer") -> list[Delivery]:
        """See `hms_bus.abc.Consumer.fetch`."""
        if limit < 1:
            raise UsageError(f"limit is {limit}: a fetch takes at least 1 delivery")
        while True:
            if consumer not in self.consumers:
                raise StateError("the consumer is closed")
            deliveries = self.cursor.take(limit, time.time_ns(), consumer)
            if self.cursor.wants_records:
                self._room.set()
            if deliveries:
                await self._hand_over(deliveries)
                if consumer in self.consumers:
                    return deliveries
                continue  # it was closed meanwhile, and all that it had was handed back
            if self.cursor.is_changed:
                await self.keep()
                continue
            if self._failure is not None:
                raise self._take_failure()
            await self._wait()

    def _take_failure(self) -> BusError:
        """Return why nothing is read any more; the next one who asks has it tried again."""
        failure = self._failure
        if failure is None or isinstance(failure, StateError):
            return failure or StateError("the log is closed")
        self._failure = None
        self._feeder = self._loop.create_task(self._feed(), name="feed again")
        return failure

    async def _hand_over(self, deliveries: list[Delivery]) -> None:
        """Keep that they were delivered, before they are."""
        try:
            await self.keep()
        except BaseException:
            self.cursor.take_back(deliveries, time.time_ns())
            self._wake()
            raise
        self._wake()  # there may be more, for whoever waits next

    async def _wait(self) -> None:
        """Wait for one's turn to look again, or until something is due."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        due_ns = self.cursor.next_due_ns()
        timer = None
        if due_ns is not None:
            wait_s = max(due_ns - time.time_ns(), 0) / 1e9 + 0.001
            timer = self._loop.call_later(min(wait_s, _LOOK_AGAIN_S), self._wake)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._wake()  # it was this one's turn, and is the next one's now
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake()

    # -- settling ------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """See `hms_bus.abc.Consumer.settle`."""
        if self._is_stopped:
            raise StateError("the consumer is closed")  # another engine may be at work
        now_ns = time.time_ns()
        for settlement in settlements:
            self.cursor.settle(settlement, now_ns)
        self._wake()
        await self.keep()

    async def redrive(self, records: Sequence[Record]) -> None:
        """See `hms_bus.abc.ConsumingLog.redrive`."""
        self.cursor.redrive(records)
        self._wake()
        await self.keep()

    async def keep(self) -> None:
        """Return when all that has changed so far is kept, together with what others have changed.

        While one step is under way, the next gathers. Raises `LogError`.
        """
        if self._next is None:
            self._next = self._loop.create_task(self._keep_behind(self._keeping))
        await asyncio.shield(self._next)

    async def _keep_behind(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        self._keeping, self._next = self._next, None
        dead = self.cursor.dead
        if not self.cursor.is_changed and not dead:
            return
        self.cursor.dead = []
        changes = self.cursor.changes()
        try:
            letters = [dead_letter(self.cursor.durable.name, one) for one in dead]
            await self._shelf.keep(changes, letters)
        except BaseException:
            self.cursor.not_kept(changes, dead)
            raise

    def leave(self, consumer: "LogConsumer", *, hands_back: bool) -> None:
        """Let a consumer go; what it holds is delivered again at once, or after the ack wait."""
        self.consumers.discard(consumer)
        if hands_back:
            self.cursor.hand_back(consumer, time.time_ns())
        else:
            self.cursor.abandon(consumer)
        self._wake_all()

    async def info(self) -> DurableInfo:
        """Return how it stands."""
        cursor = self.cursor
        ahead = await self._shelf.count(self._wants_topic, cursor.delivered)
        return DurableInfo(
            durable=cursor.durable,
            floor=cursor.settled_to,
            delivered=cursor.delivered,
            unacked=cursor.unacked,
            redelivered=cursor.redelivered,
            lag=ahead + cursor.held_back,
            consumers=len(self.consumers),
            dead=tuple(sorted(cursor.dead_positions)),
        )


class LogConsumer:
    """A consumer of a log in this process. Contract: `hms_bus.abc.Consumer`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_abandoned = False

    async def fetch(self, limit: int) -> list[Delivery]:
        """Wait for deliveries; see `hms_bus.abc.Consumer.fetch`."""
        return await self._engine.fetch(limit, self)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Say what became of deliveries; see `hms_bus.abc.Consumer.settle`."""
        if self not in self._engine.consumers and not self._is_abandoned:
            raise StateError("the consumer is closed: what it held was handed back")
        await self._engine.settle(settlements)

    def abandon(self) -> None:
        """Let go without handing back; see `hms_bus.abc.Consumer.abandon`."""
        self._is_abandoned = True

    def close(self) -> None:
        """Hand back what is held, or leave it to the ack wait if it was abandoned."""
        self._engine.leave(self, hands_back=not self._is_abandoned)
