"""Requests of replayed agents: answered from the record, or by an agent that takes part."""

from bisect import bisect_right
from collections.abc import Awaitable, Sequence
from operator import attrgetter

from hms_bus.abc import Record, Sink
from hms_bus.bounces import ERROR
from hms_bus.bus.protocol import CANCEL, CONTROL_TOPIC, CREDIT, END
from hms_bus.bus.requests import Inbox
from hms_bus.envelope import Envelope
from hms_bus.errors import NoRespondersError, UnrecordedError
from hms_bus.replay.capturing import Capture, Turns
from hms_bus.replay.events import EFFECT, Unrecorded
from hms_bus.replay.naming import agent_of
from hms_bus.replay.recording import Recording
from hms_bus.replay.requests import is_answer, is_request
from hms_bus.replay.seats import Seat, Seating
from hms_bus.replay.settings import Effects
from hms_bus.topics import TopicIndex

_MAX_CREDIT = 2**31 - 1

_Asker = tuple[str, str | None, str]
"""Agent, cause and topic."""

_position_of = attrgetter("position")


class Answering:
    """Answers what the agents of one replay ask; tells `unrecorded` what the record lacked."""

    def __init__(
        self,
        recording: Recording,
        capture: Capture,
        turns: Turns,
        seats: TopicIndex[Seat, Seating],
        effects: Effects,
    ) -> None:
        self.unrecorded: list[Unrecorded] = []
        self.addresses: dict[str, list[Sink]] = {}
        """Inboxes of agents, and where they take control messages."""
        self._recording = recording
        self._capture = capture
        self._turns = turns
        self._seats = seats
        self._effects: Effects = effects
        self._live: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        self._places: dict[_Asker, int] = {}
        """Up to which position recorded requests that lie ahead were made again."""
        self._wanted_items: dict[str, int] = {}
        """How many items the callers took of streams that they left early, by request."""

    @property
    def is_lacking(self) -> bool:
        """Whether an agent asked for what is not in the record, and must be."""
        return self._effects == "strict" and bool(self.unrecorded)

    def check(self) -> None:
        """Raise `UnrecordedError` if it is lacking."""
        if self.is_lacking:
            first = self.unrecorded[0]
            raise UnrecordedError(
                agent=first.agent, cause=first.cause, what=first.what, ordinal=first.ordinal
            )

    # -- requests ------------------------------------------------------------------------------

    def ask(self, request: Envelope, reply_to: str) -> Awaitable[None] | None:
        """Answer `request` at `reply_to`; see `Transport.publish`.

        Where the record does not hold it: raises `UnrecordedError` if it must, else hands it to an
        agent that takes part. A request that was not answered in time is not answered in time.
        """
        agent, cause = agent_of(request.source), request.causationid
        turn = self._turns.next(cause, agent, request.topic)
        kept = self._capture.take(request)
        if self._effects == "live":
            self._ask_live(request, kept, reply_to)
            return None
        recorded = self._request(agent, cause, request.topic)
        if recorded is not None and self._is_answered(recorded):
            self._reply(recorded, request, reply_to)
            return None
        return self._ask_later(request, kept, reply_to, turn, recorded)

    async def _ask_later(
        self, request: Envelope, kept: Envelope, reply_to: str, turn: int, recorded: Record | None
    ) -> None:
        """Read on until the answer comes, as far as is allowed."""
        agent, cause, topic = agent_of(request.source), request.causationid, request.topic
        find = self._recording.find
        if recorded is None:
            recorded = await find(lambda: self._request(agent, cause, topic))
        if recorded is None:
            self._note(agent, cause, topic, turn)
            self._ask_live(request, kept, reply_to)
            return
        asked = recorded
        await find(lambda: self._is_answered(asked) or None)
        self._reply(asked, request, reply_to)

    def _request(self, agent: str, cause: str | None, topic: str) -> Record | None:
        """Take the next request on `topic` that the agent has made for `cause`.

        What it has published there with a `ttl` counts, as the record does not tell it from a
        request: `pass_over` takes that.
        """
        recorded = self._next_request(agent, cause, topic)
        if recorded is not None:
            self._places[agent, cause, topic] = recorded.position
        return recorded

    def _next_request(self, agent: str, cause: str | None, topic: str) -> Record | None:
        records = self._recording.records_caused_by(cause)
        # From the place on: a handler may make thousands of requests.
        place = self._places.get((agent, cause, topic), 0)
        for index in range(bisect_right(records, place, key=_position_of), len(records)):
            envelope = records[index].envelope
            if (
                envelope.topic == topic
                and agent_of(envelope.source) == agent
                and is_request(envelope, (), unsure=True)
            ):
                return records[index]
        return None

    def pass_over(self, event: Envelope) -> None:
        """Take note that the agent publishes an event that looks like a request."""
        asker = agent_of(event.source), event.causationid, event.topic
        recorded = self._next_request(*asker)
        if recorded is not None:
            caused = self._recording.caused_by(recorded.envelope.id)
            if not is_request(recorded.envelope, caused, unsure=False):
                self._places[asker] = recorded.position

    def _is_answered(self, recorded: Record) -> bool:
        """Whether all of the answer has been read: what comes too late is none."""
        expires_ns = recorded.envelope.expires_ns
        if expires_ns is not None and self._recording.read_to_ns > expires_ns:
            return True
        answers = self._answers(recorded)
        if recorded.envelope.credit is None:
            return bool(answers)
        return _is_complete(answers)

    def _answers(self, recorded: Record) -> list[Envelope]:
        expires_ns = recorded.envelope.expires_ns
        return [
            record.envelope
            for record in self._recording.records_caused_by(recorded.envelope.id)
            if is_answer(record.envelope)
            and (expires_ns is None or record.recorded_ns <= expires_ns)
        ]

    def _reply(self, recorded: Record, request: Envelope, reply_to: str) -> None:
        """Give the recorded answers to who asks now; then time is over for more of them."""
        for sink in self.addresses.get(reply_to, ()):
            for answer in self._answers(recorded):
                sink.offer(answer.replace(causationid=request.id), None)
            pending = sink.waiting.get(request.id) if isinstance(sink, Inbox) else None
            if pending is not None:
                pending.fail(TimeoutError())

    # -- answers of agents that take part ------------------------------------------------------

    async def credit_of(self, recorded: Record) -> int:
        """Return how many items of a stream are wanted now: all, or what its caller took."""
        await self._recording.find(lambda: self._is_answered(recorded) or None)
        answers = self._answers(recorded)
        if _is_complete(answers):
            return _MAX_CREDIT
        # Several servers may have answered, with the same numbers.
        wanted = max((_number_of(answer) + 1 for answer in answers), default=0)
        self._wanted_items[recorded.envelope.id] = wanted
        return max(1, wanted)

    def take_answer(self, answer: Envelope, control: str | None) -> None:
        """Capture the answer to a recorded request; the server takes control at `control`.

        As the caller did, leave a stream behind the last item that is recorded.
        """
        request = answer.causationid or ""
        wanted = self._wanted_items.get(request)
        if wanted is None or answer.type in _LAST:
            self._capture.take(answer)
            return
        number = _number_of(answer)
        if number < wanted:
            self._capture.take(answer)
        if number >= wanted - 1:
            cancel = answer.replace(type=CANCEL, causationid=request)
            for sink in self.addresses.get(control or CONTROL_TOPIC, ()):
                sink.offer(cancel, None)

    # -- without the record --------------------------------------------------------------------

    def _note(self, agent: str, cause: str | None, what: str, turn: int) -> None:
        """Keep that the record lacks something. Raises `UnrecordedError` if that must not be."""
        self.unrecorded.append(Unrecorded(agent=agent, cause=cause, what=what, ordinal=turn))
        if self._effects == "strict":
            raise UnrecordedError(agent=agent, cause=cause, what=what, ordinal=turn)

    def _ask_live(self, request: Envelope, kept: Envelope, reply_to: str) -> None:
        seats = self._seats.find(request.topic).chosen(set())
        seats = [seat for seat in seats if seat.sink.answers]
        if not seats:
            raise NoRespondersError(request.topic)
        self._live[kept.id] = request.id
        self._asked[request.id] = kept.id
        for seat in seats:
            seat.sink.offer(kept.replace(expirytime=request.expirytime), reply_to)

    def pass_on(self, envelope: Envelope, to: str) -> None:
        """Take what goes to an address: an answer of an agent that takes part, or control."""
        if envelope.type in (CREDIT, CANCEL):
            self._control(envelope, to)
            return
        kept = self._capture.take(envelope)
        request = self._live.get(envelope.causationid or "")
        if request is None:
            return
        for sink in self.addresses.get(to, ()):
            sink.offer(kept.replace(causationid=request), None)

    def settle(self, records: Sequence[Record]) -> None:
        """Forget what was asked while `records` were played: they lie behind, nobody waits."""
        self._live.clear()
        self._asked.clear()
        self._wanted_items.clear()
        if self._places:
            last = records[-1].position
            self._places = {asker: at for asker, at in self._places.items() if at > last}

    def _control(self, envelope: Envelope, to: str) -> None:
        asked = self._asked.get(envelope.causationid or "")
        if asked is not None:
            for sink in self.addresses.get(to, ()):
                sink.offer(envelope.replace(causationid=asked), None)

    # -- effects -------------------------------------------------------------------------------

    async def effect(
        self, agent: str, cause: str | None, topic: str, ordinal: int
    ) -> Envelope | None:
        """Return the recorded effect, `None` when it has to run.

        Of several it is the last one, of those that are read: the message was delivered again to a
        process that counts anew, and its last handling is the one that was not cut short. Raises
        `UnrecordedError` when it must not run.
        """
        if self._effects == "live":
            return None
        sequence = f"{ordinal:010d}"

        def search() -> Envelope | None:
            for envelope in reversed(self._recording.caused_by(cause)):
                if (
                    envelope.type == EFFECT
                    and envelope.topic == topic
                    and envelope.sequence == sequence
                    and agent_of(envelope.source) == agent
                ):
                    return envelope
            return None

        found = await self._recording.find(search)
        if found is None:
            self._note(agent, cause, topic, ordinal)
        return found


_LAST = (END, ERROR)


def _number_of(answer: Envelope) -> int:
    """Return the number of an item. What is no number ends in the agent that reads it."""
    text = answer.sequence or "0"
    return int(text) if text.isdecimal() else 0


def _is_complete(answers: list[Envelope]) -> bool:
    """Whether a stream was sent to its end. A plain reply is all of one."""
    return any(answer.type in _LAST or answer.sequence is None for answer in answers)
