"""The middle of the hub: what a client sends goes to whoever listens, undecoded.

Everything here happens at once, in the turn of the event loop in which a frame was read; what was
written to clients is flushed when the bytes that were read have been dealt with.

Hot path: messages of one frame cost one look-up, one check of the sender's window and one write for
each client that gets them, however many they are.
"""

from msgspec import Struct

from hms_bus.errors import FrameError, TopicError
from hms_bus.hub.callers import Callers
from hms_bus.hub.delivery import Delivery, Parcel, no_room
from hms_bus.hub.routes import Route, Routes
from hms_bus.hub.seams import Client, Sender
from hms_bus.hub.subscriptions import FAIR_SHARE_BYTES, Held, Subscription, Wait
from hms_bus.ipc import frames
from hms_bus.ipc.frames import Messages
from hms_bus.ipc.session import Failure
from hms_bus.topics import check_topic

WINDOW_BYTES = 4 * 2**20
"""What a publisher may send to one address before it has to ask, by the size of what it sent."""

_SYSTEM = b"$"


class Counts(Struct):
    """What the hub has done since it began, in messages and bytes.

    `delivered` and `dropped` are those of clients that have gone; the others count themselves.
    """

    received: int = 0
    delivered: int = 0
    dropped: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    returned: int = 0
    refused: int = 0


