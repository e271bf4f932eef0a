"""spec/topics.md by its own tables, and the index against the rules read the slow way."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hms_bus.errors import TopicError
from hms_bus.topics import (
    MAX_TOKENS,
    MAX_TOPIC_BYTES,
    TopicIndex,
    check_topic,
    covers,
    overlaps,
    parse_pattern,
)

Check = Callable[[str], object]

SPEC = Path(__file__).parents[2] / "spec" / "topics.md"


def rows(*heads: str) -> list[tuple[str, ...]]:
    """The rows of the spec's table with these heads, without the marks of code."""
    lines = iter(SPEC.read_text(encoding="utf-8").splitlines())
    start = "| " + " | ".join(heads) + " |"
    next(line for line in lines if line == start)
    next(lines)
    return [tuple(_cells(line)) for line in _until_blank(lines)]


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


def _cells(line: str) -> Iterator[str]:
    for cell in re.split(r" *\| *", line.strip("|").strip(" ")):
        yield "" if cell == "``" else cell.removeprefix("`").removesuffix("`")


# -- the spec's tables -------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "topic", "selects"), rows("pattern", "topic", "selects"))
def test_a_pattern_selects_what_the_spec_says(pattern: str, topic: str, selects: str) -> None:
    assert parse_pattern(pattern).matches(check_topic(topic)) == (selects == "yes")


@pytest.mark.parametrize(("pattern", "topic", "selects"), rows("pattern", "topic", "selects"))
def test_the_index_finds_what_the_spec_says(pattern: str, topic: str, selects: str) -> None:
    index = TopicIndex[str, list[str]](list)
    index.add(parse_pattern(pattern), "it")
    assert index.find(topic) == (["it"] if selects == "yes" else [])


@pytest.mark.parametrize(("pattern", "topic", "captures"), rows("pattern", "topic", "captures"))
def test_captures_are_what_the_spec_says(pattern: str, topic: str, captures: str) -> None:
    expected = dict(pair.split("=") for pair in captures.split())
    assert parse_pattern(pattern).capture(topic) == expected


@pytest.mark.parametrize(("text", "as_topic", "as_pattern"), rows("text", "topic", "pattern"))
def test_text_is_accepted_as_the_spec_says(text: str, as_topic: str, as_pattern: str) -> None:
    assert (as_topic, as_pattern) == (
        _accepted(check_topic, text),
        _accepted(parse_pattern, text),
    )


def _accepted(check: Check, text: str) -> str:
    try:
        check(text)
    except TopicError as error:
        return "no" if error.topic == text and error.reason else "refused without a reason"
    return "yes"


def test_the_limits_are_those_of_the_spec() -> None:
    limits = {what: (plain, system) for what, plain, system in rows(*LIMIT_HEADS)}
    assert limits["length, in bytes of UTF-8"] == (str(MAX_TOPIC_BYTES), str(MAX_TOPIC_BYTES + 16))
    assert limits["number of tokens"] == (str(MAX_TOKENS), str(MAX_TOKENS + 1))


LIMIT_HEADS = ("what", "limit", "with a leading `$`")


@pytest.mark.parametrize("check", [check_topic, parse_pattern])
@pytest.mark.parametrize(
    ("longest", "too_long"),
    [
        ("a" * 240, "a" * 241),
        ("$" + "a" * 255, "$" + "a" * 256),
        (".".join("a" * 31), ".".join("a" * 32)),
        ("$" + ".".join("a" * 32), "$" + ".".join("a" * 33)),
    ],
)
def test_the_limit_itself_is_allowed(check: Check, longest: str, too_long: str) -> None:
    assert _accepted(check, longest) == "yes"
    assert _accepted(check, too_long) == "no"


def test_the_longest_topic_can_be_answered() -> None:
    assert check_topic("$reply." + "a" * 240)
    assert check_topic("$reply." + ".".join("a" * 31))


@pytest.mark.parametrize("check", [check_topic, parse_pattern])
@given(text=st.text())
def test_any_text_is_accepted_or_refused_with_its_reason(check: Check, text: str) -> None:
    assert _accepted(check, text) in {"yes", "no"}


def test_a_refusal_is_not_remembered_as_an_acceptance() -> None:
    for _ in range(2):
        with pytest.raises(TopicError, match="belongs in a pattern"):
            check_topic("a.*")


def test_a_pattern_knows_what_was_written_and_what_it_means() -> None:
    pattern = parse_pattern("orders.{region}.>")
    assert pattern.text == "orders.{region}.>"
    assert pattern.plain == "orders.*.>"
    assert pattern.tokens == ("orders", "*", ">")
    assert pattern.captures == ((1, "region"),)


# -- against the rules, read the slow way --------------------------------------------------------

# Few tokens, so that chance meets: what differs matters here, not how it is spelled.
WORDS = ("a", "b", "$s", "$t")


def _dotted(first: st.SearchStrategy[str], later: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_with_tail, first, st.lists(later, max_size=3))


def _with_tail(head: str, tail: list[str]) -> str:
    return ".".join([head, *tail])


def _join(stem: str, rest: str) -> str:
    return stem + rest


TOPICS = _dotted(st.sampled_from(WORDS), st.sampled_from(["a", "b"]))
PATTERNS: st.SearchStrategy[str] = st.one_of(
    st.just(">"),
    st.builds(
        _join,
        _dotted(st.sampled_from([*WORDS, "*"]), st.sampled_from(["a", "b", "*"])),
        st.sampled_from(["", ".>"]),
    ),
)
ALL_TOPICS = [
    ".".join([head, *tail])
    for head in WORDS
    for tail in [
        [],
        *([x] for x in "ab"),
        *([x, y] for x in "ab" for y in "ab"),
        *([x, y, z] for x in "ab" for y in "ab" for z in "ab"),
        *([x, y, z, "a"] for x in "ab" for y in "ab" for z in "ab"),
        *([x, y, z, "a", "a"] for x in "ab" for y in "ab" for z in "ab"),
    ]
]


