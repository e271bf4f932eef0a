"""Selectors, checked and prepared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import jsonformat
from hms_bus.abc import Selector
from hms_bus.errors import TopicError, UsageError
from hms_bus.log.selection import prepare
from tests.support.events import event

texts = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=20)


@pytest.mark.parametrize("selector", [Selector(first=-1), Selector(last=-1), Selector(limit=-1)])
def test_a_number_below_zero_is_refused(selector: Selector) -> None:
    with pytest.raises(UsageError, match="is -1"):
        prepare(selector)


def test_a_pattern_is_checked() -> None:
    with pytest.raises(TopicError):
        prepare(Selector(pattern="a..b"))


def test_a_text_that_no_document_can_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="correlation"):
        prepare(Selector(correlation="\ud800"))


def test_without_a_pattern_system_topics_are_wanted_too() -> None:
    assert prepare(Selector()).wants_topic is None
    wants = prepare(Selector(pattern=">")).wants_topic
    assert wants
    assert [wants("a.b"), wants("$SYS.x")] == [True, False]


@given(correlation=texts, source=texts, type_=texts)
def test_a_wanted_document_holds_a_fragment_of_every_group(
    correlation: str, source: str, type_: str
) -> None:
    envelope = event(source=source, type=type_, correlationid=correlation)
    selection = prepare(
        Selector(correlation=correlation, source=source, types=frozenset({type_, "other"}))
    )
    document = jsonformat.encode(envelope).decode()
    assert len(selection.fragments) == 3
    assert all(any(text in document for text in group) for group in selection.fragments)
    assert selection.is_wanted(envelope)


@pytest.mark.parametrize(
    "selector",
    [
        Selector(correlation="c1", source="s1", types=frozenset({"t1"})),
        Selector(correlation="c", source="s1", types=frozenset({"t", "t1"})),
        Selector(correlation="c", source="s", types=frozenset({"t1"})),
        Selector(correlation="c1", source="s", types=frozenset({"t"})),
    ],
)
def test_all_conditions_must_hold(selector: Selector) -> None:
    assert not prepare(selector).is_wanted(event(source="s", type="t", correlationid="c"))
