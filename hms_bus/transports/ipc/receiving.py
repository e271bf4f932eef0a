"""What a client receives: its subscriptions, what is offered to their sinks, and the credit for it.

A sink that lets publishers wait has room for so many messages. The hub gets credit for that number,
and when half of it is used up, again what has become free, once that is at least half: so credit
travels in large pieces, also when the sink is always nearly full.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import count as counting

from hms_bus import plugins
from hms_bus.abc import Codec, Overflow, Sink
from hms_bus.bounces import returned
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    DecodeError,
    DisconnectedError,
    NoRespondersError,
    QueueFullError,
    StatusError,
)
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Subscribe, Welcome
from hms_bus.topics import parse_pattern
from hms_bus.transports.ipc.calls import Call
from hms_bus.transports.ipc.client import Client

logger = logging.getLogger("hms_bus")

_SOURCE = "/hub"
_DROPS: Overflow = "drop_newest"
"""What the hub is told of a sink that is never full: beyond what the hub can hold, it drops."""

_MAX_HANDLED = 2**32 - 1


class Entry:
    """One subscription of this client.

    `outstanding` is the credit that the hub has not used up, `waits` whether the sink is to tell
    when it has room for more.
    """

    __slots__ = (
        "group",
        "is_limited",
        "is_touched",
        "limit",
        "number",
        "offer",
        "opened",
        "outstanding",
        "pattern",
        "reported",
        "sink",
        "taken",
        "waits",
    )

    def __init__(
        self,
        number: int,
        pattern: str,
        sink: Sink,
        group: str | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.number = number
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done when the hub has the subscription for the first time."""
        self.pattern = pattern
        self.sink = sink
        self.group = group
        self.offer = sink.offer
        self.limit = sink.room if sink.overflow == "block" else None
        self.outstanding = 0
        self.taken = 0
        self.reported = 0
        self.waits = False
        self.is_touched = False

    def begin(self) -> Subscribe:
        """Return what the hub is told when the subscription begins, or begins again."""
        self.taken = self.reported = 0
        self.waits = False
        self.outstanding = 0 if self.limit is None else self._room()
        return Subscribe(
            subscription=self.number,
            pattern=self.pattern,
            group=self.group,
            answers=self.sink.answers,
            overflow=_DROPS if self._never_holds_back else self.sink.overflow,
            credit=None if self.limit is None else self.outstanding,
        )

    def note_begun(self, done: asyncio.Future[None]) -> None:
        """Take the hub's answer; when the line was cut before it came, it is asked again."""
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, DisconnectedError):
            return
        if not self.opened.done():
            if error is None:
                self.opened.set_result(None)
            else:
                self.opened.set_exception(error)
        elif error is not None:
            logger.error("the subscription to %r is lost: %s", self.pattern, error)

    def _room(self) -> int:
        return self.sink.room or 0

    @property
    def is_low(self) -> bool:
        """Whether the hub should get more credit as soon as there is room."""
        return self.limit is not None and not self.waits and self.outstanding <= self.limit // 2

    @property
    def _never_holds_back(self) -> bool:
        return self.limit is None and self.sink.overflow == "block"

    def more_credit(self) -> int:
        """Return how much credit can be given now; it counts as given."""
        if self.limit is None:
            return 0
        more = max(0, self._room() - self.outstanding)
        self.outstanding += more
        return more

    def newly_handled(self) -> int:
        """Return how many messages were handled that the hub does not know of; it does then."""
        handled = max(0, self.taken - self.sink.load)
        newly = min(max(0, handled - self.reported), _MAX_HANDLED)
        self.reported += newly
        return newly


