"""The bounded queue in front of a subscription.

The transport offers, the subscription's lanes take. Offering never waits: what is offered is in the
queue when `offer` returns, in the order of the calls, and a publisher that may wait gets a future
that completes when there is room. So the queue holds at most its limit plus one message for each
waiting publisher, and nobody overtakes. Publishers that gave up waiting have left their message
behind; when 1,024 of them have (or as many as the limit), the next one is refused.

Hot path: an offer is a type check, a deque append and, once per burst, one wake-up (100 ns).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import heapify, heappop, heappush
from typing import Protocol, get_args

from hms_bus.abc import Overflow
from hms_bus.envelope import DEFAULT_PRIORITY, Envelope
from hms_bus.errors import ConfigError, QueueFullError

Item = tuple[Envelope, str | None]
"""An accepted envelope and the address that replies go to."""


class Owner(Protocol):
    """Whose mailbox it is; told of what the mailbox cannot decide."""

    @property
    def title(self) -> str:
        """What errors call the mailbox."""
        ...

    def on_dropped(self, envelope: Envelope, reply_to: str | None) -> None:
        """A full queue has dropped this message."""
        ...

    def before_wait(self, room: asyncio.Future[None]) -> list[str]:
        """Take note that a publisher waits for `room`; name those who would then wait for ever."""
        ...

    def grow(self) -> None:
        """A message was accepted and nobody waits for one: start another taker.

        Called only while the mailbox `can_grow`.
        """
        ...


def check_overflow(policy: str) -> None:
    """Raise `ConfigError` unless `policy` is an `Overflow`."""
    if policy not in get_args(Overflow):
        known = ", ".join(get_args(Overflow))
        raise ConfigError(f"unknown overflow policy {policy!r}; known: {known}")


_MAX_ABANDONED = 1024
_HOLDS_BACK: frozenset[Overflow] = frozenset({"block", "error"})

# Stands in for the queue of a mailbox that was never used: an empty deque takes 760 bytes.
_UNUSED: deque[Item] = deque(maxlen=0)


class Mailbox:
    """Accepted messages in the order of priority, then of arrival. One event loop only."""

    __slots__ = (
        "_abandoned",
        "_heap",
        "_limit",
        "_loop",
        "_order",
        "_overflow",
        "_owner",
        "_resume_at",
        "can_grow",
        "in_progress",
        "publishers",
        "queue",
        "ranked",
        "takers",
    )

    def __init__(
        self,
        owner: Owner,
        *,
        limit: int,
        overflow: Overflow,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._owner = owner
        self._limit = limit
        self._resume_at = limit // 2
        self._overflow: Overflow = overflow
        self._loop = loop
        self.queue: deque[Item] = _UNUSED
        """Messages of the default priority. A lane may pop from it while nothing is `ranked`."""
        self._heap: list[tuple[int, int, Item]] = []
        self._order = 0
        self._abandoned = 0
        self.ranked = 0
        """How many messages of another priority wait."""
        self.publishers: list[asyncio.Future[None]] = []
        """Those who wait for room; `take` lets them go."""
        self.takers: list[asyncio.Future[None]] = []
        """Those who wait for a message, first come first served; `offer` completes one."""
        self.in_progress = 0
        """How many takers are at work; each counts itself from its first message to its wait."""
        self.can_grow = False
        """Whether the owner can start another taker."""

    def __len__(self) -> int:
        return len(self.queue) + self.ranked

    @property
    def load(self) -> int:
        """Accepted and not handled yet."""
        return len(self.queue) + self.ranked + self.in_progress

    @property
    def room(self) -> int | None:
        """How many messages more it holds; `None` where a full queue holds nobody back."""
        if self._overflow not in _HOLDS_BACK:
            return None
        return max(0, self._limit - len(self.queue) - self.ranked)

    def on_room(self, notify: Callable[[], None]) -> None:
        """Call `notify` once, soon, when at most half of the limit is queued."""
        if len(self) <= self._resume_at:
            self._loop.call_soon(notify)
            return
        room: asyncio.Future[None] = self._loop.create_future()
        room.add_done_callback(lambda _: notify())
        self.publishers.append(room)

    def offer(self, envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        """Accept, or apply the overflow policy; see `hms_bus.abc.Sink`."""
        room: Awaitable[None] | None = None
        queue = self.queue
        if queue is _UNUSED:
            queue = self.queue = deque()
        if len(queue) + self.ranked >= self._limit:
            if self._drops_new(envelope, reply_to):
                self._owner.on_dropped(envelope, reply_to)
                return None
            room = self._make_room()
        if envelope.priority is None or envelope.priority == DEFAULT_PRIORITY:
            queue.append((envelope, reply_to))
        else:
            self._rank(envelope.priority, (envelope, reply_to))
        if self.takers:
            self._wake()
        elif self.can_grow:
            self._owner.grow()
        return room

    def _wake(self) -> None:
        while self.takers:
            taker = self.takers.pop(0)
            if not taker.done():
                taker.set_result(None)
                return

    def _rank(self, priority: int, item: Item) -> None:
        self._order += 1
        heappush(self._heap, (-priority, self._order, item))
        self.ranked += 1

    def _make_room(self) -> Awaitable[None] | None:
        if self._overflow == "error":
            raise QueueFullError(queue=self._owner.title, limit=self._limit)
        if self._overflow == "drop_oldest":
            self._owner.on_dropped(*self._take_oldest())
            return None
        if self._abandoned >= max(self._limit, _MAX_ABANDONED):
            raise QueueFullError(queue=self._owner.title, limit=self._limit)
        room = self._loop.create_future()
        if cycle := self._owner.before_wait(room):
            raise QueueFullError(queue=self._owner.title, limit=self._limit, cycle=cycle)
        room.add_done_callback(self._note_abandoned)
        self.publishers.append(room)
        return room

    def _note_abandoned(self, room: asyncio.Future[None]) -> None:
        self._abandoned += room.cancelled()

    def _drops_new(self, envelope: Envelope, reply_to: str | None) -> bool:
        """Whether the full queue drops the new message.

        A request is never refused by an exception: not every transport is still in touch with who
        sent it. It is dropped, and its caller is told.
        """
        if self._overflow == "drop_newest":
            return True
        if self._overflow == "error":
            return reply_to is not None
        return self._overflow == "drop_oldest" and self._is_least(envelope.priority)

    def _is_least(self, priority: int | None) -> bool:
        """Whether a message of this priority is less urgent than all that wait."""
        waiting = [-entry[0] for entry in self._heap]
        least = min([*waiting, DEFAULT_PRIORITY] if self.queue else waiting)
        return (DEFAULT_PRIORITY if priority is None else priority) < least

    def _take_oldest(self) -> Item:
        """Take the oldest of the least urgent."""
        entry = max(self._heap, key=lambda entry: (entry[0], -entry[1]), default=None)
        if entry is None or (self.queue and -entry[0] > DEFAULT_PRIORITY):
            return self.queue.popleft()
        self._heap.remove(entry)
        heapify(self._heap)
        self.ranked -= 1
        return entry[2]

    def take(self) -> Item | None:
        """Take the most urgent, of equals the oldest; `None` when empty."""
        if self.ranked:
            item = self._take_ranked()
        elif self.queue:
            item = self.queue.popleft()
        else:
            return None
        if self.publishers and len(self.queue) + self.ranked <= self._resume_at:
            self._admit()
        return item

    def _take_ranked(self) -> Item:
        if self.queue and -self._heap[0][0] < DEFAULT_PRIORITY:
            return self.queue.popleft()
        self.ranked -= 1
        return heappop(self._heap)[2]

    def _admit(self) -> None:
        for publisher in self.publishers:
            if not publisher.done():
                publisher.set_result(None)
        self.publishers.clear()
        self._abandoned = 0

    async def wait(self) -> None:
        """Return when something may be there to take. Cancelling loses no wake-up."""
        taker = self._loop.create_future()
        self.takers.append(taker)
        try:
            await taker
        except asyncio.CancelledError:
            if taker in self.takers:
                self.takers.remove(taker)
            elif self:
                self._wake()
            raise

    def __bool__(self) -> bool:
        return bool(self.queue or self.ranked)

    def close(self) -> list[Item]:
        """Let every waiting publisher go and return what was not taken, most urgent first."""
        left: list[Item] = []
        while (item := self.take()) is not None:
            left.append(item)
        self._admit()
        return left
