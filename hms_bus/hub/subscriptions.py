"""What listens at the hub: subscriptions with their credit and queue, and groups of them.

A subscription is *ready* when its client reads and, with `block`, has given credit. What comes
while it is not ready waits in its queue, in order, up to the hub's limit for the client. With
`block` that limit is for requests only: of the rest, publishers get no more window meanwhile.
"""

from collections import deque
from collections.abc import Callable

from hms_bus.abc import Overflow
from hms_bus.hub.seams import Client, Sender
from hms_bus.ipc import frames
from hms_bus.ipc.frames import deliver_head
from hms_bus.ipc.session import Failure
from hms_bus.topics import Pattern

_NO_REPLY = b"\0\0"
_SYSTEM = b"$"
"""How messages begin: the length of the reply address, and the address, of what needs no window."""

_AT_ONCE_BYTES = 256 * 2**10

FAIR_SHARE_BYTES = 64 * 2**10
"""What may be held for each client however much the hub holds for others."""


class Wait:
    """A CALL that is answered when all of its messages have found room."""

    __slots__ = ("_answer", "error", "open")

    def __init__(self, answer: Callable[[Failure | None], None]) -> None:
        self._answer = answer
        self.open = 1
        self.error: Failure | None = None

    def add(self) -> "Wait":
        """Wait for one more."""
        self.open += 1
        return self

    def end_one(self, error: Failure | None = None) -> None:
        """One has found room, or was refused; answer when it was the last one."""
        self.error = self.error or error
        self.open -= 1
        if not self.open:
            self._answer(self.error)

    def fail(self, error: Failure) -> None:
        """Note that nothing can come of it; it is answered when the caller's own part ends."""
        self.error = self.error or error


class Held:
    """Messages in a subscription's queue."""

    __slots__ = ("asker", "block", "count", "wait")

    def __init__(self, block: bytes, count: int, wait: Wait | None, asker: Sender | None) -> None:
        self.block = block
        self.count = count
        self.wait = wait
        self.asker = asker
        """Who waits for answers to them, if they are requests."""