class Inlet:
    """Offers what the hub delivers to the sinks of this client."""

    def __init__(self, client: Client, codec: Codec) -> None:
        self._client = client
        self._decode = codec.decode
        self._first_byte: int | None = None
        self._entries: dict[int, Entry] = {}
        self._numbers = counting(1)
        self._touched: list[Entry] = []
        self._idle: dict[Entry, None] = {}
        client.handlers |= {
            frames.DELIVER: self._on_deliver,
            frames.OFFER: self._on_offer,
            frames.RETURNED: self._on_returned,
            frames.GONE: self._on_gone,
        }
        client.after_read.append(self._after_read)
        client.up.append(self._on_up)
        client.down.append(self._on_down)
        client.over.append(self._on_over)

    # -- subscribing ---------------------------------------------------------------------------

    async def subscribe(
        self, pattern: str, sink: Sink, group: str | None
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe `sink`; return what ends it."""
        parse_pattern(pattern)
        await self._client.connected()
        entry = Entry(next(self._numbers), pattern, sink, group, self._client.loop)
        self._entries[entry.number] = entry
        if group is not None:
            sink.on_idle(lambda: self._note_idle(entry))
        self._begin(entry)
        try:
            await entry.opened
        except BaseException:
            await self._end(entry)
            raise
        return lambda: self._end(entry)

    def _begin(self, entry: Entry) -> None:
        wire = self._client.wire
        if wire is None:
            return  # it begins when there is a connection
        done: asyncio.Future[None] = self._client.loop.create_future()
        done.add_done_callback(entry.note_begun)
        number = self._client.calls.add(Call(done))
        content = session.to_json(entry.begin())
        wire.write(frames.call_frame(frames.SUBSCRIBE, number, content))

    async def _end(self, entry: Entry) -> None:
        if entry.number not in self._entries:
            return
        try:
            await self._unsubscribe(entry)
        finally:
            self._entries.pop(entry.number, None)

    async def _unsubscribe(self, entry: Entry) -> None:
        client = self._client
        if client.wire is None or client.failure is not None:
            return
        done: asyncio.Future[None] = client.loop.create_future()
        number = client.calls.add(Call(done))
        client.wire.write(
            frames.call_frame(frames.UNSUBSCRIBE, number, frames.U32.pack(entry.number))
        )
        # What was delivered until the hub answers has been accepted. A lost line ends it, too.
        await asyncio.wait({done})
        _note(done)

    def _on_up(self, welcome: Welcome) -> None:
        """Subscribe, again, whatever is subscribed."""
        del welcome
        for entry in self._entries.values():
            self._begin(entry)

    def _on_over(self, failure: BusError) -> None:
        """Tell those who wait for messages that there will be none, unless it was they who left."""
        for entry in list(self._entries.values()):
            if not entry.opened.done():
                entry.opened.set_exception(failure)
            elif not self._client.is_closing:
                if not entry.pattern.startswith("$"):
                    logger.error("the subscription to %r has ended: %s", entry.pattern, failure)
                entry.sink.fail(failure)

    def _on_down(self, error: Exception | None) -> None:
        del error
        for entry in list(self._entries.values()):
            entry.waits = False
            entry.sink.interrupt(None)

    # -- delivering ----------------------------------------------------------------------------

    def _on_deliver(self, content: bytes) -> None:
        numbers, at = frames.read_subscriptions(content, 1)
        found = frames.read_messages(content, at)
        entries = [self._entries[number] for number in numbers if number in self._entries]
        reply_to = found.reply_to.decode() if found.reply_to else None
        count = found.count
        for entry in entries:
            entry.taken += count
            entry.outstanding -= count
            if not entry.is_touched:
                entry.is_touched = True
                self._touched.append(entry)
        decode = self._decode_one
        if len(entries) == 1:
            self._offer_all(entries[0], content, found, reply_to)
            return
        for document in frames.envelopes_of(content, found):
            envelope = decode(document, found.address)
            if envelope is not None:
                for entry in entries:
                    self._offer(entry, envelope, reply_to)

    def _offer_all(
        self, entry: Entry, content: bytes, found: frames.Messages, reply_to: str | None
    ) -> None:
        """Offer messages to one sink. Hot path: what `_offer` and `_decode_one` do, in one loop."""
        offer, decode = entry.offer, self._decode_one
        for document in frames.envelopes_of(content, found):
            envelope = decode(document, found.address)
            if envelope is None:
                continue
            try:
                offer(envelope, reply_to)
            except QueueFullError as error:
                logger.warning("%s; the message %s is dropped", error, envelope.id)

    @staticmethod
    def _offer(entry: Entry, envelope: Envelope, reply_to: str | None) -> None:
        try:
            # Who publishes waits for the hub; what this returns is the room that credit speaks of.
            entry.offer(envelope, reply_to)
        except QueueFullError as error:
            logger.warning("%s; the message %s is dropped", error, envelope.id)

    def _decode_one(self, document: bytes, address: bytes) -> Envelope | None:
        first = document[0]
        try:
            if first == self._first_byte:
                envelope = self._decode(document)
            else:
                envelope = self._decode_other(document)
        except DecodeError as error:
            logger.warning("a message on %s cannot be read: %s", address.decode(), error)
            return None
        return envelope if envelope.topic else envelope.replace(topic=address.decode())

    def _decode_other(self, document: bytes) -> Envelope:
        """Read a document of whatever codec; most of them will be of the same one."""
        decode = plugins.codec_of(document).decode
        envelope = decode(document)
        self._decode, self._first_byte = decode, document[0]
        return envelope

    def _on_offer(self, content: bytes) -> None:
        ask = frames.read_u32(content)
        numbers, at = frames.read_subscriptions(content, 5)
        found = frames.read_messages(content, at)
        error: BusError | None = None
        for document in frames.envelopes_of(content, found):
            envelope = self._decode_one(document, found.address)
            for number in numbers:
                entry = self._entries.get(number)
                if entry is None or envelope is None:
                    continue
                entry.taken += 1
                try:
                    entry.offer(envelope, None)
                except QueueFullError as full:
                    error = full
        failure = None if error is None else session.to_json(to_failure(error))
        self._client.answer(frames.verdict(ask, failure))

    # -- credit --------------------------------------------------------------------------------

    def _after_read(self) -> None:
        if self._touched:
            touched, self._touched = self._touched, []
            for entry in touched:
                entry.is_touched = False
                if entry.is_low:
                    self._give_when_roomy(entry)

    def _give_when_roomy(self, entry: Entry) -> None:
        entry.waits = True

        def give() -> None:
            entry.waits = False
            if entry.number not in self._entries:
                return
            if more := entry.more_credit():
                self._send_credit([(entry.number, more, entry.newly_handled())])
            if entry.outstanding <= 0:
                self._give_when_roomy(entry)  # what came meanwhile has filled it again

        entry.sink.on_room(give)

    def _note_idle(self, entry: Entry) -> None:
        """Tell the hub, once in a turn, that a member of a group has nothing left to do."""
        if not self._idle:
            self._client.loop.call_soon(self._tell_idle)
        self._idle[entry] = None

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, {}
        given = [
            (entry.number, entry.more_credit() if entry.is_low else 0, handled)
            for entry in idle
            if entry.number in self._entries and (handled := entry.newly_handled())
        ]
        if given:
            self._send_credit(given)

    def _send_credit(self, given: Sequence[tuple[int, int, int]]) -> None:
        wire = self._client.wire
        if wire is not None:
            wire.write(frames.credit(given))

    # -- what comes back -----------------------------------------------------------------------

    def _on_returned(self, content: bytes) -> None:
        reason, found = frames.read_returned(content)
        topic, reply_to = found.address.decode(), found.reply_to.decode()
        sinks = [entry.sink for entry in self._entries.values() if entry.pattern == reply_to]
        if topic.startswith("$") and not any(sink.answers for sink in sinks):
            # An item of a stream, whose reader has gone: what it names takes control, not replies.
            self._interrupt(topic)
            return
        error: BusError = NoRespondersError(topic)
        if reason == frames.DROPPED:
            text = f"a queue at the hub is full: the request on {topic!r} was dropped"
            error = StatusError("RESOURCE_EXHAUSTED", text)
        elif reason != frames.NO_RESPONDERS:
            error = StatusError("PERMISSION_DENIED", f"no right to publish to {topic!r}")
            logger.error("the hub refuses what is sent to %r: no right to", topic)
        for document in frames.envelopes_of(content, found):
            envelope = self._decode_one(document, found.address)
            if envelope is not None:
                back = returned(envelope, error, source=_SOURCE)
                for sink in sinks:
                    sink.offer(back, None)

    def _on_gone(self, content: bytes) -> None:
        self._interrupt(frames.read_address(content).decode())

    def _interrupt(self, address: str) -> None:
        """Let go of what is done for, or waited for from, who was at `address`."""
        for entry in list(self._entries.values()):
            if entry.pattern.startswith("$"):
                entry.sink.interrupt(address)


def _note(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()
