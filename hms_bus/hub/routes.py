"""Who gets what is sent to an address: compiled once per address, found by one dict access."""

from collections.abc import Iterable

from hms_bus.hub.seams import Client
from hms_bus.hub.subscriptions import Group, Subscription
from hms_bus.ipc.frames import deliver_head
from hms_bus.topics import TopicIndex

Target = Subscription | Group


class Fan:
    """The subscriptions of one client that all get the same messages, which travel once."""

    __slots__ = ("head", "peer", "subscriptions")

    def __init__(self, peer: Client, subscriptions: Iterable[Subscription]) -> None:
        self.peer = peer
        self.subscriptions = tuple(subscriptions)
        self.head = deliver_head(subscription.number for subscription in self.subscriptions)


class Route:
    """The targets of one address.

    `fans` are subscriptions in no group, `refusing` those of them that answer with a verdict,
    `limited` those whose credit bounds what publishers may send. `peers` are the clients that may
    get a message.
    """

    __slots__ = (
        "answers",
        "fans",
        "groups",
        "is_empty",
        "limited",
        "needs_verdict",
        "peers",
        "refusing",
        "targets",
    )

    def __init__(self, targets: list[Target]) -> None:
        self.targets = tuple(targets)
        singles = [target for target in targets if isinstance(target, Subscription)]
        self.groups = tuple(target for target in targets if isinstance(target, Group))
        self.refusing = tuple(single for single in singles if single.overflow == "error")
        fanned: dict[Client, list[Subscription]] = {}
        for single in singles:
            if single.overflow != "error":
                fanned.setdefault(single.peer, []).append(single)
        self.fans = tuple(Fan(peer, members) for peer, members in fanned.items())
        self.limited: tuple[Target, ...] = tuple(
            target for target in targets if _is_limited(target)
        )
        self.answers = any(target.answers for target in targets)
        self.needs_verdict = bool(self.refusing) or any(
            member.overflow == "error" for group in self.groups for member in group.members
        )
        self.is_empty = not targets
        members = [*singles, *(member for group in self.groups for member in group.members)]
        self.peers = tuple({member.peer: None for member in members})

    def is_named(self, address: str) -> bool:
        """Whether somebody has subscribed to the address by its own name."""
        return any(target.pattern.plain == address for target in self.targets)

    def capacity(self, most: int) -> int:
        """Return how many messages may be sent here without asking, at most `most`."""
        if self.needs_verdict:
            return 0
        for target in self.limited:
            most = min(most, target.free)
        return max(0, most)


def _is_limited(target: Target) -> bool:
    if isinstance(target, Group):
        return all(member.is_limited for member in target.members)
    return target.is_limited


class Routes:
    """All subscriptions of the hub by pattern, and the routes by address (bytes, as in frames)."""

    def __init__(self) -> None:
        self._index: TopicIndex[Target, Route] = TopicIndex(Route)
        self._groups: dict[tuple[str, str], Group] = {}
        self.known: dict[bytes, Route] = {}
        """The routes that were asked for since the last change."""

    def __len__(self) -> int:
        return len(self._index)

    def find(self, address: bytes) -> Route:
        """Return the route of an address that is a valid topic."""
        route = self._index.find(address.decode())
        if len(self.known) >= _MAX_KNOWN:
            self.known.clear()
        self.known[address] = route
        return route

    def add(self, subscription: Subscription) -> None:
        """Let a subscription get what matches its pattern, alone or with its group."""
        if subscription.group is None:
            self._index.add(subscription.pattern, subscription)
        else:
            key = (subscription.pattern.plain, subscription.group)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = Group(subscription.pattern, subscription.group)
                self._index.add(subscription.pattern, group)
            group.members.append(subscription)
        self._forget()

    def remove(self, subscription: Subscription) -> Group | None:
        """Take a subscription out; return its group if that has other members."""
        group: Group | None = None
        if subscription.group is None:
            self._index.remove(subscription.pattern, subscription)
        else:
            key = (subscription.pattern.plain, subscription.group)
            group = self._groups[key]
            group.members.remove(subscription)
            if not group.members:
                del self._groups[key]
                self._index.remove(group.pattern, group)
                group = None
        self._forget()
        return group

    def _forget(self) -> None:
        self._index.cache.clear()
        self.known.clear()


_MAX_KNOWN = 65_536