class Switchboard:
    """Passes messages on between peers, and keeps the windows of those who send."""

    def __init__(self, *, max_window: int, max_bytes: int) -> None:
        self.routes = Routes()
        self.counts = Counts()
        self.queued_bytes = 0
        """What is held for all clients together."""
        self._max_window = max_window
        self._max_bytes = max_bytes
        self._dirty: list[Client] = []
        self._held_back: dict[Sender, set[Sender]] = {}
        """Of whom nothing is read, by the client whose queue is full."""
        self._delivery = Delivery()
        self._callers = Callers(self.find)

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, sender: Client, content: bytes, at: int, wait: Wait | None) -> None:
        """Pass on the messages at `at` of a frame; `wait` is that of a CALL."""
        found = frames.read_messages(content, at)
        address, number = found.address, found.count
        route = self.routes.known.get(address) or self.find(address)
        if not sender.may_publish(address):
            self._refuse(sender, content[at:], number, address, wait)
            return
        sender.received += number
        self.counts.received += number
        if wait is None and not found.reply_to and not address.startswith(_SYSTEM):
            self._use_window(sender, address, number, route, len(content))
        if self.queued_bytes > self._max_bytes:
            self.check_room(sender, route)
            if wait is not None and (full := self.find_full(sender, route)):
                wait.fail(full)
                return
        if not route.is_empty or found.reply_to:
            self.deliver(route, Parcel(sender, content, at, found, wait))

    def find(self, address: bytes) -> Route:
        """Return the route of an address. Raises `FrameError` for what is no topic."""
        try:
            check_topic(address.decode())
        except UnicodeDecodeError:
            raise FrameError("an address is no UTF-8", reason="bad-topic") from None
        except TopicError as error:
            raise FrameError(str(error), reason="bad-topic") from error
        return self.routes.find(address)

    def _refuse(
        self, sender: Client, block: bytes, number: int, address: bytes, wait: Wait | None
    ) -> None:
        self.counts.refused += number
        failure = sender.deny_publish(address.decode())
        if wait is None:
            sender.send_frame(frames.returned(frames.DENIED, block))
        else:
            wait.fail(failure)

    # -- windows -------------------------------------------------------------------------------

    def _use_window(
        self, sender: Client, address: bytes, number: int, route: Route, size: int
    ) -> None:
        left = sender.windows.get(address, 0) - number
        if left < 0:
            raise FrameError(f"{-left} messages more than its window were sent to an address")
        capacity = self._capacity(route, number, size)
        if left < capacity and left <= capacity // 2:
            sender.send_frame(
                frames.frame(frames.WINDOW, frames.U32.pack(capacity - left), address)
            )
            left = capacity
        sender.windows[address] = left

    def grant(self, sender: Client, found: Messages, size: int) -> int:
        """Return how many messages more a sender whose CALL is answered may send to an address."""
        address = found.address
        if address.startswith(_SYSTEM):
            return 0
        windows = sender.windows
        left = windows.get(address, 0)
        if not left and len(windows) >= sender.limits.max_topics and address not in windows:
            return 0
        route = self.routes.known.get(address) or self.routes.find(address)
        more = max(0, self._capacity(route, found.count, size) - left)
        windows[address] = left + more
        return more

    def _capacity(self, route: Route, number: int, size: int) -> int:
        most = min(self._max_window, max(1, WINDOW_BYTES * number // size))
        return route.capacity(most)

    @property
    def is_overfull(self) -> bool:
        """Whether more is held for all clients together than should be."""
        return self.queued_bytes > self._max_bytes

    def check_room(self, sender: Sender, route: Route) -> None:
        """Read nothing more from who sends to a full queue, while the hub holds too much for all.

        But whom something is held for has to be heard: its credit is what makes room. And who
        sends elsewhere has done nothing to fill the hub.
        """
        if not self.is_overfull or sender.queued_bytes:
            return
        for target in route.limited:
            if target.is_full:
                sender.hold_back(self)
                for peer in target.peers:
                    self._held_back.setdefault(peer, set()).add(sender)

    def find_full(self, sender: Sender, route: Route) -> Failure | None:
        """Return how who sends is refused, if it cannot be held back though there is no room."""
        if self.is_overfull and sender.queued_bytes:
            for target in route.limited:
                if target.is_full:
                    return no_room(target.pattern.text)
        return None

    def note_released(self, peer: Sender, size: int) -> None:
        """Count bytes that are held for `peer` no more; go on reading when there is room."""
        self.queued_bytes -= size
        if self._held_back:
            if self.queued_bytes < self._max_bytes // 2:
                for each in list(self._held_back):
                    self._let_go_on(each)
            elif peer in self._held_back and peer.queued_bytes <= FAIR_SHARE_BYTES // 2:
                self._let_go_on(peer)

    def _let_go_on(self, peer: Sender) -> None:
        """Read again from those who were held back for what is held for `peer`."""
        for sender in self._held_back.pop(peer, ()):
            sender.go_on(self)

    def deliver(self, route: Route, parcel: Parcel) -> None:
        """Give messages to all that a route leads to, or back when nobody would answer."""
        if parcel.reply_to:
            if not route.answers:
                self.counts.returned += parcel.count
                parcel.sender.send_frame(frames.returned(frames.NO_RESPONDERS, parcel.block))
                return
            self._callers.note(route, parcel.reply_to)
        self._delivery.deliver(route, parcel)

    def take_verdict(self, peer: Client, ask: int, failure: Failure | None) -> None:
        """Learn what a client makes of an OFFER. Raises `FrameError`."""
        self._delivery.take_verdict(peer, ask, failure)

    # -- who listens ---------------------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription get what is published from now on."""
        self.routes.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. What is held for it goes to its group, or to itself if it lives.

        Requests for which there is neither are returned, unless somebody else answers them.
        """
        group = self.routes.remove(subscription)
        for held in subscription.empty():
            if group is not None:
                found = frames.read_messages(held.block, 0)
                sender = held.asker or subscription.peer
                self._delivery.deal_out(group, Parcel(sender, held.block, 0, found, held.wait))
            elif subscription.peer.is_open:
                subscription.peer.send(subscription.head, held.block)
                subscription.note_sent(held.count)
            elif held.asker is not None and subscription.answers:
                self._return(held.asker, held)
            if held.wait is not None:
                held.wait.end_one()
        self._delivery.forget(subscription)
        self._callers.end(subscription)

    def _return(self, asker: Sender, held: Held) -> None:
        """Give back a request that was held for who has gone."""
        if not self.find(frames.read_messages(held.block, 0).address).answers:
            self.counts.returned += held.count
            asker.send_frame(frames.returned(frames.NO_RESPONDERS, held.block))

    def forget(self, peer: Client) -> None:
        """Let go of a client that has gone, and whose subscriptions have ended."""
        self.counts.delivered += peer.delivered
        self.counts.dropped += peer.dropped
        self._callers.forget(peer)
        self._let_go_on(peer)
        for held_back in self._held_back.values():
            held_back.discard(peer)
        self.flush()

    # -- writing -------------------------------------------------------------------------------

    def note_dirty(self, peer: Client) -> None:
        """Take note that something is to be written to a peer."""
        self._dirty.append(peer)

    def flush(self) -> None:
        """Write what has come together for each client, in one piece."""
        if self._dirty:
            dirty, self._dirty = self._dirty, []
            for peer in dirty:
                try:
                    peer.flush()
                except Exception as error:  # noqa: BLE001 - a bug in here ends one client
                    peer.fail_with(error)
