"""Transports that break one promise each, to show that the conformance suite notices.

`broken:URL?break=NAME`, where URL is the address of a transport that keeps its promises.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from hms_bus.abc import Capability, Codec, EventLog, Overflow, Sink, Transport, Unsubscribe
from hms_bus.bus.protocol import CANCEL, CREDIT
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, NoRespondersError, QueueFullError, UnsupportedError
from hms_bus.plugins import Address, open_transport


@asynccontextmanager
async def open_broken(address: Address, *, codec: Codec) -> AsyncGenerator[Transport]:
    """Open `broken:URL?break=NAME`."""
    url = address.url.partition(":")[2].partition("?")[0]
    async with open_transport(url, codec=codec) as transport:
        yield BROKEN[address.options["break"]](transport)


class Faithful:
    """Wraps a transport and changes nothing."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.transport.capabilities

    log: EventLog | None = None

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        return self.transport.publish(envelope, to=to, reply_to=reply_to)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        return await self.transport.subscribe(pattern, sink, group=group)


class LosesSome(Faithful):
    """Every fifth event does not arrive."""

    count = 0

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        self.count += 1
        if self.count % 5 == 0:
            return None
        return super().publish(envelope, to=to, reply_to=reply_to)


class Repeats(Faithful):
    """Everything arrives twice."""

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        super().publish(envelope, to=to, reply_to=reply_to)
        return super().publish(envelope, to=to, reply_to=reply_to)


class SwapsNeighbours(Faithful):
    """Of two events the second arrives first."""

    held: Envelope | None = None

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        if to is not None or reply_to is not None:
            return super().publish(envelope, to=to, reply_to=reply_to)
        if self.held is None:
            self.held = envelope
            return None
        held, self.held = self.held, None
        super().publish(envelope)
        return super().publish(held)


class IgnoresGroups(Faithful):
    """Every member of a group gets everything."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        return await super().subscribe(pattern, sink)


class SeesNobodyBusy(Faithful):
    """Members of a group take turns, busy or not."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        return await super().subscribe(pattern, _Idle(sink), group=group)


class _Passing:
    """Stands in front of a sink and changes nothing."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.offer: Callable[[Envelope, str | None], Awaitable[None] | None] = sink.offer
        self.on_idle: Callable[[Callable[[], None]], None] = sink.on_idle
        self.on_room: Callable[[Callable[[], None]], None] = sink.on_room
        self.interrupt: Callable[[str | None], None] = sink.interrupt
        self.fail: Callable[[BusError], None] = sink.fail

    @property
    def load(self) -> int:
        return self.sink.load

    @property
    def answers(self) -> bool:
        return self.sink.answers

    @property
    def overflow(self) -> Overflow:
        return self.sink.overflow

    @property
    def room(self) -> int | None:
        return self.sink.room


class _Idle(_Passing):
    @property
    def load(self) -> int:
        return 0


class TakesListenersForServers(Faithful):
    """Whoever listens counts as a server."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        return await super().subscribe(pattern, _Answering(sink), group=group)


class _Answering(_Passing):
    @property
    def answers(self) -> bool:
        return True


class HidesMissingServers(Faithful):
    """A request to nobody just stays without an answer."""

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        with suppress(NoRespondersError):
            return super().publish(envelope, to=to, reply_to=reply_to)
        return None


class NeverWaits(Faithful):
    """A publisher does not wait for a full queue."""

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        super().publish(envelope, to=to, reply_to=reply_to)
        return None


class HidesRefusals(Faithful):
    """A publisher is not told that a queue refused."""

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        with suppress(QueueFullError):
            return super().publish(envelope, to=to, reply_to=reply_to)
        return None


class NeverUnsubscribes(Faithful):
    """Whoever leaves still gets messages."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        await super().subscribe(pattern, sink, group=group)

        async def unsubscribe() -> None:
            pass

        return unsubscribe


class Changes(Faithful):
    """Changes every envelope by `change`."""

    @staticmethod
    def change(envelope: Envelope) -> Envelope:
        raise NotImplementedError

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        return super().publish(self.change(envelope), to=to, reply_to=reply_to)


class LosesExtensions(Changes):
    """Only knows the attributes that it knows."""

    @staticmethod
    def change(envelope: Envelope) -> Envelope:
        return envelope.replace(extensions=None)


class LosesThePriority(Changes):
    """Forgets one attribute."""

    @staticmethod
    def change(envelope: Envelope) -> Envelope:
        return envelope.replace(priority=None)


class LosesTheCause(Changes):
    """Forgets what caused a message."""

    @staticmethod
    def change(envelope: Envelope) -> Envelope:
        is_reply = envelope.topic.startswith("$")
        return envelope if is_reply else envelope.replace(causationid=None)


class LosesTheReplyAddress(Faithful):
    """Nobody can answer."""

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        return super().publish(envelope, to=to)


class LosesCancellations(Faithful):
    """A server never hears that its caller has gone."""

    lost = CANCEL

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        if envelope.type == self.lost:
            return None
        return super().publish(envelope, to=to, reply_to=reply_to)


class LosesCredit(LosesCancellations):
    """A server never hears that it may go on."""

    lost = CREDIT


class TailMatchesNothing(Faithful):
    """`a.>` selects `a` as well."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        if pattern.endswith(".>"):
            await super().subscribe(pattern.removesuffix(".>"), sink, group=group)
        return await super().subscribe(pattern, sink, group=group)


class KeepsTheLast(Faithful):
    """A new subscriber gets the last event from before."""

    last: Envelope | None = None

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        self.last = envelope
        return super().publish(envelope, to=to, reply_to=reply_to)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        if self.last is not None and self.last.topic == pattern:
            sink.offer(self.last, None)
        return await super().subscribe(pattern, sink, group=group)


class ClaimsPrivacy(Faithful):
    """Claims that nobody else is there."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities.union(("private",))


class AcceptsWhatItDoesNotClaim(Faithful):
    """Does not claim groups, and lets everybody join one."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities - {"groups", "group-balance"}


class ClaimsLess(AcceptsWhatItDoesNotClaim):
    """Does not claim groups, and says so to whoever wants to join one: this breaks no promise."""

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        if group is not None:
            raise UnsupportedError("groups", "this transport")
        return await super().subscribe(pattern, sink)


BROKEN: dict[str, Callable[[Transport], Transport]] = {
    kind.__name__: kind
    for kind in (
        Faithful,
        LosesSome,
        Repeats,
        SwapsNeighbours,
        IgnoresGroups,
        SeesNobodyBusy,
        TakesListenersForServers,
        HidesMissingServers,
        NeverWaits,
        HidesRefusals,
        NeverUnsubscribes,
        LosesExtensions,
        LosesThePriority,
        LosesTheCause,
        LosesTheReplyAddress,
        LosesCancellations,
        LosesCredit,
        TailMatchesNothing,
        KeepsTheLast,
        ClaimsPrivacy,
        AcceptsWhatItDoesNotClaim,
        ClaimsLess,
    )
}
