"""Requests of replayed agents: answered from the record, or by an agent that takes part."""

from collections.abc import Awaitable

from hms_bus.abc import Sink
from hms_bus.bounces import ERROR, REPLY_PREFIX
from hms_bus.bus.protocol import CANCEL, CREDIT, END
from hms_bus.bus.requests import Inbox
from hms_bus.envelope import Envelope
from hms_bus.errors import NoRespondersError, UnrecordedError
from hms_bus.replay.capturing import Capture, Turns
from hms_bus.replay.events import EFFECT, Unrecorded
from hms_bus.replay.naming import agent_of
from hms_bus.replay.recording import Recording
from hms_bus.replay.seats import Seat, Seating
from hms_bus.replay.settings import Effects
from hms_bus.topics import TopicIndex


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
        self._taken: set[str] = set()

    @property
    def is_lacking(self) -> bool:
        """Whether an agent asked for what is not in the record, and must be."""
        return self._effects == "strict" and bool(self.unrecorded)

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
        recorded = self._request(agent, cause, request.topic, turn)
        if recorded is not None and self._is_answered(recorded):
            self._reply(recorded, request, reply_to)
            return None
        return self._ask_later(request, kept, reply_to, turn)

    async def _ask_later(self, request: Envelope, kept: Envelope, reply_to: str, turn: int) -> None:
        """Read on until the answer comes, as far as is allowed."""
        agent, cause, topic = agent_of(request.source), request.causationid, request.topic
        find = self._recording.find
        recorded = await find(lambda: self._request(agent, cause, topic, turn))
        if recorded is None:
            self._note(agent, cause, topic, turn)
            self._ask_live(request, kept, reply_to)
            return
        await find(lambda: self._is_answered(recorded) or None)
        self._reply(recorded, request, reply_to)

    def _request(self, agent: str, cause: str | None, topic: str, turn: int) -> Envelope | None:
        """Return the `turn`-th request on `topic` that the agent has made for `cause`.

        Of those that nothing has caused it is the next one that was not taken before.
        """
        if cause is None:
            turn = 0
        for envelope in self._recording.caused_by(cause):
            # Every request has a deadline, or the credit of a stream (spec/requests.md).
            if envelope.topic != topic or (envelope.expirytime or envelope.credit) is None:
                continue
            if agent_of(envelope.source) == agent and envelope.id not in self._taken:
                if turn == 0:
                    return envelope
                turn -= 1
        return None

    def _is_answered(self, recorded: Envelope) -> bool:
        """Whether all of the answer has been read."""
        answers = self._answers(recorded)
        if recorded.credit is None:
            return bool(answers)
        return any(answer.type in _LAST or answer.sequence is None for answer in answers)

    def _answers(self, recorded: Envelope) -> list[Envelope]:
        caused = self._recording.caused_by(recorded.id)
        return [envelope for envelope in caused if envelope.topic.startswith(REPLY_PREFIX)]

    def _reply(self, recorded: Envelope, request: Envelope, reply_to: str) -> None:
        """Give the recorded answers to who asks now; then time is over for more of them."""
        if recorded.causationid is None:
            self._taken.add(recorded.id)
        for sink in self.addresses.get(reply_to, ()):
            for answer in self._answers(recorded):
                sink.offer(answer.replace(causationid=request.id), None)
            pending = sink.waiting.get(request.id) if isinstance(sink, Inbox) else None
            if pending is not None:
                pending.fail(TimeoutError())

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

    def settle(self) -> None:
        """Forget the requests that agents have answered: who asked does not wait any more."""
        self._live.clear()
        self._asked.clear()

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
