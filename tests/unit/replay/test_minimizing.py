"""The first record that breaks an invariant, and the smallest slice that still does."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import Envelope, Message
from hms_bus.errors import UsageError
from hms_bus.replay.causality import Causality
from hms_bus.replay.minimizing import Break, Checking, Invariant
from tests.support.runs import recorded, runs, said


def checking(run: Sequence[Envelope], invariant: Invariant) -> Checking:
    return Checking(recorded(run), invariant)


def at_most(count: int) -> Callable[[Sequence[Message]], bool]:
    return lambda messages: len(messages) <= count


@given(st.integers(1, 200), st.integers(0, 220))
def test_halves_find_the_first_record_that_breaks(size: int, allowed: int) -> None:
    check = checking([said("n", n) for n in range(size)], at_most(allowed))
    broken = check.first_break()
    assert (None if broken is None else broken.index) == (allowed if allowed < size else None)
    assert check.count <= 2 + size.bit_length()


def test_the_check_gets_messages_with_positions_in_order() -> None:
    seen: list[list[int | None]] = []

    def note(messages: Sequence[Message]) -> None:
        seen.append([message.position for message in messages])

    assert checking([said("n", n) for n in range(3)], note).first_break() is None
    assert seen == [[], [1, 2, 3]]


def test_an_assertion_says_why() -> None:
    def small(messages: Sequence[Message]) -> None:
        for message in messages:
            if message.data >= 2:
                raise AssertionError(f"{message.data} is too large")

    run = [said("n", n) for n in range(5)]
    assert checking(run, small).first_break() == Break(index=2, reason="2 is too large")


@pytest.mark.parametrize(("result", "is_broken"), [(False, True), (0, True), (None, False)])
def test_what_is_returned_decides_unless_it_is_none(result: object, is_broken: bool) -> None:
    def answer(messages: Sequence[Message]) -> object:
        return result if messages else True

    assert (checking([said("n")], answer).first_break() is not None) is is_broken


def test_what_is_mended_later_is_found_record_by_record() -> None:
    def balanced(messages: Sequence[Message]) -> bool:
        return sum(message.data for message in messages) >= 0

    run = [said("n", n) for n in (1, -2, 5, 5)]
    assert checking(run, balanced).first_break() is None
    broken = checking(run, balanced).first_break(monotonic=False)
    assert broken is not None
    assert broken.index == 1


def test_a_check_that_cannot_be_used_is_refused() -> None:
    async def later(messages: Sequence[Message]) -> bool:
        return True

    def fails(messages: Sequence[Message]) -> bool:
        return messages[0].data == 1

    with pytest.raises(UsageError, match="is asynchronous"):
        checking([said("n")], later).first_break()
    with pytest.raises(UsageError, match="failed with IndexError"):
        checking([said("n")], fails).first_break()
    with pytest.raises(UsageError, match="does not hold before the first record"):
        checking([said("n")], at_most(-1)).first_break()


def slice_of(run: Sequence[Envelope], invariant: Invariant) -> list[int]:
    check = checking(run, invariant)
    broken = check.first_break()
    assert broken is not None
    return check.smallest_slice(broken)


def test_a_record_that_breaks_alone_stands_with_its_causes() -> None:
    order, other = said("order", 1), said("order", 2)
    bill = said("bill", 1, cause=order)
    paid = said("paid", 1, cause=bill)
    run = [other, order, said("noise"), bill, said("noise"), paid, said("noise")]
    assert slice_of(run, lambda messages: all(m.topic != "paid" for m in messages)) == [1, 3, 5]


def test_what_takes_two_records_keeps_both_with_their_causes() -> None:
    def paid_once(messages: Sequence[Message]) -> None:
        paid = [message.data for message in messages if message.topic == "paid"]
        assert len(paid) == len(set(paid)), "paid twice"

    run: list[Envelope] = []
    for number in (*range(20), 7, *range(20, 30)):
        order = said("order", number)
        run += (order, said("seen", cause=order), said("paid", number, cause=order))
    assert slice_of(run, paid_once) == [21, 23, 60, 62]


def test_a_slice_that_the_check_cannot_judge_is_not_taken() -> None:
    def stock(messages: Sequence[Message]) -> bool:
        levels: dict[str, int] = {}
        for message in messages:
            if message.topic == "item.new":
                levels[message.data] = 1
            if message.topic == "item.taken":
                levels[message.data] -= 1
        return all(level >= 0 for level in levels.values())

    events = [("item.new", "a"), ("item.new", "b"), ("item.taken", "b"), ("item.taken", "a")]
    run = [said(topic, data) for topic, data in [*events, ("item.taken", "b"), events[0]]]
    assert slice_of(run, stock) == [1, 2, 4]


@given(runs(), st.data())
def test_a_slice_is_causal_breaks_and_needs_every_tree(
    run: list[Envelope], data: st.DataObject
) -> None:
    wanted = data.draw(st.sets(st.integers(0, len(run) - 1), min_size=1, max_size=3))

    def not_all_there(messages: Sequence[Message]) -> bool:
        return not wanted <= {message.data["n"] for message in messages}

    kept = slice_of(run, not_all_there)
    causality = Causality(run)
    assert kept == sorted({cause for index in wanted for cause in causality.chain(index)})
