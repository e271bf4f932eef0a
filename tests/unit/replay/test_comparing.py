"""What counts as the same in two runs, what differs, and what follows from it."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, Struct

from hms_bus import Envelope
from hms_bus.errors import TopicError, UsageError
from hms_bus.replay import Change, Comparison, compare
from hms_bus.replay.describing import describe, preview
from hms_bus.replay.events import EFFECT
from tests.support.runs import answered, runs, said, said_again


def kinds(comparison: Comparison) -> list[tuple[str, str]]:
    return [(found.kind, comparison.event(found).topic) for found in comparison.divergences]


def changes(left: Any, right: Any, *ignore: str) -> list[tuple[str, Any, Any]]:
    """The changes between two payloads of one event."""
    event = said("a.b", left)
    comparison = compare([event], [event.replace(data=right)], ignore=ignore)
    found = [change for d in comparison.divergences for change in d.changes]
    return [(change.path, change.left, change.right) for change in found]


@given(runs())
def test_a_run_that_says_the_same_again_is_the_same(run: list[Envelope]) -> None:
    comparison = compare(run, said_again(run))
    assert comparison.is_same
    assert comparison.same == len(run)


@given(runs(), st.data())
def test_one_changed_payload_is_one_change(run: list[Envelope], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(run) - 1))
    other = said_again(run)
    other[at] = other[at].replace(data={"n": -1, "items": [{"ts": at}]})
    comparison = compare(run, other)
    [found] = comparison.divergences
    assert (found.kind, found.left, found.right) == ("changed", at, at)
    assert found.changes == (Change(path="$.n", left=at, right=-1),)
    assert compare(run, other, ignore=["$.n"]).is_same


@given(runs(), st.data())
def test_a_missing_event_is_named_and_no_other_is(run: list[Envelope], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(run) - 1))
    other = [event for index, event in enumerate(said_again(run)) if index != at]
    comparison = compare(run, other)
    assert [found.left for found in comparison.divergences if found.kind == "missing"] == [at]
    assert all(
        found.kind == "changed" and found.changes[0].path == "causationid" and found.follows == 0
        for found in comparison.divergences
        if found.left != at
    )
    extra = compare(other, run)
    assert [found.right for found in extra.divergences if found.kind == "extra"] == [at]


@given(runs(), runs())
def test_both_directions_find_as_much(left: list[Envelope], right: list[Envelope]) -> None:
    there, back = compare(left, right), compare(right, left)
    assert there.count("missing") - there.count("extra") == len(left) - len(right)
    assert there.count("missing") == back.count("extra")
    assert there.same == back.same


@st.composite
def wild_runs(draw: st.DrawFn) -> list[Envelope]:
    """Draw events whose ids repeat themselves and whose causes may be anything, circles too."""
    names = st.sampled_from(["1", "2", "3", "4", "5"])
    values = st.tuples(names, names | st.none(), st.sampled_from(["a", "b"]), st.integers(0, 2))
    return [
        said(topic, n).replace(id=name, causationid=cause)
        for name, cause, topic, n in draw(st.lists(values, max_size=8))
    ]


@given(wild_runs(), wild_runs())
def test_every_event_is_accounted_for_once(left: list[Envelope], right: list[Envelope]) -> None:
    comparison = compare(left, right)
    lefts = [found.left for found in comparison.divergences if found.left is not None]
    rights = [found.right for found in comparison.divergences if found.right is not None]
    assert len(set(lefts)) == len(lefts)
    assert len(set(rights)) == len(rights)
    assert comparison.same + len(lefts) == len(left)
    assert comparison.same + len(rights) == len(right)
    assert compare(left, left).is_same
    for number, found in enumerate(comparison.divergences):
        assert found.follows != number
    parts = (comparison.following, comparison.independent)
    assert sum(map(len, parts)) == max(0, len(comparison.divergences) - 1)


PAYLOADS: list[tuple[Any, Any, list[tuple[str, Any, Any]]]] = [
    ({"total": 42}, {"total": 43}, [("$.total", 42, 43)]),
    ({"a": 1}, {"a": 1, "b": None}, [("$.b", UNSET, None)]),
    ({"a": [1, 2]}, {"a": [1]}, [("$.a[1]", 2, UNSET)]),
    ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}, [("$.a[0].x", 1, 2)]),
    ({"odd name": 1, "a'b": 1}, {}, [("$['odd name']", 1, UNSET), ('$["a\'b"]', 1, UNSET)]),
    ({"a": 1}, {"a": True}, [("$.a", 1, True)]),
    ({"a": 1}, {"a": 1.0}, []),
    ({"a": {}}, {"a": []}, [("$.a", {}, [])]),
    (5, 6, [("$", 5, 6)]),
    (None, UNSET, [("$", None, UNSET)]),
    (b"\x00", b"\x01", [("$", b"\x00", b"\x01")]),
    (Raw(b'{"a": 1, "b": 2}'), {"b": 2, "a": 1}, []),
]


@pytest.mark.parametrize(("left", "right", "expected"), PAYLOADS)
def test_payloads_are_compared_by_value_and_path(
    left: Any, right: Any, expected: list[tuple[str, Any, Any]]
) -> None:
    found = changes(left, right)
    assert [change for change in found if change[0].startswith("$")] == expected


def test_what_is_ignored_is_ignored_at_every_depth() -> None:
    left = {"ts": 1, "items": [{"ts": 1, "n": 1}, {"n": 2}]}
    right = {"items": [{"ts": 2, "n": 1}, {"ts": 9, "n": 2}]}
    assert changes(left, right, "$..ts") == []
    assert changes(left, right, "$.items[*].ts") == [("$.ts", 1, UNSET)]
    assert changes(left, right, "$") == []
    with pytest.raises(UsageError):
        changes(left, right, "$[")


def test_an_object_of_this_process_equals_its_json() -> None:
    class Order(Struct):
        id: int

    event = said("a.b", Order(7))
    assert compare([event], [event.replace(data=Raw(b'{"id":7}'))]).is_same


def test_json_in_name_only_is_compared_as_octets() -> None:
    event = said("a.b", b"{", datacontenttype="application/json")
    assert compare([event], [event]).is_same
    assert not compare([event], [event.replace(data=b"[")]).is_same


def test_attributes_are_compared_and_can_be_ignored() -> None:
    event = said("a.b", {"n": 1}, type="Order", subject="7", partitionkey="k")
    other = event.replace(topic="a.c", type="Bill", subject=None, partitionkey="l", hops=3)
    [found] = compare([event], [other]).divergences
    assert [change.path for change in found.changes] == ["topic", "type", "subject", "partitionkey"]
    assert found.changes[2] == Change(path="subject", left="7")
    names = ["topic", "type", "subject", "partitionkey"]
    assert compare([event], [other], ignore=names).is_same


def test_instances_of_an_agent_stand_for_each_other() -> None:
    root = said("in")
    left = [root, said("out", 1, by="/agents/reader-1", cause=root)]
    right = [root, said("out", 1, by="/agents/reader-2", cause=root)]
    assert compare(left, right).is_same
    right[1] = right[1].replace(source="/agents/writer")
    assert kinds(compare(left, right)) == [("missing", "out"), ("extra", "out")]


def test_one_output_less_does_not_shift_the_others() -> None:
    root = said("in")
    outputs = [said("out", {"n": n % 3}, cause=root) for n in range(9)]
    left, right = [root, *outputs], [root, *said_again(outputs[:4] + outputs[5:])]
    [found] = compare(left, right).divergences
    assert (found.kind, found.left) == ("missing", 5)
    [found] = compare(right, left).divergences
    assert (found.kind, found.right) == ("extra", 5)


def test_a_changed_output_is_found_between_its_neighbours() -> None:
    root = said("in")
    outputs = [said("out", {"n": n}, cause=root) for n in range(6)]
    other = said_again([*outputs[:1], *outputs[2:5], said("out", {"n": 50}, cause=root)])
    comparison = compare([root, *outputs], [root, *other])
    assert [(d.kind, d.left, d.right) for d in comparison.divergences] == [
        ("missing", 2, None),
        ("changed", 6, 5),
    ]


def test_outputs_of_one_cause_in_another_order_differ() -> None:
    root = said("in")
    outputs = [said("out", {"n": n}, cause=root) for n in range(4)]
    other = said_again([outputs[0], outputs[2], outputs[1], outputs[3]])
    comparison = compare([root, *outputs], [root, *other])
    [found] = comparison.divergences
    [change] = found.changes
    assert change.path == "order"
    assert {change.left, change.right} == {2, 3}
    assert compare([root, *outputs], [root, *other], ignore=["order"]).is_same


def test_outputs_to_another_topic_are_a_change_of_topic() -> None:
    root = said("in")
    left = [root, said("out.ok", {"n": 1}, type="Order", cause=root)]
    right = [root, said("out.failed", {"n": 1}, type="Order", cause=root)]
    [found] = compare(left, right).divergences
    assert found.changes == (Change(path="topic", left="out.ok", right="out.failed"),)


def test_a_summary_that_another_event_has_caused_differs_in_its_cause_only() -> None:
    def run(last: int) -> list[Envelope]:
        parts = [said("part", {"n": n}) for n in range(2)]
        return [*parts, said("summary", {"parts": 2}, by="/b", cause=parts[last])]

    left, right = run(0), run(1)
    [found] = compare(left, right).divergences
    assert found.changes == (Change(path="causationid", left=left[0].id, right=right[1].id),)
    assert compare(left, right, ignore=["causationid"]).is_same


def test_outputs_alone_are_aligned_by_the_ids_of_their_causes() -> None:
    causes = [said("in", n) for n in range(3)]
    recorded = [said("out", {"n": n}, cause=cause) for n, cause in enumerate(causes)]
    captured = [said("out", {"n": n}, cause=cause) for n, cause in enumerate(causes)]
    assert compare(recorded, captured).is_same
    assert kinds(compare(recorded[:2], captured[1:])) == [("missing", "out"), ("extra", "out")]
    others = [said("out", {"n": n}, cause=said("in", n)) for n in range(3)]
    assert compare(recorded, others).is_same


def test_nothing_is_the_same_as_nothing() -> None:
    assert compare([], []).is_same
    assert kinds(compare([], [said("a")])) == [("extra", "a")]
    assert kinds(compare([said("a")], [])) == [("missing", "a")]


@pytest.fixture
def bug() -> Comparison:
    """The oracle answers something else; worker and editor say other things, so does a clock."""

    def run(answer: int, tick: int) -> list[Envelope]:
        task = said("task", {"n": 1}, by="/desk")
        clock = said("clock", {"tick": 0}, by="/clock")
        question = said("ask", {"n": 1}, by="/worker", cause=task)
        reply = answered(question, {"v": answer}, by="/oracle")
        done = said("done", {"v": answer}, by="/worker", cause=task)
        later = said("clock", {"tick": tick}, by="/clock")
        report = said("report", {"v": answer}, by="/editor", cause=done)
        return [task, clock, question, reply, done, later, report]

    return compare(run(1, 1), run(2, 2))


def test_the_first_difference_and_its_consequences_stand_apart(bug: Comparison) -> None:
    assert bug.first is not None
    assert bug.event(bug.first).topic == "$reply.ask"
    assert [bug.event(found).topic for found in bug.following] == ["done", "report"]
    assert [bug.event(found).topic for found in bug.independent] == ["clock"]


def test_what_was_said_after_another_result_of_an_effect_follows_from_it() -> None:
    task, note = said("task", by="/desk"), said("note", by="/desk")

    def run(hits: int, text: str) -> list[Envelope]:
        searched = said("$effect.search", {"value": hits}, by="/worker", cause=task, type=EFFECT)
        asked = said("$effect.model", {"value": hits}, by="/worker", cause=task, type=EFFECT)
        found = said("found", hits, by="/worker", cause=task)
        read = said("read", text, by="/reader", cause=note)
        return [task, note, searched, asked, found, read]

    comparison = compare(run(1, "a"), run(2, "b"))
    assert [comparison.event(found).topic for found in comparison.following] == [
        "$effect.model",
        "found",
    ]
    assert [comparison.event(found).topic for found in comparison.independent] == ["read"]


def test_in_a_rerun_nothing_follows_from_another_difference(bug: Comparison) -> None:
    rerun = compare(bug.left, bug.right, is_rerun=True)
    assert rerun.following == ()
    assert len(rerun.independent) == len(bug.divergences) - 1
    assert describe(rerun).splitlines()[3] == "more differences (3):"


def test_differences_on_some_topics(bug: Comparison) -> None:
    narrowed = bug.only("report")
    assert kinds(narrowed) == [("changed", "report")]
    assert narrowed.divergences[0].follows is None
    assert bug.only("task").is_same
    assert bug.only("task").same == 1
    with pytest.raises(TopicError):
        bug.only("a..b")


def test_the_words_name_what_differs(bug: Comparison) -> None:
    assert describe(bug).splitlines() == [
        "first difference:",
        "~ A 4 ~ B 4: $reply.ask by /oracle",
        "    $.v: 1 -> 2",
        "what follows from it (2):",
        "~ A 5 ~ B 5: done by /worker",
        "    $.v: 1 -> 2",
        "~ A 7 ~ B 7: report by /editor",
        "    $.v: 1 -> 2",
        "independent of it (1):",
        "~ A 6 ~ B 6: clock by /clock",
        "    $.tick: 1 -> 2",
        "4 changed, 0 missing, 0 extra; 3 the same",
    ]
    assert "… and 1 more" in describe(bug, limit=1)


def test_the_words_for_what_is_only_on_one_side() -> None:
    root = said("in")
    left, right = [root, said("a", {"n": 1}, cause=root)], [root, said("b", cause=root, type="T")]
    assert describe(compare(left, right), names=("recorded", "replayed")).splitlines() == [
        "first difference:",
        "- missing, was recorded 2: a by /agents/a",
        '    $: {"n":1}',
        "independent of it (1):",
        "+ only in replayed 2: b T by /agents/a",
        "0 changed, 1 missing, 1 extra; 1 the same",
    ]


def test_of_long_texts_the_words_show_where_they_part() -> None:
    shared = "word " * 100
    text = describe(compare([said("a", shared + "old end")], [said("a", shared + "new end")]))
    shown = '…"ord word word word word old end"'
    assert f"$: {shown} -> {shown.replace('old', 'new')}" in text
    assert max(map(len, text.splitlines())) < 200


def test_no_payload_moves_a_terminal() -> None:
    assert preview("\x1b[2J\n\u2028") == '"\\u001b[2J\\n\\u2028"'
    assert preview(b"\x00" * 40).startswith("<40 bytes: 0000")


def test_no_name_in_a_payload_moves_a_terminal() -> None:
    name = "\x1b[2J\u202e\n"
    text = describe(compare([said("a", {name: 1})], [said("a", {name: 2})]))
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if "1 -> 2" in line] == [
        r'    $["\u001b[2J\u202e\n"]: 1 -> 2'
    ]


def test_the_words_count_one_as_one() -> None:
    assert describe(compare([said("a")], [said("a")])) == "no difference: 1 event is the same"


def test_a_hundred_thousand_events_take_no_longer_than_as_many_small_runs() -> None:
    def run(size: int, bug: int) -> list[Envelope]:
        events: list[Envelope] = []
        for n in range(size // 4):
            root = said("in", {"n": n}, by="/in")
            middle = said("mid", {"n": n, "v": n + (n == bug)}, by="/mid", cause=root)
            ends = (said("out", {"n": n, "k": k}, by="/out", cause=middle) for k in range(2))
            events += (root, middle, *ends)
        return events

    def seconds(size: int) -> float:
        left, right = run(size, -1), run(size, size // 16)
        del right[size // 2]
        started = time.process_time()
        comparison = compare(left, right)
        taken = time.process_time() - started
        assert comparison.count("missing") == 1
        return taken

    small = min(seconds(2_000) for _ in range(3))
    assert seconds(100_000) < 50 * small * 8
