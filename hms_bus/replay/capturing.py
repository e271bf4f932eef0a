"""Outputs of replayed agents: kept instead of sent, and the same in each run."""

from collections.abc import Callable

from hms_bus import jsonformat
from hms_bus.envelope import Envelope
from hms_bus.ids import format_time
from hms_bus.replay.naming import agent_of, derived_id


class Turns:
    """Counts what agents do for a cause; the counts of a cause end with it."""

    def __init__(self) -> None:
        self._counts: dict[str | None, dict[tuple[str, str], int]] = {}

    def next(self, cause: str | None, agent: str, what: str) -> int:
        """Return how often the agent has done `what` for `cause` before."""
        counts = self._counts.setdefault(cause, {})
        turn = counts.get((agent, what), 0)
        counts[agent, what] = turn + 1
        return turn

    def forget(self, cause: str) -> None:
        """Begin anew for `cause`."""
        self._counts.pop(cause, None)


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
        """
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
