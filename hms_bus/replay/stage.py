"""One replay: plays the record to the agents that share it, and captures what they say.

The next message is offered when the one before is handled, by one agent after the other, so that a
replay is the same each time. Messages in a row for one handler that takes them one by one are
offered together: it makes no difference to it, and saves a turn of the event loop for each.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from heapq import heappop, heappush
from itertools import count, takewhile
from operator import attrgetter

from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Sink, Unsubscribe
from hms_bus.bounces import REPLY_PREFIX
from hms_bus.bus import protocol
from hms_bus.envelope import Envelope
from hms_bus.errors import LogCorruptError
from hms_bus.replay.answering import Answering
from hms_bus.replay.capturing import Capture, Turns
from hms_bus.replay.events import EFFECT_PREFIX
from hms_bus.replay.naming import agent_of, is_named
from hms_bus.replay.recording import Recording, batches_of
from hms_bus.replay.requests import is_request
from hms_bus.replay.seats import Seat, Seating, compile_seats
from hms_bus.replay.settings import ReplaySettings
from hms_bus.topics import TopicIndex, parse_pattern

logger = logging.getLogger("hms_bus")

REPLY_TO = "$replay.reply"
"""Where agents send their answers to requests that were recorded; they are captured."""

_BATCH = 512
_MAX_CACHED = 65_536
_STALL_S = 10.0

Again = Callable[[], Awaitable[None]]
"""Delivers once more what was given back, and returns when that is handled."""


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
        """Told each record between and behind what is played: of other conversations."""
        self.clock_ns = 0
        """When what is played next was recorded; the virtual clock of what is held back."""
        self.is_over = False
        """Whether nothing more is played, so that nobody need wait for a later message."""
        selector = settings.selector
        # Not of one conversation: an answer may belong to another one.
        ahead = replace(selector, last=None, until_ns=None, correlation=None)
        self._recording = Recording(
            batches_of(log, ahead), ahead=settings.ahead, remap=settings.remap
        )
        self._playing: dict[str, Record] = {}
        self._waiting_for: Callable[[], Record | None] = _nothing
        self._held: list[tuple[int, int, Record, Again]] = []
        self._held_before = count()
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

    def keep(self, envelope: Envelope) -> Envelope:
        """Capture an event, and return it as it is kept."""
        if envelope.expirytime is not None:
            self.answering.pass_over(envelope)
        return self.capture.take(envelope)

    def now(self, cause: str | None) -> Record:
        """Return where on the record the one is who handles `cause`: the virtual clock."""
        return self._playing.get(cause, self._last) if cause is not None else self._last

    def next_position(self, cause: str | None) -> int:
        """Return where a log would keep what is said now: increasing, and the same each time."""
        self._last_said = max(self._last_said, self.now(cause).position) + 1
        return self._last_said

    def hold(self, record: Record, due_ns: int, again: Again) -> None:
        """Deliver `record` again before the first one of `due_ns` or later, or at the end."""
        heappush(self._held, (due_ns, next(self._held_before), record, again))

    # -- playing -------------------------------------------------------------------------------

    async def play(self) -> None:
        """Play all, or up to what is not in the record and must be.

        Raises, when what can be read was played, `LogCorruptError`, `LogError`.
        """
        while await self.step(_BATCH) and not self.answering.is_lacking:
            pass

    async def step(self, limit: int = 1) -> list[Record]:
        """Play the next records, at most `limit`, until all are handled; return them.

        `[]` at the end. Records that no agent may get (answers and effects) come along. Raises,
        when what can be read was played, `LogCorruptError`, `LogError`.
        """
        is_alone = self.pace.rate is not None or bool(self._held)
        records = await self._unplayed(1 if is_alone else limit)
        if not records:
            return await self._deliver_last()
        batch = self._batch(records)
        self.clock_ns = batch[0].recorded_ns
        await self.pace.wait(self.clock_ns)
        while self._held and self._held[0][0] <= self.clock_ns:
            await self._deliver_held()
        try:
            await self._offer(batch)
        finally:
            self._waiting_for = _nothing
        self._last = batch[-1]
        self._move_on(batch, self.on_played)
        return batch

    async def close(self) -> None:
        """Stop reading the record."""
        await self._recording.close()

    async def upcoming(self, limit: int = 1) -> list[Record]:
        """Return the records that `step` would play, or a part of them; `[]` at the end.

        Passes over those before them that are of other conversations. Raises as `step` does.
        """
        return await self._unplayed(limit) or [record for *_, record, _ in self._held[:1]]

    async def _unplayed(self, limit: int) -> list[Record]:
        """Return what comes next in the record; raises only when nothing is held back."""
        correlation = self.settings.selector.correlation
        while True:
            try:
                records = await self._recording.peek(limit if correlation is None else _BATCH)
            except LogCorruptError:
                if self._held:
                    return []
                raise
            records = self._within(records)
            if correlation is None or not records:
                return records
            played = [record.envelope.correlationid == correlation for record in records]
            if played[0]:
                return records[: min(limit, _first(played, wanted=False))]
            self._move_on(records[: _first(played, wanted=True)], self.on_skipped)

    @property
    def damage(self) -> LogCorruptError | None:
        """Why what lies further on cannot be read; `None` as far as it was tried.

        It may lie behind what is played: answers are looked for there, and `pass_rest` reads it.
        """
        failure = self._recording.failure
        return failure if isinstance(failure, LogCorruptError) else None

    async def pass_rest(self, limit: int) -> None:
        """Tell `on_skipped` of records behind what is played, `limit` at most.

        Raises, when it has told of what can be read, `LogCorruptError`, `LogError`.
        """
        while limit > 0 and (records := await self._recording.peek(_BATCH)):
            self._move_on(records, self.on_skipped)
            limit -= len(records)

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Say so, within this scope, when an agent keeps the replay waiting."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    def _within(self, records: list[Record]) -> list[Record]:
        selector = self.settings.selector
        if selector.last is None and selector.until_ns is None:
            return records
        last = selector.last if selector.last is not None else float("inf")
        until_ns = selector.until_ns if selector.until_ns is not None else float("inf")
        return list(takewhile(lambda r: r.position <= last and r.recorded_ns <= until_ns, records))

    def _move_on(self, records: list[Record], tell: Callable[[Record], None] | None) -> None:
        self._recording.forget(len(records))
        self.answering.settle(records)
        if tell is not None:
            for record in records:
                tell(record)

    # -- what was given back -------------------------------------------------------------------

    async def _deliver_held(self) -> Record:
        due_ns, _, record, again = heappop(self._held)
        now_ns = max(due_ns, self._last.recorded_ns)
        self._playing = {record.envelope.id: replace(self._last, recorded_ns=now_ns)}
        self._waiting_for = partial(_same, record)
        try:
            await again()
        finally:
            self._waiting_for = _nothing
        return record

    async def _deliver_last(self) -> list[Record]:
        """At the end, deliver one of those that still wait; there is nothing to wait for."""
        self.is_over = True
        return [await self._deliver_held()] if self._held else []

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
        before = self.played
        for record, seating in zip(batch, seats, strict=True):
            if not seating.is_empty:
                envelope = record.envelope
                offer(envelope if envelope.expirytime is None else _revived(record), None)
                self.played += 1
        offered = self.played - before

        def waiting_for() -> Record | None:
            heard = [r for r, seating in zip(batch, seats, strict=True) if not seating.is_empty]
            return next(iter(heard[offered - alone.sink.load :]), None)

        self._waiting_for = waiting_for
        await alone.idle()

    async def _offer_one(self, record: Record) -> None:
        envelope = record.envelope
        seating = self._seating(envelope.topic)
        if seating.is_empty:
            return
        seats = seating.chosen(await self._handlers(envelope.id, seating))
        self.played += bool(seats)
        self._waiting_for = partial(_same, record)
        asks = any(seat.sink.answers for seat in seats) and await self._asks(envelope)
        for seat in seats:
            if not (asks and seat.sink.answers):
                seat.sink.offer(_revived(record), None)
            elif self.settings.effects != "live" or not self._asks_itself(envelope):
                request = _revived(record)
                if request.credit is not None:
                    request = request.replace(credit=await self.answering.credit_of(record))
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

    async def _asks(self, envelope: Envelope) -> bool:
        """Whether it is to be answered, as it was then."""
        unsure = self.settings.effects == "live"

        def known() -> bool | None:
            caused = self._recording.caused_by(envelope.id)
            return is_request(envelope, caused, unsure=unsure) or None

        if envelope.expirytime is None:
            return known() is not None
        return await self._recording.find(known) is not None

    def _asks_itself(self, envelope: Envelope) -> bool:
        """Whether who sent it takes part, and so asks again while its requests are live."""
        return agent_of(envelope.source) in self._agents

    async def _watch(self) -> None:
        before: Record | None = None
        while True:
            await asyncio.sleep(_STALL_S)
            waiting = self._waiting_for()
            if waiting is not None and waiting is before:
                logger.warning(
                    "an agent has been handling %s (position %d) for %g s",
                    waiting.envelope.topic,
                    waiting.position,
                    _STALL_S,
                )
            before = waiting


_ADDRESSES = (protocol.INBOX_PREFIX, protocol.CONTROL_TOPIC)
_UNHEARD = (REPLY_PREFIX, EFFECT_PREFIX)
_topic_of = attrgetter("envelope.topic")


def _nothing() -> None:
    """Wait for nobody."""


def _same(record: Record) -> Record:
    return record


def _first(played: Sequence[bool], *, wanted: bool) -> int:
    """Return the first index at which it is as `wanted`, the length if it is so nowhere."""
    return played.index(wanted) if wanted in played else len(played)


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
