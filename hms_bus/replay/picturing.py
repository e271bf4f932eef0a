"""What a picture of a conversation shows: who said what to whom, and what came of what."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from hms_bus.bounces import ERROR, REPLY_PREFIX
from hms_bus.envelope import Envelope
from hms_bus.replay.causality import Causality

NOBODY = "(nobody)"
"""Who stands where an event goes that had no effect in the run."""

ArrowKind = Literal["event", "reply", "error"]


class Arrow(Struct, frozen=True, kw_only=True):
    """An event on its way: the index of the event, from whom to whom, both places of `agents`."""

    index: int
    sender: int
    receiver: int
    label: str
    kind: ArrowKind


class Chart(Struct, frozen=True, kw_only=True):
    """A sequence diagram: the agents in the order in which they appear, the arrows in order.

    An arrow leads to each agent that reacted to the event: that sent something which the event
    caused. A reply leads to who had asked. What nobody reacted to leads to `NOBODY`, who stands
    last.
    """

    agents: tuple[str, ...]
    arrows: tuple[Arrow, ...]


class Branch(Struct, frozen=True, kw_only=True):
    """A line of a causal tree: the event, how deep it is, and for each depth if more follows.

    `lasts` has one truth value for each depth down to its own: whether the branch there is the last
    one of its parent.
    """

    index: int
    depth: int
    parent: int | None
    lasts: tuple[bool, ...]


def sequence(events: Sequence[Envelope]) -> Chart:
    """Return the sequence diagram of events, which are in recorded order."""
    causality = Causality(events)
    agents: dict[str, int] = {}
    for event in events:
        agents.setdefault(event.source, len(agents))
    nobody = len(agents)
    arrows = [
        Arrow(
            index=index,
            sender=agents[event.source],
            receiver=receiver,
            label=event.topic,
            kind=_kind(event),
        )
        for index, event in enumerate(events)
        for receiver in _receivers(causality, index, agents) or [nobody]
    ]
    is_lost = any(arrow.receiver == nobody for arrow in arrows)
    return Chart(agents=(*agents, NOBODY) if is_lost else tuple(agents), arrows=tuple(arrows))


def _receivers(causality: Causality, index: int, agents: dict[str, int]) -> list[int]:
    event = causality.events[index]
    if event.topic.startswith(REPLY_PREFIX):
        asked = causality.cause(index)
        return [] if asked is None else [agents[causality.events[asked].source]]
    sources = (causality.events[effect].source for effect in causality.effects(index))
    return list(dict.fromkeys(agents[source] for source in sources))


def _kind(event: Envelope) -> ArrowKind:
    if event.type == ERROR:
        return "error"
    return "reply" if event.topic.startswith(REPLY_PREFIX) else "event"


def tree(events: Sequence[Envelope]) -> list[Branch]:
    """Return the causal trees of events, depth first, roots and siblings in recorded order."""
    causality = Causality(events)
    branches: list[Branch] = []
    seen: set[int] = set()
    stack: list[tuple[int, int | None, tuple[bool, ...]]] = [
        (root, None, ()) for root in reversed(causality.roots())
    ]
    while stack:
        index, parent, lasts = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        branches.append(Branch(index=index, depth=len(lasts), parent=parent, lasts=lasts))
        effects = causality.effects(index)
        stack += (
            (effect, index, (*lasts, place == len(effects) - 1))
            for place, effect in reversed(list(enumerate(effects)))
        )
    return branches
