"""Who caused what: the trees that `causationid` makes of a run."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from hms_bus.bounces import REPLY_PREFIX
from hms_bus.envelope import Envelope
from hms_bus.replay.events import EFFECT


class Causality:
    """The causes and effects among `events`, which are named by their index, from 0.

    An event's cause is the first event whose `id` is its `causationid`. An event that names itself
    has no cause. Of several events with one id the first has all effects.
    """

    def __init__(self, events: Sequence[Envelope]) -> None:
        self.events = events
        self._by_id: dict[str, int] = {}
        self._effects: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            self._by_id.setdefault(event.id, index)
            if event.causationid is not None and event.causationid != event.id:
                self._effects.setdefault(event.causationid, []).append(index)

    def find(self, event_id: str) -> int | None:
        """Return the index of the first event with this id."""
        return self._by_id.get(event_id)

    def cause(self, index: int) -> int | None:
        """Return the index of its cause; `None` for a root, or a cause that is not here."""
        event = self.events[index]
        if event.causationid is None or event.causationid == event.id:
            return None
        return self._by_id.get(event.causationid)

    def is_root(self, index: int) -> bool:
        """Whether nothing among the events caused it."""
        return self.cause(index) is None

    def effects(self, index: int) -> Sequence[int]:
        """Return what it caused itself, in recorded order."""
        event_id = self.events[index].id
        return self._effects.get(event_id, ()) if self._by_id[event_id] == index else ()

    def consequences(self, index: int) -> Iterator[int]:
        """Yield its effects and, of an answer, what who got it sent afterwards for the same cause.

        An answer causes nothing by itself, whether it is a reply or what an effect returned: what
        it tells flows into what the handler that got it, which has a cause of its own, sends from
        then on.
        """
        yield from self.effects(index)
        asked = self._asked_by(index)
        if asked is None or asked.causationid is None:
            return
        siblings = self._effects.get(asked.causationid, [])
        for place in range(bisect_right(siblings, index), len(siblings)):
            at = siblings[place]
            if self.events[at].source == asked.source:
                yield at
                if self.events[at].type == EFFECT:
                    return  # what is left follows from that one, too

    def _asked_by(self, index: int) -> Envelope | None:
        """Return what an answer was waited for with: the request of a reply, the effect itself."""
        event = self.events[index]
        if event.type == EFFECT:
            return event
        request = self.cause(index) if event.topic.startswith(REPLY_PREFIX) else None
        return None if request is None else self.events[request]

    def effects_of(self, event_id: str) -> Sequence[int]:
        """Return what names this id as its cause, whether the cause is here or not."""
        return self._effects.get(event_id, ())

    def cause_ids(self) -> Iterable[str]:
        """Return every id that some event names as its cause."""
        return self._effects.keys()

    def chain(self, index: int) -> list[int]:
        """Return the causes from the root down to the event itself, which comes last."""
        chain = [index]
        seen = {index}
        while (cause := self.cause(chain[-1])) is not None and cause not in seen:
            seen.add(cause)
            chain.append(cause)
        return chain[::-1]

    def descend(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield the event and all that followed from it as `(index, depth)`, depth first.

        Siblings come in recorded order. Each event comes once, also where ids form a circle.
        """
        seen = {index}
        ahead = [(index, 0)]
        while ahead:
            at, depth = ahead.pop()
            yield at, depth
            for effect in reversed(self.effects(at)):
                if effect not in seen:
                    seen.add(effect)
                    ahead.append((effect, depth + 1))

    def roots(self) -> list[int]:
        """Return the events without a cause here, in recorded order."""
        return [index for index in range(len(self.events)) if self.is_root(index)]