class Subscription:
    """One subscription of one client. Counts are messages, unless named otherwise."""

    __slots__ = (
        "answers",
        "credit",
        "delivered",
        "dropped",
        "group",
        "head",
        "is_limited",
        "load",
        "number",
        "overflow",
        "pattern",
        "peer",
        "picked",
        "queue",
        "queued",
        "waiting",
    )

    def __init__(
        self,
        peer: Client,
        number: int,
        pattern: Pattern,
        *,
        group: str | None,
        answers: bool,
        overflow: Overflow,
        credit: int,
    ) -> None:
        self.peer = peer
        self.number = number
        self.pattern = pattern
        self.group = group
        self.answers = answers
        self.overflow: Overflow = overflow
        self.is_limited = overflow == "block"
        self.credit = credit
        self.load = 0
        """Sent and not yet said to be handled."""
        self.picked = 0
        """When its group has picked it last, counted in picks."""
        self.delivered = 0
        self.dropped = 0
        self.queue: deque[Held] = deque()
        self.queued = 0
        """How many messages the queue holds."""
        self.waiting = 0
        """How many CALLs and APPENDs are answered when what the queue holds is sent."""
        self.head = deliver_head([number])

    @property
    def is_ready(self) -> bool:
        """Whether what comes now may be sent now."""
        return not (self.queue or self.peer.is_congested or (self.is_limited and self.credit <= 0))

    @property
    def free(self) -> int:
        """How many messages more there is room for."""
        return self.credit - self.queued

    @property
    def peers(self) -> tuple[Client]:
        """Its client, as those of a group."""
        return (self.peer,)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be held here when the hub holds too much as it is."""
        return not self.is_ready and self.peer.queued_bytes > FAIR_SHARE_BYTES

    def take(self, block: bytes, count: int, wait: Wait | None, asker: Sender | None) -> None:
        """Send messages, or hold them, or drop what the policy says; `asker` waits for answers."""
        if self.is_ready:
            self.peer.send(self.head, block)
            self.note_sent(count)
        else:
            self.hold(block, count, wait, asker)

    def note_sent(self, count: int) -> None:
        """Count messages that were sent."""
        self.load += count
        self.delivered += count
        self.peer.delivered += count
        if self.is_limited:
            self.credit -= count

    def hold(self, block: bytes, count: int, wait: Wait | None, asker: Sender | None) -> None:
        """Queue messages until the client has room for them."""
        held = Held(block, count, wait.add() if wait and self.is_limited else None, asker)
        peer = self.peer
        if peer.queued_bytes + len(block) > peer.max_queued_bytes and not self._bounds(block):
            while self.overflow == "drop_oldest" and self.queue and self._is_over(len(block)):
                self._drop(self._pop())
            if self._is_over(len(block)):
                self._drop(held)
                return
        self.queue.append(held)
        self.waiting += held.wait is not None
        self.queued += count
        peer.note_held(self, len(block), count)

    def _bounds(self, block: bytes) -> bool:
        """Whether the credit here bounds how much like this is sent: not what needs no window."""
        return self.is_limited and block[2:4] == _NO_REPLY and block[4:5] != _SYSTEM

    def _is_over(self, size: int) -> bool:
        return self.peer.queued_bytes + size > self.peer.max_queued_bytes

    def _drop(self, held: Held) -> None:
        self.dropped += held.count
        self.peer.dropped += held.count
        asker = held.asker
        # Not to who does not read: it may send one request to many that drop it.
        if asker is not None and self.answers and not asker.is_congested:
            asker.send_frame(frames.returned(frames.DROPPED, held.block))
        if held.wait is not None:
            held.wait.end_one()

    def _pop(self) -> Held:
        held = self.queue.popleft()
        self.queued -= held.count
        self.waiting -= held.wait is not None
        self.peer.note_released(self, len(held.block), held.count)
        return held

    def pump(self) -> None:
        """Send of the queue what may be sent now."""
        peer = self.peer
        written = 0
        while self.queue and not peer.is_congested and not (self.is_limited and self.credit <= 0):
            held = self._pop()
            peer.send(self.head, held.block)
            self.note_sent(held.count)
            written += len(held.block)
            if written > _AT_ONCE_BYTES:
                peer.flush()  # only that tells whether the client reads
                written = 0
            if held.wait is not None:
                held.wait.end_one()

    def empty(self) -> list[Held]:
        """Take all out of the queue, for the subscription has ended; nobody is answered yet."""
        left: list[Held] = []
        while self.queue:
            left.append(self._pop())
        return left


class Group:
    """The competing subscriptions of one pattern and group name."""

    __slots__ = ("_picks", "_turn", "members", "name", "pattern")

    def __init__(self, pattern: Pattern, name: str) -> None:
        self.pattern = pattern
        self.name = name
        self.members: list[Subscription] = []
        self._turn = 0
        self._picks = 0

    @property
    def answers(self) -> bool:
        """Whether a member does."""
        return any(member.answers for member in self.members)

    @property
    def free(self) -> int:
        """How many messages more there is room for with its members that have a limit."""
        return sum(max(0, member.free) for member in self.members)

    @property
    def peers(self) -> tuple[Client, ...]:
        """The clients of its members."""
        return tuple({member.peer: None for member in self.members})

    @property
    def is_full(self) -> bool:
        """Whether all members are."""
        return all(member.is_full for member in self.members)

    def pick(self) -> Subscription:
        """Return the ready member with the least to do.

        Of those with nothing to do it is the next in turn. Of those with equally much it is the one
        that was picked last: the others have had what they have for longer, so they are slower,
        and what it has finished may not have been told yet.
        """
        members = self.members
        count = len(members)
        if count == 1:
            return members[0]
        self._picks += 1
        start = self._turn = (self._turn + 1) % count
        best = members[start]
        least: tuple[bool, int, int] | None = None
        for step in range(count):
            member = members[(start + step) % count]
            rank = (not member.is_ready, member.load + member.queued, -member.picked)
            if rank[:2] == _IDLE:
                best = member
                break
            if least is None or rank < least:
                best, least = member, rank
        best.picked = self._picks
        return best


_IDLE = (False, 0)
