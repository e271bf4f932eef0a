"""Pictures of conversations as SVG 1.1, drawn without a library.

A picture is readable on light and dark pages, for it brings its own background; hovering over an
event shows its id and payload. Lengths are in pixels.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from hms_bus.envelope import Envelope
from hms_bus.replay.describing import preview
from hms_bus.replay.picturing import Arrow, Chart, sequence, tree
from hms_bus.replay.values import value_of

Place = Callable[[int], int]

_CHARACTER = 7.3  # of 12 pixels, in the widest of the usual monospaced fonts
_MARGIN = 24
_TOP = 92  # the title, and the names above the lifelines
_ROW = 34
_LEAST_COLUMN = 130
_INDENT = 26
_BOX = 22
# What XML 1.0 cannot hold in any form.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328;"
    "paint-order:stroke;stroke:#ffffff;stroke-width:3px}"
    ".title{font-size:15px;font-weight:600}.who{font-weight:600}.number{fill:#6e7781}"
    ".life{stroke:#d0d7de;stroke-dasharray:4 4}.arrow{stroke:#0969da;stroke-width:1.5;fill:none}"
    ".reply{stroke:#1a7f37;stroke-dasharray:6 4}.error{stroke:#cf222e;stroke-dasharray:6 4}"
    ".twig{stroke:#8c959f;fill:none}.box{fill:#f6f8fa;stroke:#54aeff}.head{fill:#57606a}"
)


def svg_sequence(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return a sequence diagram as an SVG document."""
    chart = sequence(events)
    column = _column_width(chart, place)
    width = 2 * _MARGIN + max(column * len(chart.agents), _title_width(title))
    height = _TOP + _ROW * (len(chart.arrows) + 1) + _MARGIN
    parts = [*_lifelines(chart, column, height)]
    for row, arrow in enumerate(chart.arrows):
        parts += _arrow(arrow, events[arrow.index], place, column, _TOP + _ROW * (row + 1))
    return _document(title, width, height, parts)


def _column_width(chart: Chart, place: Place) -> float:
    """Return the room of a lifeline: for its agent's name, and for what stands at its arrows."""
    names = max((_text_width(agent) for agent in chart.agents), default=0.0)
    labels = max(
        (
            _text_width(f"{place(arrow.index)} {arrow.label}")
            / max(1, abs(arrow.receiver - arrow.sender))
            for arrow in chart.arrows
        ),
        default=0.0,
    )
    return max(_LEAST_COLUMN, names + _MARGIN, labels + _MARGIN)


def _lifelines(chart: Chart, column: float, height: float) -> Iterator[str]:
    for number, agent in enumerate(chart.agents):
        x = _axis(number, column)
        yield _line("life", x, _TOP, x, height - _MARGIN)
        place = f'x="{x:g}" y="{_TOP - 12}" text-anchor="middle"'
        yield f'<text class="who" {place}>{_xml(agent)}</text>'


def _arrow(arrow: Arrow, event: Envelope, place: Place, column: float, y: float) -> Iterator[str]:
    start, end = _axis(arrow.sender, column), _axis(arrow.receiver, column)
    kind = "arrow" if arrow.kind == "event" else f"arrow {arrow.kind}"
    label = f'<tspan class="number">{place(arrow.index)}</tspan> {_xml(arrow.label)}'
    yield f"<g>{_tooltip(event)}"
    if arrow.sender == arrow.receiver:
        yield (
            f'<path class="{kind}" d="M{start:g} {y:g}h28v10h-26" marker-end="url(#head)"/>'
            f'<text x="{start + 6:g}" y="{y - 6:g}">{label}</text></g>'
        )
        return
    yield (
        f'<path class="{kind}" d="M{start:g} {y:g}H{end + (-2 if end > start else 2):g}" '
        'marker-end="url(#head)"/>'
        f'<text x="{(start + end) / 2:g}" y="{y - 6:g}" text-anchor="middle">{label}</text></g>'
    )


def _axis(number: int, column: float) -> float:
    return _MARGIN + column * (number + 0.5)


def svg_tree(events: Sequence[Envelope], *, title: str, place: Place) -> str:
    """Return the causal trees as an SVG document: an event a row, effects below their cause."""
    top, pitch = 60, 30
    rows: dict[int, int] = {}
    parts: list[str] = []
    width = _title_width(title)
    for row, branch in enumerate(tree(events)):
        rows[branch.index] = row
        event = events[branch.index]
        x, y = _MARGIN + _INDENT * branch.depth, top + pitch * row
        label = f"{place(branch.index)} {event.topic}"
        box = _text_width(label) + 16
        if branch.parent is not None:
            start = f"M{x - _INDENT / 2:g} {top + pitch * rows[branch.parent] + _BOX}"
            parts.append(f'<path class="twig" d="{start}V{y + _BOX / 2:g}H{x:g}"/>')
        parts.append(
            f'<g>{_tooltip(event)}<rect class="box" x="{x:g}" y="{y:g}" width="{box:g}" '
            f'height="{_BOX}" rx="4"/><text x="{x + 8:g}" y="{y + 15:g}">{_xml(label)}</text>'
            f'<text class="number" x="{x + box + 8:g}" y="{y + 15:g}">{_xml(event.source)}</text>'
            "</g>"
        )
        width = max(width, x + box + _text_width(event.source))
    return _document(title, width + 2 * _MARGIN, top + pitch * len(rows) + _MARGIN, parts)


def _document(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    label = quoteattr(_clean(title))
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker>'
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={label}>',
            f"<title>{_xml(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<defs>{head}</defs>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text class="title" x="{_MARGIN}" y="34">{_xml(title)}</text>',
            *parts,
            "</svg>\n",
        )
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _tooltip(event: Envelope) -> str:
    kind = "" if event.type == event.topic else f" {event.type}"
    return f"<title>{_xml(f'{event.id}{kind} {preview(value_of(event))}')}</title>"


def _text_width(text: str) -> float:
    return len(text) * _CHARACTER


def _title_width(title: str) -> float:
    return 1.3 * _text_width(title)  # 15 pixels, and bold


def _xml(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
