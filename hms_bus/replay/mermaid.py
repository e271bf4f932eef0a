"""Pictures of conversations as Mermaid text (https://mermaid.js.org)."""

import json
import re
from collections.abc import Callable, Iterator, Sequence

from hms_bus.envelope import Envelope
from hms_bus.replay.picturing import ArrowKind, sequence, tree

# Written as `#…;`: a semicolon would end the statement, a percent sign may begin a comment, and
# quotes and brackets belong to the grammar.
_UNSAFE = re.compile(r"[^\w ./$@+=:,*'…-]")
_ARROWS: dict[ArrowKind, str] = {"event": "-)", "reply": "-->>", "error": "--x"}

Place = Callable[[int], int]


def mermaid_sequence(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return a sequence diagram; `place` is what stands before the topic of the event."""
    return "\n".join(_sequence(events, title, place)) + "\n"


def _sequence(events: Sequence[Envelope], title: str, place: Place) -> Iterator[str]:
    chart = sequence(events)
    yield "sequenceDiagram"
    yield f"    title {_escape(title)}"
    for number, agent in enumerate(chart.agents):
        yield f"    participant a{number} as {_escape(agent)}"
    for arrow in chart.arrows:
        ends = f"a{arrow.sender}{_ARROWS[arrow.kind]}a{arrow.receiver}"
        yield f"    {ends}: {place(arrow.index)} {_escape(arrow.label)}"


def mermaid_tree(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return the causal trees as a flowchart."""
    return "\n".join(_tree(events, title, place)) + "\n"


def _tree(events: Sequence[Envelope], title: str, place: Place) -> Iterator[str]:
    yield from ("---", f"title: {json.dumps(title)}", "---", "flowchart TD")
    for branch in tree(events):
        event = events[branch.index]
        label = f"{place(branch.index)} {_escape(event.topic)}<br>{_escape(event.source)}"
        yield f'    e{branch.index}["{label}"]'
        if branch.parent is not None:
            yield f"    e{branch.parent} --> e{branch.index}"


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"#{ord(match[0])};", text)
