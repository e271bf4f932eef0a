"""Sequence diagrams and trees, in each of their forms."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from hms_bus import Envelope
from hms_bus.bounces import ERROR
from hms_bus.replay.mermaid import mermaid_sequence, mermaid_tree
from hms_bus.replay.picturing import NOBODY, sequence, tree
from hms_bus.replay.svg import svg_sequence, svg_tree
from hms_bus.replay.textpictures import text_sequence, text_tree
from tests.support.runs import answered, runs, said

SVG = "{http://www.w3.org/2000/svg}"


def from_one(index: int) -> int:
    return index + 1


ARGUMENTS: dict[str, Any] = {"title": "a run", "place": from_one}
# What stands in the lines of a diagram of each kind, once texts are escaped.
SEQUENCE_LINE = re.compile(
    r"sequenceDiagram|    title [^;]*(#\d+;[^;]*)*|    participant a\d+ as [^;]*(#\d+;[^;]*)*"
    r"|    a\d+(-\)|-->>|--x)a\d+: \d+ [^;]*(#\d+;[^;]*)*"
)
TREE_LINE = re.compile(
    r"---|title: \".*\"|flowchart TD|    e\d+\[\"[^\"\[\]]*\"\]|    e\d+ --> e\d+"
)


@pytest.fixture
def run() -> list[Envelope]:
    task = said("task", by="/desk")
    ask = said("ask", by="/worker", cause=task)
    failed = answered(ask, {"code": "INTERNAL", "message": "no"}, by="/oracle", type=ERROR)
    done = said("done", by="/worker", cause=task)
    return [task, ask, failed, done]


def test_an_arrow_leads_to_those_who_reacted(run: list[Envelope]) -> None:
    chart = sequence(run)
    arrows = [(chart.agents[a.sender], chart.agents[a.receiver], a.kind) for a in chart.arrows]
    assert chart.agents == ("/desk", "/worker", "/oracle", NOBODY)
    assert arrows == [
        ("/desk", "/worker", "event"),
        ("/worker", "/oracle", "event"),
        ("/oracle", "/worker", "error"),
        ("/worker", NOBODY, "event"),
    ]


def test_a_tree_has_effects_below_their_cause(run: list[Envelope]) -> None:
    assert [(b.index, b.depth, b.parent) for b in tree(run)] == [
        (0, 0, None),
        (1, 1, 0),
        (2, 2, 1),
        (3, 1, 0),
    ]


def test_the_text_of_both(run: list[Envelope]) -> None:
    assert text_sequence(run, **ARGUMENTS).splitlines() == [
        "a run",
        "1  /desk    ──> /worker   task",
        "2  /worker  ──> /oracle   ask",
        "3  /oracle  ┄┄x /worker   $reply.ask",
        "4  /worker  ──> (nobody)  done",
    ]
    assert text_tree(run, **ARGUMENTS).splitlines() == [
        "a run",
        "1 task  /desk",
        "├─ 2 ask  /worker",
        "│  └─ 3 $reply.ask  /oracle",
        "└─ 4 done  /worker",
    ]


def test_mermaid_of_both(run: list[Envelope]) -> None:
    assert mermaid_sequence(run, **ARGUMENTS).splitlines() == [
        "sequenceDiagram",
        "    title a run",
        "    participant a0 as /desk",
        "    participant a1 as /worker",
        "    participant a2 as /oracle",
        "    participant a3 as #40;nobody#41;",
        "    a0-)a1: 1 task",
        "    a1-)a2: 2 ask",
        "    a2--xa1: 3 $reply.ask",
        "    a1-)a3: 4 done",
    ]
    lines = mermaid_tree(run, **ARGUMENTS).splitlines()
    assert lines[3:6] == ["flowchart TD", '    e0["1 task<br>/desk"]', '    e1["2 ask<br>/worker"]']
    assert "    e0 --> e1" in lines


NASTY = ['a"b', "a;b", "a<script>", "a&b]]>", "%%{init}%%", "a#35;b", "é–ü", "end", "\U0001f600"]


@pytest.mark.parametrize("name", NASTY)
def test_no_name_breaks_out_of_a_picture(name: str) -> None:
    event = said("t", {"x": name}, by=name, type=name)
    arguments: dict[str, Any] = ARGUMENTS | {"title": f"{name}: {name}"}
    for line in mermaid_sequence([event], **arguments).splitlines():
        assert SEQUENCE_LINE.fullmatch(line), line
    for line in mermaid_tree([event], **arguments).splitlines():
        assert TREE_LINE.fullmatch(line), line
    for draw in (svg_sequence, svg_tree):
        root = ET.fromstring(draw([event], **arguments))  # noqa: S314 - our own document
        assert root.findtext(f"{SVG}title") == arguments["title"]
        assert name in {text.text for text in root.iter(f"{SVG}text")}


def test_svg_has_no_character_that_xml_forbids() -> None:
    event = said("t", "\x00\x1b").replace(source="/a\x08", data="\ufffe")
    root = ET.fromstring(svg_sequence([event], **ARGUMENTS))  # noqa: S314 - our own document
    assert "/a\ufffd" in {text.text for text in root.iter(f"{SVG}text")}


@pytest.mark.parametrize("draw", [svg_sequence, svg_tree])
@given(run=runs())
def test_everything_in_an_svg_lies_within_it(draw: Callable[..., str], run: list[Envelope]) -> None:
    root = ET.fromstring(draw(run, **ARGUMENTS))  # noqa: S314 - our own document
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    texts = [text for text in root.iter(f"{SVG}text") if text.get("x")]
    assert len(texts) > len(run)
    for text in texts:
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height


@pytest.mark.parametrize("draw", [svg_sequence, svg_tree, text_tree, mermaid_tree, text_sequence])
def test_nothing_can_be_drawn(draw: Callable[..., str]) -> None:
    assert "a run" in draw([], **ARGUMENTS)


@given(runs())
def test_every_event_is_in_every_picture(run: list[Envelope]) -> None:
    assert {arrow.index for arrow in sequence(run).arrows} == set(range(len(run)))
    assert sorted(branch.index for branch in tree(run)) == list(range(len(run)))
