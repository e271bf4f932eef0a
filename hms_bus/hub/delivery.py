"""Delivering: from messages that have found their route to the clients that get them."""

from itertools import count as counting

from hms_bus.errors import FrameError
from hms_bus.hub.routes import Route
from hms_bus.hub.seams import Client, Sender
from hms_bus.hub.subscriptions import Group, Subscription, Wait
from hms_bus.ipc import frames
from hms_bus.ipc.frames import Messages
from hms_bus.ipc.session import Failure

_MAX_ASKED = 4096
"""Verdicts of one subscription that are waited for at a time; then it counts as full."""


class Parcel:
    """Messages on their way: `block` is what travels on, `wait` who is told when there is room."""

    __slots__ = ("asker", "block", "count", "found", "reply_to", "sender", "wait")

    def __init__(
        self, sender: Sender, content: bytes, at: int, found: Messages, wait: Wait | None
    ) -> None:
        """Take the messages that were found at `at` of a frame."""
        self.sender = sender
        self.block = content[at:]
        self.found = found if not at else _shifted(found, at)
        self.count = found.count
        self.reply_to = found.reply_to
        self.asker = sender if found.reply_to else None
        self.wait = wait

    def envelopes(self) -> list[bytes]:
        """Return the envelopes, encoded as they came."""
        return frames.envelopes_of(self.block, self.found)

    def part(self, *envelopes: bytes) -> bytes:
        """Return some of the envelopes as messages of their own."""
        if len(envelopes) == self.count:
            return self.block
        return frames.messages(self.found.address, self.reply_to, envelopes)

    def needs_verdict_of(self, subscription: Subscription) -> bool:
        """Whether a client is asked first. Who wants an answer gets that from the client itself."""
        return subscription.overflow == "error" and not self.reply_to


class Delivery:
    """Gives parcels to subscriptions, and keeps the questions to those that decide themselves."""

    def __init__(self) -> None:
        self._asks: dict[int, tuple[Subscription, Wait | None]] = {}
        self._asked: dict[Subscription, set[int]] = {}
        self._ask_numbers = counting(1)

    def deliver(self, route: Route, parcel: Parcel) -> None:
        """Give messages to all that a route leads to."""
        block, count, wait, asker = parcel.block, parcel.count, parcel.wait, parcel.asker
        for fan in route.fans:
            subscriptions = fan.subscriptions
            if len(subscriptions) == 1:
                subscriptions[0].take(block, count, wait, asker)
            elif all(subscription.is_ready for subscription in subscriptions):
                fan.peer.send(fan.head, block)
                for subscription in subscriptions:
                    subscription.note_sent(count)
            else:
                for subscription in subscriptions:
                    subscription.take(block, count, wait, asker)
        for group in route.groups:
            self.deal_out(group, parcel)
        for subscription in route.refusing:
            self._give(subscription, parcel, parcel.envelopes())

    def deal_out(self, group: Group, parcel: Parcel) -> None:
        """Give each message to a member; what goes to one member travels together."""
        if parcel.count == 1 or len(group.members) == 1:
            self._give(group.pick(), parcel, parcel.envelopes())
            return
        shares: dict[Subscription, list[bytes]] = {}
        for envelope in parcel.envelopes():
            member = group.pick()
            shares.setdefault(member, []).append(envelope)
            # Counted at once, so that the next one is picked with it in mind.
            member.load += 1
        for member, envelopes in shares.items():
            member.load -= len(envelopes)
            self._give(member, parcel, envelopes)

    def _give(self, member: Subscription, parcel: Parcel, envelopes: list[bytes]) -> None:
        if not parcel.needs_verdict_of(member):
            block = parcel.part(*envelopes)
            member.take(block, len(envelopes), parcel.wait, parcel.asker)
            return
        for envelope in envelopes:
            self._offer(member, parcel.part(envelope), parcel.wait)

    def _offer(self, subscription: Subscription, block: bytes, wait: Wait | None) -> None:
        """Ask the client whether it takes one message."""
        peer = subscription.peer
        asked = self._asked.setdefault(subscription, set())
        if peer.is_congested or len(asked) >= _MAX_ASKED:
            subscription.dropped += 1
            peer.dropped += 1
            if wait is not None:
                wait.add().end_one(no_room(subscription.pattern.text))
            return
        ask = next(self._ask_numbers) & 0xFFFF_FFFF
        asked.add(ask)
        self._asks[ask] = (subscription, wait.add() if wait is not None else None)
        peer.send_frame(frames.offer(ask, (subscription.number,), block))
        subscription.note_sent(1)

    def take_verdict(self, peer: Client, ask: int, failure: Failure | None) -> None:
        """Learn what a client makes of an OFFER."""
        asked = self._asks.get(ask)
        if asked is None:
            return  # its subscription has ended
        subscription, wait = asked
        if subscription.peer is not peer:
            raise FrameError(f"a verdict on {ask}, which another client was asked")
        del self._asks[ask]
        self._asked[subscription].remove(ask)
        if failure is not None:
            subscription.dropped += 1
            subscription.peer.dropped += 1
        if wait is not None:
            wait.end_one(failure)

    def forget(self, subscription: Subscription) -> None:
        """Wait for no verdict of a subscription that has ended."""
        for ask in list(self._asked.get(subscription, ())):
            self.take_verdict(subscription.peer, ask, None)
        self._asked.pop(subscription, None)


def _shifted(found: Messages, at: int) -> Messages:
    """Return the places of messages whose frame was cut by `at` bytes at its beginning."""
    return Messages(found.address, found.reply_to, found.first - at, found.count)


def no_room(pattern: str) -> Failure:
    """Return how a message is refused that cannot be held for a client that takes nothing."""
    return Failure(
        code="RESOURCE_EXHAUSTED",
        message=f"the client of {pattern!r} takes nothing, and the hub can hold no more for it",
        reason="queue-full",
        retryable=True,
        details={"queue": pattern, "limit": 0},
    )
