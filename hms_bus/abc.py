"""The seams: what a codec, a transport and a log promise, and nothing about how.

A plug-in implements one of these protocols structurally and is opened by one function (see
`hms_bus.plugins`). What an implementation can do beyond the common contract stands in its
capabilities; the conformance suite proves each one that is claimed, and asking for one that is
not claimed raises `UnsupportedError`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from hms_bus.envelope import Envelope
from hms_bus.errors import BusError

Capability = Literal[
    "groups",
    "group-balance",
    "no-responders",
    "no-servers",
    "backpressure",
    "publisher-order",
    "private",
    "log-expect",
    "log-dedup",
    "log-batch",
    "log-read-backwards",
    "log-read-by-time",
    "log-follow",
    "log-verify",
    "log-survives-process",
    "log-durable",
    "log-schedules",
]


class Codec(Protocol):
    """Turns envelopes into bytes and back. Pure, synchronous, free of state, safe between threads.

    `decode(encode(e))` equals `e` by the rules of spec/envelope.md, "Equality": times as instants,
    JSON data by value (`hms_bus.testing.equality.canonical` is the same for both).
    """

    @property
    def name(self) -> str:
        """The short name: `json`."""
        ...

    @property
    def content_type(self) -> str:
        """The media type of one envelope (RFC 6838): `application/cloudevents+json`."""
        ...

    def encode(self, envelope: Envelope) -> bytes:
        """Return one self-contained document. Raises `EncodeError`."""
        ...

    def decode(self, document: bytes) -> Envelope:
        """Read one document. Raises `DecodeError` and nothing else, whatever the bytes are."""
        ...


Overflow = Literal["block", "drop_oldest", "drop_newest", "error"]
"""What a full queue does: let the publisher wait, drop the oldest or the new one, or refuse."""


class Sink(Protocol):
    """The receiving end of one subscription; the bus makes them, transports call them."""

    @property
    def load(self) -> int:
        """How many messages were accepted and are not handled yet. 0 is idle."""
        ...

    @property
    def answers(self) -> bool:
        """Whether requests are answered here; a sink that only listens is no responder."""
        ...

    @property
    def overflow(self) -> Overflow:
        """What it does when it is full."""
        ...

    @property
    def room(self) -> int | None:
        """How many messages more it holds before it is full; `None` when it never is."""
        ...

    def on_idle(self, notify: Callable[[], None], /) -> None:
        """Call `notify` each time that the load has become 0, as long as the sink lives."""
        ...

    def on_room(self, notify: Callable[[], None], /) -> None:
        """Call `notify` once, soon, when at most half of what the sink holds is queued.

        For a sink that has `room` for so many only.
        """
        ...

    def interrupt(self, address: str | None, /) -> None:
        """Learn that nobody is at `address` any more, `None`: that the line was cut.

        What waits for something from there, or is done for whoever asked from there, ends.
        """
        ...

    def fail(self, error: BusError, /) -> None:
        """Learn that nothing will be offered any more, although nobody has unsubscribed.

        Whoever waits for a message gets `error`, behind what was accepted before.
        """
        ...

    def offer(self, envelope: Envelope, reply_to: str | None, /) -> Awaitable[None] | None:
        """Accept one message, in the order of the calls, without waiting.

        Returns `None`, or an awaitable that completes when there is room for more: whoever can
        wait, waits for it before offering the next. Raises `QueueFullError` when the
        subscription's policy is to refuse; the message is then not accepted. Never raises for a
        message with a `reply_to`: the sink answers it with the error.
        """
        ...


Unsubscribe = Callable[[], Awaitable[None]]
"""Ends a subscription: no message is offered after it returns. A second call does nothing."""


class Transport(Protocol):
    """Carries envelopes, at most once, between those who share its address.

    Messages of one publisher to one address reach each sink in the order of `publish`. A transport
    is opened and closed by the scope of its opener (`hms_bus.plugins.TransportOpener`); using it
    afterwards raises `StateError`. It raises `BusError`s only.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this transport claims beyond the contract."""
        ...

    @property
    def log(self) -> "EventLog | None":
        """The log behind this transport, where one is (a hub's, JetStream); else `None`."""
        ...

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        """Hand one envelope over; it is on its way, in order, when the call returns.

        `to` is the address when it is not `envelope.topic` (an inbox); `reply_to` the address that
        answers go to. Returns `None`, or an awaitable that completes when the transport has room
        for more: cancelling the wait does not take the message back.

        When `reply_to` is set and nobody listens, a transport with `no-responders` raises
        `NoRespondersError`, or sends what `hms_bus.bounces.returned` makes of it to `reply_to` as
        soon as it learns it. With `no-servers`, sinks that only listen do not count.
        """
        ...

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        """Offer to `sink` what is published on matching topics after the call has returned.

        Of all subscriptions with the same pattern and group, one gets each message
        (`groups`), an idle one while there is one (`group-balance`). Raises `TopicError`,
        `UnsupportedError`.
        """
        ...


@runtime_checkable
class Ending(Protocol):
    """A `Transport` that may come to an end by itself, as a replay does."""

    @property
    def over(self) -> asyncio.Future[None] | None:
        """Done when nothing more will come, or failed with why; `None`: it goes on for ever."""
        ...


class Receipt(Struct, frozen=True, gc=False):
    """What became of a published envelope.

    `position` is its place in the log, `None` where no log keeps the topic. `duplicate` is true
    when the log held the same (`source`, `id`) already; nothing was appended or delivered then,
    and `position` is that of the first.
    """

    id: str
    position: int | None = None
    duplicate: bool = False


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """An envelope in a log: its position (from 1), and when it was recorded (ns since 1970)."""

    position: int
    recorded_ns: int
    envelope: Envelope


class Selector(Struct, frozen=True, kw_only=True):
    """Which records to read; conditions add up, and a default selects all.

    Bounds are inclusive: positions `first` to `last`, recorded times `since_ns` to `until_ns` in
    nanoseconds since 1970. `pattern` and `types` (exact event types) narrow by envelope;
    `correlation` keeps one conversation; `source` one sender. `limit` counts selected records.
    """

    pattern: str | None = None
    first: int | None = None
    last: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    types: frozenset[str] = frozenset()
    correlation: str | None = None
    source: str | None = None
    backwards: bool = False
    limit: int | None = None


class Head(Struct, frozen=True, kw_only=True):
    """The end of a log: the last position (0 when empty), its hash, when it was recorded.

    Kept outside the file it tells later whether records were cut off (`verify(expected=…)`).
    """

    position: int
    hash: bytes
    recorded_ns: int


class Verification(Struct, frozen=True, kw_only=True):
    """What `verify` found: how many records it read, and the first contradiction if any."""

    records: int
    head: Head
    problem: str | None = None
    position: int | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return self.problem is None


Expect = int | Literal["any", "none"]
"""Optimistic concurrency: the position of the topic's last record, or that there is none."""


class EventLog(Protocol):
    """An append-only sequence of envelopes with positions from 1, without gaps.

    Opened and closed by the scope of its opener. Reading never blocks writing. Time does not run
    backwards: `recorded_ns` of a record is at least that of the one before.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this log claims beyond the contract."""
        ...

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Append all or none, as neighbours, durable when the call returns; receipts in order.

        An envelope whose (`source`, `id`) the log holds already is not appended again; its receipt
        is a `duplicate`. `expect` applies to the topic of the first envelope, all must share it
        then. Concurrent calls are committed together and return in the order of positions.

        Cancelling the call does not take the envelopes back: whether they were appended is then
        unknown. Raises `ConflictError`, `EncodeError`, `LogReadOnlyError`, `LogError`, `UsageError`
        for an `expect` that cannot be asked for, `StateError` once the log is closed.
        """
        ...

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        """Yield the selected records in the order of positions (or against it).

        What is appended during the read may or may not come; with `follow` it does, without gap or
        duplicate, and the iterator ends only by `last`, `until_ns`, `limit` or the log's close.
        Raises `LogCorruptError` at a record that cannot be read, `LogError`, `StateError` once the
        log is closed; and at the call `TopicError`, `UsageError` for a negative bound or limit,
        `UnsupportedError` for what is not claimed, and for `follow` backwards.
        """
        ...

    async def head(self) -> Head:
        """Return the end of what is durable."""
        ...

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Read everything and check the hash chain, positions and times.

        `expected` is a head that was kept elsewhere: a log that ends before it, or differs at it,
        has lost records. `progress` is called with records done and in all.
        """
        ...


class Durable(Struct, frozen=True, kw_only=True):
    """A named subscription that a log keeps: its cursor and what was tried outlive the process.

    `pattern` selects topics. `start` is where a durable that is new begins: at the first record, at
    what is appended from now on, or at a position; `start_ns` instead of it at the first record
    recorded then or later, or behind the last one if there is none yet; of one that exists they are
    ignored. Its pattern and group are fixed. Its own dead letters are not delivered to it.

    With `group`, several consumers share the durable and each delivery goes to one; without, it
    has one consumer at a time. What was delivered and is neither settled nor in progress after
    `ack_wait_s` is delivered again. A record is delivered `max_deliveries` times at most, without
    end for `None`; the last failure makes it a dead letter. At most `max_unacked` records are
    delivered and not settled, those that wait for another try included.
    """

    name: str
    pattern: str
    group: str | None = None
    start: int | Literal["beginning", "end"] = "beginning"
    start_ns: int | None = None
    ack_wait_s: float = 30.0
    max_deliveries: int | None = 5
    max_unacked: int = 1000


class Delivery(Struct, frozen=True, kw_only=True, gc=False):
    """A record that a durable hands out for the `attempt`-th time, counted from 1."""

    record: Record
    attempt: int


Outcome = Literal["ack", "nak", "term", "progress", "defer"]
"""What can become of a delivery, see `Settlement`."""


class Settlement(Struct, frozen=True, kw_only=True, gc=False):
    """What became of a delivery, named by its position and attempt.

    `ack`: handled. `nak`: deliver it again, `delay_s` from now, or make it a dead letter if it was
    the last attempt. `term`: it will never succeed, make it a dead letter. `progress`: it is still
    being handled, `ack_wait_s` begins anew. `defer`: as `nak`, and it does not count as an attempt.
    `code` (a status by name) and `reason` say why, in the dead letter.
    """

    position: int
    attempt: int
    outcome: Outcome
    delay_s: float = 0.0
    code: str = "UNKNOWN"
    reason: str = ""


class DurableInfo(Struct, frozen=True, kw_only=True):
    """A durable as it stands.

    All positions up to `floor` that it selects are settled, `delivered` is the last one that was
    handed out. `unacked` deliveries are not settled, `redelivered` of them were tried more than
    once; `lag` is how many records that it selects wait for their first delivery, those behind an
    unsettled one of their key included, counted up to a million. `dead` are the positions, in
    order, that became dead letters and were not redriven since.
    """

    durable: Durable
    floor: int
    delivered: int
    unacked: int
    redelivered: int
    lag: int
    consumers: int
    dead: tuple[int, ...] = ()


class Consumer(Protocol):
    """One of those that take from a durable. Opened and closed by the scope of its opener.

    A consumer that is closed hands back, uncounted and at once, what it was given and has not
    settled. One that dies does not: that is delivered again once the ack wait is over.
    """

    async def fetch(self, limit: int) -> list[Delivery]:
        """Wait for deliveries and return at least one, at most `limit`, in the order of positions.

        Those that are tried again come first. Of records with the same `partitionkey` one at a time
        is unsettled, in the order of positions, also while it waits to be tried again: for those
        behind it this call waits. That it was delivered is durable when this returns, so attempts
        are counted though the process dies. Cancelling it loses nothing. Raises `LogError`,
        `StateError` once it is closed.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Say what became of deliveries; durable when this returns.

        One that was settled before, or that was delivered again since (its attempt is no longer the
        last one), changes nothing. Dead letters are appended in the same step. Raises `LogError`,
        `StateError` once it is closed: one that was abandoned may settle while others consume.
        """
        ...

    def abandon(self) -> None:
        """Let go without handing back, as one that dies: used for a consumer that is out of reach.

        What it holds is delivered again once the ack wait is over, unless it is settled before.
        """
        ...


@runtime_checkable
class ConsumingLog(EventLog, Protocol):
    """A log that keeps durables (`log-durable`). Semantics: docs/adr/0006-durable-delivery.md."""

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        """Return the scope of a consumer; entering it makes the durable when it is new.

        Entering raises `UsageError` when one of that name exists with another pattern or group,
        `DurableInUseError` when it has a consumer and no group, `LogReadOnlyError`.
        `ack_wait_s`, `max_deliveries` and `max_unacked` apply from now on.
        """
        ...

    async def durables(self) -> list[DurableInfo]:
        """Return all durables, by name, as they are kept: what was settled before is."""
        ...

    async def forget(self, name: str) -> None:
        """Remove a durable with all that is known of it. Raises `UsageError` for an unknown one.

        Raises `DurableInUseError` while it has a consumer.
        """
        ...

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """Let records that became dead letters be delivered to the durable again, from attempt 1.

        Raises `UsageError` for an unknown durable, or a position that is no dead letter of it (any
        more); then nothing is changed.
        """
        ...


@runtime_checkable
class DeliveringLog(EventLog, Protocol):
    """A log behind a transport, which delivers what it has appended (a hub's, JetStream).

    `append` delivers to the topics, in the order of positions, what is no duplicate.
    """

    async def send(
        self,
        envelope: Envelope,
        *,
        expect: Expect = "any",
        to: str | None = None,
        reply_to: str | None = None,
    ) -> Receipt:
        """Append one envelope, then deliver it to `to` as `Transport.publish` does.

        Returns when there is room for more. Raises what `append` and `Transport.publish` raise; a
        `QueueFullError` says where the log keeps the message.
        """
        ...
