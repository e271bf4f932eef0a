"""What may enter a log."""

import pytest

from hms_bus.abc import Expect
from hms_bus.errors import ConflictError, UsageError
from hms_bus.log.admission import admit
from hms_bus.log.documents import Entry
from hms_bus.logrules import check_expect


class Known:
    """A ledger of the records that it is given."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = entries

    def find(self, source: str, id: str) -> int | None:  # noqa: A002
        keys = [(entry.source, entry.id) for entry in self._entries]
        return keys.index((source, id)) + 1 if (source, id) in keys else None

    def last_on(self, topic: str) -> int:
        return max((n for n, e in enumerate(self._entries, 1) if e.topic == topic), default=0)


def entry(id: str, topic: str = "a.b", source: str = "s") -> Entry:  # noqa: A002
    return Entry(id, source, topic, b"{}")


A, B, C = entry("a"), entry("b"), entry("c")


def test_new_entries_get_the_next_positions() -> None:
    receipts, fresh = admit([B, C], "any", Known(A), 1)
    assert [(r.id, r.position, r.duplicate) for r in receipts] == [("b", 2, False), ("c", 3, False)]
    assert fresh == [B, C]


def test_known_entries_get_the_position_of_the_first() -> None:
    receipts, fresh = admit([A, C, B], "any", Known(A, B), 2)
    assert [(r.position, r.duplicate) for r in receipts] == [(1, True), (3, False), (2, True)]
    assert fresh == [C]


def test_an_entry_that_comes_twice_in_one_batch_is_taken_once() -> None:
    receipts, fresh = admit([A, B, A], "any", Known(), 0)
    assert [(r.position, r.duplicate) for r in receipts] == [(1, False), (2, False), (1, True)]
    assert fresh == [A, B]


def test_the_same_id_from_another_source_is_another_event() -> None:
    _, fresh = admit([entry("a", source="other")], "any", Known(A), 1)
    assert len(fresh) == 1


@pytest.mark.parametrize("expect", ["any", 2])
def test_an_expectation_that_holds(expect: Expect) -> None:
    receipts, _ = admit([C], expect, Known(A, B), 2)
    assert receipts[0].position == 3


@pytest.mark.parametrize("expect", ["none", 0])
def test_a_topic_without_records(expect: Expect) -> None:
    receipts, _ = admit([entry("n", "a.new"), entry("m", "a.new")], expect, Known(A), 1)
    assert [receipt.position for receipt in receipts] == [2, 3]


@pytest.mark.parametrize(("expect", "expected"), [("none", 0), (0, 0), (1, 1), (3, 3)])
def test_an_expectation_that_does_not_hold(expect: Expect, expected: int) -> None:
    with pytest.raises(ConflictError) as error:
        admit([C], expect, Known(A, B), 2)
    assert (error.value.topic, error.value.expected, error.value.actual) == ("a.b", expected, 2)


def test_a_repeated_batch_is_answered_as_the_first_time_whatever_it_expects() -> None:
    receipts, fresh = admit([A, B], "none", Known(A, B), 2)
    assert [(r.position, r.duplicate) for r in receipts] == [(1, True), (2, True)]
    assert fresh == []


def test_a_batch_that_is_new_in_part_must_meet_its_expectation() -> None:
    with pytest.raises(ConflictError):
        admit([B, C], 1, Known(A, B), 2)


def test_an_empty_batch() -> None:
    assert admit([], "none", Known(), 0) == ([], [])


@pytest.mark.parametrize("expect", [-1, True, "some", 1.5, None])
def test_what_is_no_expectation(expect: Expect) -> None:
    with pytest.raises(UsageError, match="expect is"):
        check_expect(["a.b"], expect)


def test_an_expectation_speaks_of_one_topic() -> None:
    check_expect(["a.b", "x"], "any")
    with pytest.raises(UsageError, match="one topic"):
        check_expect(["a.b", "x"], 1)
