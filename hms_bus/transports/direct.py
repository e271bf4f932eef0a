"""`direct://`: between the agents of one process; the envelope itself is handed over.

- `direct://` is private to the bus that opens it.
- `direct://NAME` is shared by all buses of the process that name it, on one event loop.
- `?codec=json` sends every envelope through that codec, so that what a wire would change or refuse
  shows here already. The test double (`hms_bus.testing`) is this.

Hot path: a publish to one subscriber that has room costs one dict access and one call.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn, cast
from urllib.parse import parse_qsl

from hms_bus.abc import Capability, Codec, EventLog, Sink, Unsubscribe
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, NoRespondersError, QueueFullError, StateError
from hms_bus.plugins import Address, get_codec
from hms_bus.topics import Pattern, TopicIndex, parse_pattern

CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "groups",
        "group-balance",
        "no-responders",
        "no-servers",
        "backpressure",
        "publisher-order",
    }
)


def open_direct(
    address: Address, *, codec: Codec
) -> AbstractAsyncContextManager["DirectTransport"]:
    """Open `direct://[NAME][?codec=NAME]`; the transport is closed when the scope ends.

    `codec` is not used: without `?codec=` nothing is encoded. Raises `ConfigError` for an unknown
    option or codec; entering the scope does for a name that is in use on another event loop.
    """
    del codec
    address.only("codec")
    codecs = [
        value for _, value in parse_qsl(address.url.partition("?")[2], keep_blank_values=True)
    ]
    if len(codecs) > 1:
        raise ConfigError(f"{address.url!r}: codec is given more than once")
    return _scope(address.path, get_codec(codecs[0]) if codecs else None)


@asynccontextmanager
async def _scope(name: str, round_trip: Codec | None) -> AsyncGenerator["DirectTransport"]:
    switchboard = _join(name)
    transport = DirectTransport(switchboard, round_trip, is_private=not name)
    try:
        yield transport
    finally:
        transport.close()
        _leave(name, switchboard)


class _Group:
    """The competing sinks of one pattern and group name."""

    __slots__ = ("pattern", "sinks", "turn")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.sinks: list[Sink] = []
        self.turn = 0

    @property
    def answers(self) -> bool:
        """Whether one of the sinks does; whoever joins or leaves empties the index's cache."""
        return any(sink.answers for sink in self.sinks)

    def offer(self, envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        """Offer to the next idle sink in turn, or to the one with the least to do."""
        return self._pick().offer(envelope, reply_to)

    def _pick(self) -> Sink:
        sinks = self.sinks
        if len(sinks) == 1:
            return sinks[0]
        count = len(sinks)
        start = self.turn = (self.turn + 1) % count
        best = sinks[start]
        for step in range(count):
            sink = sinks[(start + step) % count]
            if (load := sink.load) == 0:
                return sink
            if load < best.load:
                best = sink
        return best


_Offer = Callable[[Envelope, str | None], Awaitable[None] | None]


class _Single:
    """A sink that gets every message of its pattern."""

    __slots__ = ("answers", "offer")

    def __init__(self, sink: Sink) -> None:
        self.offer: _Offer = sink.offer
        self.answers = sink.answers


_Target = _Single | _Group
_Delivery = tuple[_Offer | None, bool]
"""The one call that reaches all who listen on a topic, and whether one of them answers requests."""


def _compile(targets: list[_Target]) -> _Delivery:
    if not targets:
        return None, False
    answers = any(target.answers for target in targets)
    offers = tuple(target.offer for target in targets)
    return (offers[0] if len(offers) == 1 else _offering_to_all(offers)), answers


def _offering_to_all(offers: tuple[_Offer, ...]) -> _Offer:

    def offer_to_all(envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        full: list[Awaitable[None]] | None = None
        refusal: QueueFullError | None = None
        for offer in offers:
            try:
                room = offer(envelope, reply_to)
            except QueueFullError as error:
                refusal = refusal or error
                continue
            if room is not None:
                full = [*(full or ()), room]
        if refusal is not None:
            for room in full or ():
                # Its owner must not believe that somebody waits.
                asyncio.ensure_future(room).cancel()
            raise refusal
        return None if full is None else _all_of(full)

    return offer_to_all


class _Switchboard:
    """Who listens where; shared by the transports of one name."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.members = 0
        self.groups: dict[tuple[str, str], _Group] = {}
        self.index: TopicIndex[_Target, _Delivery] = TopicIndex(_compile)

    def add(self, pattern: Pattern, sink: Sink, group: str | None) -> Unsubscribe:
        if group is None:
            target = _Single(sink)
            self.index.add(pattern, target)
            return _Subscribed(self, pattern, target, None)
        key = (pattern.plain, group)
        members = self.groups.get(key)
        if members is None:
            members = self.groups[key] = _Group(pattern)
            self.index.add(pattern, members)
        members.sinks.append(sink)
        self.index.cache.clear()
        return _Subscribed(self, pattern, members, (key, sink))

    def leave(self, group: _Group, key: tuple[str, str], sink: Sink) -> None:
        group.sinks.remove(sink)
        self.index.cache.clear()
        if not group.sinks:
            del self.groups[key]
            self.index.remove(group.pattern, group)


class _Subscribed:
    """Ends one subscription when it is called; an object, because a closure weighs three times."""

    __slots__ = ("_member", "_pattern", "_switchboard", "_target")

    def __init__(
        self,
        switchboard: _Switchboard,
        pattern: Pattern,
        target: _Target,
        member: tuple[tuple[str, str], Sink] | None,
    ) -> None:
        self._switchboard: _Switchboard | None = switchboard
        self._pattern = pattern
        self._target = target
        self._member = member

    async def __call__(self) -> None:
        switchboard, self._switchboard = self._switchboard, None
        if switchboard is None:
            return
        if isinstance(self._target, _Group) and self._member is not None:
            switchboard.leave(self._target, *self._member)
        else:
            switchboard.index.remove(self._pattern, self._target)


_switchboards: dict[str, _Switchboard] = {}


def _join(name: str) -> _Switchboard:
    loop = asyncio.get_running_loop()
    if not name:
        return _Switchboard(loop)
    switchboard = _switchboards.get(name)
    if switchboard is None or switchboard.loop.is_closed():
        # A loop that was torn down with its buses open has left its switchboard behind.
        switchboard = _switchboards[name] = _Switchboard(loop)
    elif switchboard.loop is not loop:
        raise ConfigError(
            f"direct://{name} is in use on another event loop of this process: use another name"
        )
    switchboard.members += 1
    return switchboard


def _leave(name: str, switchboard: _Switchboard) -> None:
    switchboard.members -= 1
    if switchboard.members == 0 and _switchboards.get(name) is switchboard:
        del _switchboards[name]


# A child has none of its parent's loops: who listened there cannot be reached from here.
os.register_at_fork(after_in_child=_switchboards.clear)


class DirectTransport:
    """See the module's text; the contract is `hms_bus.abc.Transport`."""

    log: EventLog | None = None

    def __init__(self, switchboard: _Switchboard, codec: Codec | None, *, is_private: bool) -> None:
        self._switchboard = switchboard
        self._find = switchboard.index.find
        self._deliveries: Mapping[str, _Delivery] = switchboard.index.cache
        self._codec = codec
        self._is_open = True
        self.capabilities = CAPABILITIES | {"private"} if is_private else CAPABILITIES

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        """Offer the envelope to every matching sink before returning."""
        try:
            offer, answers = self._deliveries[to or envelope.topic]
        except KeyError:
            offer, answers = self._find(to or envelope.topic)
        if self._codec is not None:
            envelope = self._codec.decode(self._codec.encode(envelope))
        if reply_to is not None and not answers:
            raise NoRespondersError(envelope.topic)
        return None if offer is None else offer(envelope, reply_to)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        """Add the sink; from the return on it is offered what matches."""
        if not self._is_open:
            raise StateError("the direct transport is closed")
        return self._switchboard.add(parse_pattern(pattern), sink, group)

    def close(self) -> None:
        """Refuse further use. What was offered stays with the sinks."""
        self._is_open = False
        self._deliveries = {}
        self._find = _refuse


def _refuse(topic: str) -> NoReturn:
    raise StateError(f"the direct transport is closed, nothing can be sent on {topic!r}")


def _all_of(rooms: list[Awaitable[None]]) -> Awaitable[None]:
    """Return a future that waits for all `rooms`; when it is cancelled, each of them is."""
    return rooms[0] if len(rooms) == 1 else cast("Awaitable[None]", asyncio.gather(*rooms))
