"""Pictures of conversations in characters, for a terminal or a log of a build."""

from collections.abc import Callable, Iterator, Sequence

from hms_bus.envelope import Envelope
from hms_bus.replay.picturing import ArrowKind, Branch, sequence, tree

_ARROWS: dict[ArrowKind, str] = {"event": "──>", "reply": "┄┄>", "error": "┄┄x"}

Place = Callable[[int], int]


def text_sequence(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return a line for each message: its position, from whom, to whom, the topic."""
    chart = sequence(events)
    width = max((len(agent) for agent in chart.agents), default=0)
    digits = max((len(str(place(arrow.index))) for arrow in chart.arrows), default=0)
    lines = [title]
    for arrow in chart.arrows:
        sender, receiver = chart.agents[arrow.sender], chart.agents[arrow.receiver]
        ends = f"{sender:<{width}} {_ARROWS[arrow.kind]} {receiver:<{width}}"
        lines.append(f"{place(arrow.index):>{digits}}  {ends}  {arrow.label}")
    return "\n".join(lines) + "\n"


def text_tree(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return the causal trees, an event a line."""
    return "\n".join([title, *_tree(events, place)]) + "\n"


def _tree(events: Sequence[Envelope], place: Place) -> Iterator[str]:
    for branch in tree(events):
        event = events[branch.index]
        yield f"{twigs(branch)}{place(branch.index)} {event.topic}  {event.source}"


def twigs(branch: Branch) -> str:
    """Return what stands before a branch: the lines that join it to its parent."""
    if not branch.lasts:
        return ""
    *above, is_last = branch.lasts
    return "".join("   " if last else "│  " for last in above) + ("└─ " if is_last else "├─ ")
