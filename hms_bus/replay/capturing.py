"""Outputs of replayed agents: kept instead of sent, and the same in each run."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from hms_bus import jsonformat
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.ids import format_time
from hms_bus.replay.naming import agent_of, derived_id
from hms_bus.schedules import SCHEDULE, TOPIC, UNSCHEDULE, Schedule, is_schedule

_MAX_CAUSES = 4096

_SCHEDULES = f"{TOPIC}."
"""The topics on which a log keeps what is sent later. It is no output; the message in it is."""


class Turns:
    """Counts what agents do for each of the latest causes, also behind the handler's end."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str | None, dict[tuple[str, str], int]] = OrderedDict()

    def next(self, cause: str | None, agent: str, what: str) -> int:
        """Return how often the agent has done `what` for `cause` before."""
        counts = self._counts.get(cause)
        if counts is None:
            counts = self._counts[cause] = {}
            self._forget_oldest()
        turn = counts.get((agent, what), 0)
        counts[agent, what] = turn + 1
        return turn

    def _forget_oldest(self) -> None:
        if len(self._counts) > _MAX_CAUSES:
            oldest, _ = item = self._counts.popitem(last=False)
            if oldest is None:  # what nothing has caused has no end
                self._counts.update([item])
                self._counts.popitem(last=False)


class Capture:
    """Takes outputs; `on_output` is given each, in the order in which they were made."""

    def __init__(self, turns: Turns, clock: Callable[[str | None], int]) -> None:
        self.count = 0
        self.on_output: Callable[[Envelope], None] | None = None
        self._turns = turns
        self._clock = clock

    def take(self, envelope: Envelope) -> Envelope:
        """Return the output as it is kept: encoded once, and with nothing that differs by run.

        Its `id` derives from agent, cause and ordinal, its `time` is that of the virtual clock. It
        has no `expirytime`: that was made with the machine's clock, which is read once more for
        it, and no rounding makes two such times the same. Raises `EncodeError`, as a wire would.

        Of what is sent later, the message is taken at once. What a `cron` sends is no output: the
        schedule causes it, and no handler.
        """
        if envelope.type in _ABOUT_SCHEDULES and envelope.topic.startswith(_SCHEDULES):
            self._take_scheduled(envelope)
            return envelope
        agent, cause = agent_of(envelope.source), envelope.causationid
        now_ns = self._clock(cause)
        new_id = derived_id(agent, cause or "", self._turns.next(cause, agent, ""))
        changed = envelope.replace(
            id=new_id,
            time=format_time(now_ns),
            expirytime=None,
            correlationid=(
                new_id if envelope.correlationid == envelope.id else envelope.correlationid
            ),
        )
        kept = jsonformat.decode(jsonformat.encode(changed))
        self.count += 1
        if self.on_output is not None:
            self.on_output(kept)
        return kept

    def _take_scheduled(self, envelope: Envelope) -> None:
        if (message := sent_later(envelope)) is not None:
            self.take(message)


def sent_later(envelope: Envelope) -> Envelope | None:
    """Return the message that the record of a schedule sends once; `None` for any other event."""
    if is_schedule(envelope):
        with suppress(DecodeError):  # anybody may write what is no schedule; nothing is sent
            schedule = envelope.decode(Schedule)
            if schedule.cron is None:
                return schedule.message()
    return None


_ABOUT_SCHEDULES = (SCHEDULE, UNSCHEDULE)