def selects(pattern: str, topic: str) -> bool:
    """The rules of the spec as a regular expression."""
    if topic.startswith("$") and pattern.partition(".")[0] != topic.partition(".")[0]:
        return False
    parts = {"*": r"[^.]+", ">": r".+"}
    expression = r"\.".join(parts.get(token, re.escape(token)) for token in pattern.split("."))
    return re.fullmatch(expression, topic) is not None


@given(PATTERNS, TOPICS)
def test_matching_agrees_with_the_rules(pattern: str, topic: str) -> None:
    assert parse_pattern(pattern).matches(topic) == selects(pattern, topic)


@given(PATTERNS, PATTERNS)
def test_a_pattern_covers_another_when_it_selects_all_of_it(wide: str, narrow: str) -> None:
    expected = all(selects(wide, topic) for topic in ALL_TOPICS if selects(narrow, topic))
    # A wildcard that both words of this little language satisfy is still narrower than `*`.
    assert not covers(_tokens(wide), _tokens(narrow)) or expected
    if "*" not in narrow and ">" not in narrow:
        assert covers(_tokens(wide), _tokens(narrow)) == expected


@given(PATTERNS, PATTERNS)
def test_covering_is_reflexive_and_agrees_with_overlapping(left: str, right: str) -> None:
    assert covers(_tokens(left), _tokens(left))
    if covers(_tokens(left), _tokens(right)):
        assert overlaps(_tokens(left), _tokens(right))


@given(PATTERNS, PATTERNS, PATTERNS)
def test_covering_is_transitive(a: str, b: str, c: str) -> None:
    if covers(_tokens(a), _tokens(b)) and covers(_tokens(b), _tokens(c)):
        assert covers(_tokens(a), _tokens(c))


@given(PATTERNS, PATTERNS)
def test_patterns_overlap_when_a_topic_is_selected_by_both(left: str, right: str) -> None:
    both = any(selects(left, topic) and selects(right, topic) for topic in ALL_TOPICS)
    assert overlaps(_tokens(left), _tokens(right)) == both
    assert overlaps(_tokens(right), _tokens(left)) == both


def _tokens(pattern: str) -> tuple[str, ...]:
    return parse_pattern(pattern).tokens


# -- the index -----------------------------------------------------------------------------------


class Value:
    """Compared by identity, as the index promises."""


class IndexMachine(RuleBasedStateMachine):
    """Adds, removes and finds at random, beside a list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.index = TopicIndex[Value, list[Value]](list, max_cached=4)
        self.held: list[tuple[str, Value]] = []

    @rule(pattern=PATTERNS)
    def add(self, pattern: str) -> None:
        value = Value()
        self.index.add(parse_pattern(pattern), value)
        self.held.append((pattern, value))

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.held) - 1))
        pattern, value = self.held.pop(place)
        self.index.remove(parse_pattern(pattern), value)

    @rule(pattern=PATTERNS)
    def remove_what_is_not_there(self, pattern: str) -> None:
        with pytest.raises(KeyError):
            self.index.remove(parse_pattern(pattern), Value())

    @rule(topic=TOPICS)
    def find(self, topic: str) -> None:
        expected = [value for pattern, value in self.held if selects(pattern, topic)]
        assert self.index.find(topic) == expected

    @invariant()
    def counts(self) -> None:
        assert len(self.index) == len(self.held)

    @invariant()
    def leaves_nothing_behind(self) -> None:
        if not self.held:
            assert self.index._root.is_empty


TestIndex = IndexMachine.TestCase


def test_what_a_topic_finds_is_compiled_once_until_something_changes() -> None:
    compiled: list[int] = []

    def compile_them(values: list[str]) -> tuple[str, ...]:
        compiled.append(len(values))
        return tuple(values)

    index = TopicIndex[str, tuple[str, ...]](compile_them)
    index.add(parse_pattern("a.*"), "one")
    assert index.find("a.b") is index.find("a.b")
    index.add(parse_pattern("a.>"), "two")
    assert index.find("a.b") == ("one", "two")
    index.remove(parse_pattern("a.*"), "one")
    assert index.find("a.b") == ("two",)
    assert compiled == [1, 2, 1]


def test_the_cache_is_bounded() -> None:
    index = TopicIndex[str, list[str]](list, max_cached=10)
    for number in range(1000):
        index.find(f"t.{number}")
    assert len(index.cache) <= 10


def test_idle_patterns_do_not_slow_an_unknown_topic_down() -> None:
    index = TopicIndex[str, list[str]](list)
    for number in range(10_000):
        index.add(parse_pattern(f"idle.{number}.*"), f"value {number}")
    index.add(parse_pattern("busy.*"), "busy")
    visited: list[str] = []
    root = index._root
    root.children = _Watched(root.children or {}, visited)
    assert index.find("busy.now") == ["busy"]
    assert visited == ["busy", "*"]


class _Watched(dict[str, Any]):
    """A dict that notes which keys are asked for."""

    def __init__(self, held: dict[str, Any], visited: list[str]) -> None:
        super().__init__(held)
        self._visited = visited

    def get(self, key: str, default: Any = None) -> Any:
        self._visited.append(key)
        return super().get(key, default)
