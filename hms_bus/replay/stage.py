"""One replay: plays the record to the agents that share it, and captures what they say.

The next message is offered when the one before is handled, by one agent after the other, so that a
replay is the same each time. Messages in a row for one handler that takes them one by one are
offered together: it makes no difference to it, and saves a turn of the event loop for each.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import takewhile
from operator import attrgetter

from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Sink, Unsubscribe
from hms_bus.bounces import REPLY_PREFIX
from hms_bus.bus import protocol
from hms_bus.envelope import Envelope
from hms_bus.replay.answering import Answering
from hms_bus.replay.capturing import Capture, Turns
from hms_bus.replay.events import EFFECT_PREFIX
from hms_bus.replay.naming import agent_of, is_named
from hms_bus.replay.recording import Recording, batches_of
from hms_bus.replay.seats import Seat, Seating, compile_seats
from hms_bus.replay.settings import ReplaySettings
from hms_bus.topics import TopicIndex, parse_pattern

logger = logging.getLogger("hms_bus")

REPLY_TO = "$replay.reply"
"""Where agents send their answers to requests that were recorded; they are captured."""

_MAX_CREDIT = 2**31 - 1
_BATCH = 512
_MAX_CACHED = 65_536
_STALL_S = 10.0


class Stage:
    """The agents of one replay and the record that is played to them."""

    def __init__(self, settings: ReplaySettings, log: EventLog) -> None:
        self.settings = settings
        self.log = log
        self.played = 0
        """How many records were offered to an agent."""
        self.on_played: Callable[[Record], None] | None = None
        """Told each record once it was played, or passed over because nobody listens."""
        self.on_skipped: Callable[[Record], None] | None = None
        """Told each record behind what is played."""
        selector = settings.selector
        ahead = replace(selector, last=None, until_ns=None)
        self._recording = Recording(
            batches_of(log, ahead), ahead=settings.ahead, remap=settings.remap
        )
        self._playing: dict[str, Record] = {}
        self._last = Record(position=0, recorded_ns=0, envelope=Envelope(id="", source="", type=""))
        self._seatings: dict[str, Seating] = {}
        self._agents: set[str] = set()
        self._turns = Turns()
        self._seats: TopicIndex[Seat, Seating] = TopicIndex(compile_seats)
        self.capture = Capture(self._turns, lambda cause: self.now(cause).recorded_ns)
        self.answering = Answering(
            self._recording, self.capture, self._turns, self._seats, settings.effects
        )
        self.pace = Pace(settings.rate)
        self._last_said = 0

    # -- who listens ---------------------------------------------------------------------------

    def add(self, agent: str, pattern: str, sink: Sink, group: str | None) -> Unsubscribe:
        """Let `sink` listen from now on."""
        if pattern.startswith(_ADDRESSES):
            sinks = self.answering.addresses.setdefault(pattern, [])
            sinks.append(sink)

            async def remove() -> None:
                if sink in sinks:
                    sinks.remove(sink)

            return remove
        parsed = parse_pattern(pattern)
        only = self.settings.only
        agent = agent_of(agent)
        seat = Seat(
            sink,
            agent=agent,
            pattern=parsed,
            group=group,
            is_muted=bool(only) and not is_named(agent, only),
        )
        self._seats.add(parsed, seat)
        self._seatings.clear()
        if not seat.is_muted:
            self._agents.add(agent)

        async def leave() -> None:
            if not seat.has_left:
                seat.leave()
                self._seats.remove(parsed, seat)
                self._seatings.clear()

        return leave

    @property
    def position(self) -> int:
        """The position of the last record that was played, or passed over."""
        return self._last.position

    def now(self, cause: str | None) -> Record:
        """Return where on the record the one is who handles `cause`: the virtual clock."""
        return self._playing.get(cause, self._last) if cause is not None else self._last

    def next_position(self, cause: str | None) -> int:
        """Return where a log would keep what is said now: increasing, and the same each time."""
        self._last_said = max(self._last_said, self.now(cause).position) + 1
        return self._last_said

    # -- playing -------------------------------------------------------------------------------

    async def play(self) -> None:
        """Play all, or up to what is not in the record and must be.

        Raises `LogCorruptError`, `LogError`.
        """
        watching = asyncio.create_task(self._watch())
        try:
            while await self.step(_BATCH) and not self.answering.is_lacking:
                pass
        finally:
            watching.cancel()

    async def step(self, limit: int = 1) -> list[Record]:
        """Play the next records, at most `limit`, until all are handled; return them.

        `[]` at the end. Records that no agent may get (answers and effects) come along.
        """
        records = await self.upcoming(limit if self.pace.rate is None else 1)
        if not records:
            return []
        batch = self._batch(records)
        await self.pace.wait(batch[0].recorded_ns)
        await self._offer(batch)
        self._last = batch[-1]
        self._recording.forget(len(batch))
        for record in batch:
            self._turns.forget(record.envelope.id)
            if self.on_played is not None:
                self.on_played(record)
        self.answering.settle()
        return batch

    async def close(self) -> None:
        """Stop reading the record."""
        await self._recording.close()

    async def upcoming(self, limit: int = 1) -> list[Record]:
        """Return the records that `step` would play, or a part of them; `[]` at the end."""
        selector = self.settings.selector
        records = await self._recording.peek(limit)
        if selector.last is None and selector.until_ns is None:
            return records
        last = selector.last if selector.last is not None else float("inf")
        until_ns = selector.until_ns if selector.until_ns is not None else float("inf")
        return list(takewhile(lambda r: r.position <= last and r.recorded_ns <= until_ns, records))

    async def pass_rest(self, limit: int) -> None:
        """Tell `on_skipped` of records behind what is played, `limit` at most."""
        while limit > 0 and (records := await self._recording.peek(_BATCH)):
            self._recording.forget(len(records))
            limit -= len(records)
            for record in records:
                if self.on_skipped is not None:
                    self.on_skipped(record)

    # -- one step ------------------------------------------------------------------------------

    def _batch(self, records: list[Record]) -> list[Record]:
        """Return how many of the first records can be offered together (or not at all)."""
        known = self._seatings
        first = records[0].envelope.topic
        seating = known.get(first) or self._seating(first)
        alone = seating.alone
        if alone is None and not seating.is_empty:
            return records[:1]
        count = offered = 0
        for record in records:
            envelope = record.envelope
            seating = known.get(envelope.topic) or self._seating(envelope.topic)
            if not seating.is_empty:
                if alone is None or seating.alone is not alone or offered == alone.burst:
                    break
                if envelope.priority is not None:
                    break
                offered += 1
            count += 1
        return records[: max(1, count)]

    def _seating(self, topic: str) -> Seating:
        seating = Seating() if topic.startswith(_UNHEARD) else self._seats.find(topic)
        if len(self._seatings) >= _MAX_CACHED:
            self._seatings.clear()
        self._seatings[topic] = seating
        return seating

    async def _offer(self, batch: list[Record]) -> None:
        self._playing = {record.envelope.id: record for record in batch}
        if len(batch) == 1:
            await self._offer_one(batch[0])
            return
        known = self._seatings
        seats = [known.get(topic) or self._seating(topic) for topic in map(_topic_of, batch)]
        alone = next((seating.alone for seating in seats if seating.alone), None)
        if alone is None:
            return
        offer = alone.sink.offer
        for record, seating in zip(batch, seats, strict=True):
            if not seating.is_empty:
                envelope = record.envelope
                offer(envelope if envelope.expirytime is None else _revived(record), None)
                self.played += 1
        await alone.idle()

    async def _offer_one(self, record: Record) -> None:
        envelope = record.envelope
        seating = self._seating(envelope.topic)
        if seating.is_empty:
            return
        seats = seating.chosen(await self._handlers(envelope.id, seating))
        self.played += bool(seats)
        asks = self._is_request(envelope)
        for seat in seats:
            if not (asks and seat.sink.answers):
                seat.sink.offer(_revived(record), None)
            elif self.settings.effects != "live" or not self._asks_itself(envelope):
                request = _revived(record)
                if request.credit is not None:
                    request = request.replace(credit=_MAX_CREDIT)
                seat.sink.offer(request, REPLY_TO)
            await seat.idle()

    async def _handlers(self, cause: str, seating: Seating) -> set[str]:
        """Return who has reacted to a message, as far ahead as it takes to know of each group."""

        def known() -> set[str]:
            return {agent_of(each.source) for each in self._recording.caused_by(cause)}

        def settled() -> set[str] | None:
            return handlers if seating.is_settled(handlers := known()) else None

        found = await self._recording.find(settled)
        return known() if found is None else found

    def _is_request(self, envelope: Envelope) -> bool:
        """Whether it was sent to be answered: it has a deadline or credit, or has an answer."""
        if envelope.expirytime is not None or envelope.credit is not None:
            return True
        caused = self._recording.caused_by(envelope.id)
        return any(each.topic.startswith(REPLY_PREFIX) for each in caused)

    def _asks_itself(self, envelope: Envelope) -> bool:
        """Whether who sent it takes part, and so asks again while its requests are live."""
        return agent_of(envelope.source) in self._agents

    async def _watch(self) -> None:
        """Say so when an agent keeps the replay waiting."""
        before = -1
        while True:
            await asyncio.sleep(_STALL_S)
            if before == self.position and (waiting := list(self._playing.values())):
                logger.warning(
                    "an agent has been handling %s (position %d) for %g s",
                    waiting[0].envelope.topic,
                    waiting[0].position,
                    _STALL_S,
                )
            before = self.position


_ADDRESSES = (protocol.INBOX_PREFIX, protocol.CONTROL_TOPIC)
_UNHEARD = (REPLY_PREFIX, EFFECT_PREFIX)
_topic_of = attrgetter("envelope.topic")


def _revived(record: Record) -> Envelope:
    """Return the message without a deadline that is over by now, unless it was over then."""
    envelope = record.envelope
    expires_ns = envelope.expires_ns
    if expires_ns is None or expires_ns <= record.recorded_ns:
        return envelope
    return envelope.replace(expirytime=None)


class Pace:
    """Makes what was recorded come at `rate` times the speed of the record; `None`: at once."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._origin: tuple[int, float] | None = None

    @property
    def rate(self) -> float | None:
        """The speed; changing it begins anew with the next record."""
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        self._rate, self._origin = rate, None

    def restart(self) -> None:
        """Begin anew with the next record, after a pause."""
        self._origin = None

    def due_in_s(self, recorded_ns: int) -> float:
        """Return in how many seconds the record of that time is due; 0 when it is late."""
        if self._rate is None:
            return 0.0
        now_s = time.monotonic()
        if self._origin is None:
            self._origin = recorded_ns, now_s
        first_ns, began_s = self._origin
        return max(0.0, began_s + (recorded_ns - first_ns) / 1e9 / self._rate - now_s)

    def lasts_s(self, recorded_s: float) -> float:
        """Return how long that takes which took `recorded_s` seconds."""
        return 0.0 if self._rate is None else recorded_s / self._rate

    async def wait(self, recorded_ns: int) -> None:
        """Return when the record of that time is due."""
        if (left_s := self.due_in_s(recorded_ns)) > 0:
            await asyncio.sleep(left_s)
