"""Who was given which reply address, to be told when nobody listens there any more (GONE)."""

from collections.abc import Callable

from hms_bus.hub.routes import Route
from hms_bus.hub.seams import Client
from hms_bus.hub.subscriptions import Subscription
from hms_bus.ipc import frames
from hms_bus.topics import covers

_MAX_BELOW = 4096
"""Addresses that are remembered of those that nobody has subscribed to by their own name.

There may be a new one for each request, and no end of them tells when one is done with.
"""


class Callers:
    """Remembers the clients that each reply address was given to.

    `find` returns the route of an address, and raises `FrameError` for what is none.
    """

    def __init__(self, find: Callable[[bytes], Route]) -> None:
        self._find = find
        self._named: dict[bytes, set[Client]] = {}
        self._below: dict[bytes, set[Client]] = {}

    def note(self, route: Route, reply_to: bytes) -> None:
        """Remember that `reply_to` is given to all clients that a route leads to."""
        given = self._named.get(reply_to) or self._below.get(reply_to)
        if given is None:
            given = self._begin(reply_to)
        if given is not None:
            for peer in route.peers:
                if peer not in given:
                    given.add(peer)
                    peer.given.add(reply_to)

    def _begin(self, reply_to: bytes) -> set[Client] | None:
        """Return the clients of an address that is new, `None` when nobody listens there."""
        listening = self._find(reply_to)
        if listening.is_empty:
            return None
        given: set[Client] = set()
        if listening.is_named(reply_to.decode()):
            self._named[reply_to] = given
        else:
            self._keep_below(reply_to, given)
        return given

    def end(self, subscription: Subscription) -> None:
        """Tell of the addresses at which nobody listens any more without this subscription."""
        tokens = subscription.pattern.tokens
        if "*" not in tokens and tokens[-1] != ">":
            self._tell(subscription.pattern.plain.encode(), subscription.peer)
        elif tokens[0].startswith("$"):
            for address in list(self._below):
                if covers(tokens, tuple(address.decode().split("."))):
                    self._tell(address, subscription.peer)

    def _tell(self, address: bytes, gone: Client) -> None:
        if address in self._named:
            route = self._find(address)
            is_over = not route.is_named(address.decode())
            if is_over and gone in route.peers:
                # It still listens there, by a pattern; that ends some time, maybe untold.
                self._keep_below(address, self._named.pop(address))
                return
        elif address in self._below:
            is_over = self._find(address).is_empty
        else:
            return
        if is_over:
            for peer in self._forget(address):
                if peer is not gone:
                    peer.send_frame(frames.frame(frames.GONE, address))

    def _keep_below(self, address: bytes, given: set[Client]) -> None:
        if len(self._below) >= _MAX_BELOW:
            self._forget(next(iter(self._below)))
        self._below[address] = given

    def _forget(self, address: bytes) -> set[Client]:
        given = self._named.pop(address, None) or self._below.pop(address, set())
        for peer in given:
            peer.given.discard(address)
        return given

    def forget(self, peer: Client) -> None:
        """Tell nothing more to a client that has gone."""
        for address in peer.given:
            for known in (self._named, self._below):
                if given := known.get(address):
                    given.discard(peer)
        peer.given.clear()
