"""Chains of causes and trees of effects, also where ids make no sense."""

import pytest
from hypothesis import given

from hms_bus import Envelope
from hms_bus.replay.causality import Causality
from hms_bus.replay.events import EFFECT
from tests.support.runs import answered, runs, said


@pytest.fixture
def run() -> list[Envelope]:
    order = said("order", by="/shop")
    bill = said("bill", by="/bank", cause=order)
    pick = said("pick", by="/store", cause=order)
    paid = said("paid", by="/bank", cause=bill)
    return [order, bill, pick, paid]


def test_the_chain_begins_at_the_root(run: list[Envelope]) -> None:
    assert Causality(run).chain(3) == [0, 1, 3]
    assert Causality(run).chain(0) == [0]


def test_effects_come_depth_first_in_recorded_order(run: list[Envelope]) -> None:
    assert list(Causality(run).descend(0)) == [(0, 0), (1, 1), (3, 2), (2, 1)]


def test_a_cause_that_is_not_there_makes_a_root(run: list[Envelope]) -> None:
    assert Causality(run[1:]).roots() == [0, 1]
    assert Causality(run[1:]).effects_of(run[0].id) == [0, 1]


def test_a_circle_ends() -> None:
    a, b = said("a"), said("b")
    causality = Causality([a.replace(causationid=b.id), b.replace(causationid=a.id)])
    assert causality.chain(0) == [1, 0]
    assert list(causality.descend(0)) == [(0, 0), (1, 1)]


def test_an_event_that_names_itself_is_a_root() -> None:
    event = said("a")
    assert Causality([event.replace(causationid=event.id)]).roots() == [0]


def test_of_several_events_with_one_id_the_first_has_the_effects() -> None:
    first = said("a")
    causality = Causality([first, first.replace(source="/other"), said("b", cause=first)])
    assert causality.effects(0) == [2]
    assert causality.effects(1) == ()


def test_what_the_asker_says_after_an_answer_is_a_consequence_of_it() -> None:
    task = said("task", by="/desk")
    before = said("begun", by="/worker", cause=task)
    question = said("ask", by="/worker", cause=task)
    answer = answered(question, "42", by="/oracle")
    after = said("done", by="/worker", cause=task)
    other = said("seen", by="/watcher", cause=task)
    causality = Causality([task, before, question, answer, after, other])
    assert list(causality.consequences(3)) == [4]
    assert list(causality.effects(3)) == []


def test_what_a_handler_says_after_an_effect_is_a_consequence_of_it() -> None:
    task = said("task", by="/desk")
    before = said("begun", by="/worker", cause=task)
    first = said("$effect.search", by="/worker", cause=task, type=EFFECT)
    other = said("seen", by="/watcher", cause=task)
    second = said("$effect.model", by="/worker", cause=task, type=EFFECT)
    after = said("done", by="/worker", cause=task)
    causality = Causality([task, before, first, other, second, after])
    assert list(causality.consequences(2)) == [4]
    assert list(causality.consequences(4)) == [5]


@given(runs())
def test_every_event_hangs_below_exactly_one_root(run: list[Envelope]) -> None:
    causality = Causality(run)
    found = [index for root in causality.roots() for index, _ in causality.descend(root)]
    assert sorted(found) == list(range(len(run)))
