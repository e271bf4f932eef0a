"""A durable's cursor, case by case; what holds whatever happens is in test_cursor_model."""

from collections.abc import Sequence

import pytest

from hms_bus.abc import Delivery, Durable, Outcome, Record, Settlement
from hms_bus.ids import format_time
from hms_bus.log.durable import cursor
from hms_bus.log.durable.cursor import Cursor
from hms_bus.log.durable.saved import Saved, State
from tests.support.delivery_model import apply
from tests.support.events import event

SECOND = 10**9
NOW = 2 * 10**18
FOREVER_NS = 2**63 - 1
"""The latest time that a log file holds."""


class Story:
    """A cursor, what was kept of it, and all records that there are."""

    def __init__(self, *keys: str | None, expired: Sequence[int] = (), **settings: object) -> None:
        durable = Durable(name="d", pattern=">", **settings)  # pyright: ignore[reportArgumentType]
        self.saved = Saved(durable=durable, floor=0, delivered=0, delivered_ns=0)
        self.cursor = Cursor(self.saved, is_new=True)
        gone = format_time(NOW - SECOND)
        self.records = [
            Record(
                position=position,
                recorded_ns=NOW,
                envelope=event(partitionkey=key, expirytime=gone if position in expired else None),
            )
            for position, key in enumerate(keys, 1)
        ]
        self.cursor.feed(self.records)

    def take(self, limit: int = 9, after_s: float = 0) -> list[tuple[int, int]]:
        """Return position and attempt of what is handed out so many seconds later."""
        taken = self.cursor.take(limit, NOW + round(after_s * SECOND), "me")
        return [told(delivery) for delivery in taken]

    def settle(
        self, position: int, attempt: int, outcome: Outcome = "ack", delay_s: float = 0.0
    ) -> None:
        """Say what became of a delivery, now."""
        settlement = Settlement(
            position=position, attempt=attempt, outcome=outcome, delay_s=delay_s
        )
        self.cursor.settle(settlement, NOW)

    def keep(self) -> dict[int, State]:
        """Keep what has changed; return how the positions stand that have a row."""
        self.saved = apply(self.saved, self.cursor.changes())
        self.cursor.dead.clear()
        return {row.position: row.state for row in self.saved.rows}

    def restart(self) -> None:
        """Go on from what was kept."""
        self.cursor = Cursor(self.saved)
        singles, between = self.cursor.missing()
        wanted = {*singles, *between}
        self.cursor.restore(record for record in self.records if record.position in wanted)
        self.cursor.feed([each for each in self.records if each.position > self.cursor.delivered])

    def redrive(self, *positions: int) -> None:
        """Let dead ones come again."""
        self.cursor.redrive([self.records[position - 1] for position in positions])


def told(delivery: Delivery) -> tuple[int, int]:
    return delivery.record.position, delivery.attempt


def test_what_has_expired_is_behind_the_cursor_also_after_a_restart() -> None:
    story = Story(None, None, None, expired=[1, 2])
    assert story.take(1) == [(3, 1)]
    story.settle(3, 1)
    assert story.cursor.floor == 3

    story = Story(None, None, expired=[1])
    story.records.pop()
    story.cursor = Cursor(story.saved)
    story.cursor.feed(story.records)
    assert story.take() == []
    story.keep()
    assert (story.saved.floor, story.saved.delivered) == (1, 1)
    story.restart()
    assert story.take() == []
    assert not story.cursor.is_changed


def test_what_comes_again_by_redrive_counts_against_the_limit() -> None:
    story = Story(*[None] * 6, max_unacked=2)
    for position in range(1, 5):
        story.take(1)
        story.settle(position, 1, "term")
    assert story.take() == [(5, 1), (6, 1)]
    story.redrive(1, 2, 3, 4)
    assert story.take() == []
    assert story.cursor.unacked == 2
    story.settle(5, 1)
    assert story.take() == [(1, 1)]
    assert story.keep()[2] is State.PARKED
    story.restart()
    story.settle(6, 1)
    assert story.take() == [(2, 1)]


def test_a_redriven_one_waits_for_its_key_after_a_restart_too() -> None:
    story = Story("k", "k")
    story.take()
    story.settle(1, 1, "term")
    assert story.take() == [(2, 1)]
    story.redrive(1)
    assert story.take() == []
    story.keep()
    story.restart()
    assert story.take() == []
    story.settle(2, 1)
    assert story.take() == [(1, 1)]


def test_a_wait_is_not_cut_short_by_what_was_due_before_it() -> None:
    story = Story(None, None, ack_wait_s=10)
    story.take()
    story.settle(1, 1, "progress")
    story.settle(1, 1, "progress")
    assert story.take(1, after_s=10) == [(1, 2)]
    settlement = Settlement(position=1, attempt=2, outcome="nak", delay_s=60)
    story.cursor.settle(settlement, NOW + 10 * SECOND)
    assert story.take(after_s=11) == [(2, 2)]
    assert story.take(after_s=70) == [(1, 3), (2, 3)]


def test_who_has_refused_a_delivery_cannot_ack_it_any_more() -> None:
    story = Story(None)
    story.take()
    story.settle(1, 1, "nak", delay_s=5)
    story.settle(1, 1, "ack")
    assert story.take(after_s=6) == [(1, 2)]


def test_an_ack_counts_until_the_next_attempt_though_the_ack_wait_is_over() -> None:
    story = Story("k", "k", ack_wait_s=10)
    assert story.take() == [(1, 1)]
    assert story.take(after_s=10) == [(1, 2)]
    story.settle(1, 1)
    assert story.cursor.unacked == 1
    story.settle(1, 2)
    assert story.take(after_s=10) == [(2, 1)]


@pytest.mark.parametrize("delay_s", [1e11, float("inf"), float("nan"), -1e30])
def test_any_delay_becomes_a_time_that_a_log_file_holds(delay_s: float) -> None:
    story = Story(None, ack_wait_s=1e300)
    assert story.take() == [(1, 1)]
    story.settle(1, 1, "progress")
    story.settle(1, 1, "nak", delay_s)
    story.keep()
    [row] = story.saved.rows
    assert (row.state, row.attempts) == (State.WAITING, 1)
    assert NOW <= row.due_ns <= FOREVER_NS
    story.restart()
    assert story.take(after_s=(row.due_ns - NOW) / SECOND) == [(1, 2)]


def test_a_record_without_a_row_that_was_delivered_is_out_after_a_restart() -> None:
    story = Story(None, None, ack_wait_s=1e300)
    story.take()
    story.settle(2, 1)
    assert story.keep() == {2: State.DONE}
    story.restart()
    assert (story.cursor.unacked, story.cursor.redelivered) == (1, 0)
    assert story.take(after_s=1000) == []
    story.settle(1, 1)
    assert story.keep() == {}
    assert story.saved.floor == 2


def test_a_key_whose_parked_ones_fill_the_room_lets_them_go_one_by_one() -> None:
    story = Story(*["k"] * 1500, None)
    assert story.take() == [(1, 1)]
    assert story.take() == []
    assert not story.cursor.wants_records
    for position in range(1, 1500):
        story.settle(position, 1)
        assert (position + 1, 1) in story.take()
    assert story.cursor.wants_records


def test_what_is_stuck_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "MOST_BETWEEN", 3)
    story = Story(*[None] * 10)
    assert story.take(10) == [(position, 1) for position in range(1, 11)]
    story.settle(1, 1, "nak", delay_s=60)
    for position in range(2, 11):
        story.settle(position, 1)
    assert story.keep() == {1: State.WAITING}
    assert (story.saved.floor, story.saved.delivered) == (10, 10)
    assert story.cursor.settled_to == 0
    story.restart()
    assert story.cursor.settled_to == 0
    assert story.take(after_s=61) == [(1, 2)]
    story.settle(1, 2)
    assert story.keep() == {}
    assert story.cursor.settled_to == 10


def test_a_key_that_is_stuck_is_passed_over_with_what_waits_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cursor, "MOST_BETWEEN", 2)
    story = Story("k", "k", "a", "b", "c", "d")
    assert story.take() == [(1, 1), (3, 1), (4, 1), (5, 1), (6, 1)]
    for position in (3, 4, 5, 6):
        story.settle(position, 1)
    story.keep()
    story.restart()
    assert story.take() == []
    assert story.take(after_s=31) == [(1, 2)]
    story.settle(1, 2)
    assert story.take(after_s=31) == [(2, 1)]
    story.settle(2, 1)
    assert story.keep() == {}
    assert (story.saved.floor, story.saved.delivered) == (6, 6)


def test_what_is_due_is_not_lost_when_the_clock_is_put_back() -> None:
    story = Story(None)
    assert story.take() == [(1, 1)]
    story.settle(1, 1, "nak", delay_s=5)
    assert story.take(0, after_s=6) == []
    assert story.take(after_s=1) == [(1, 2)]


def test_a_wait_goes_on_when_the_clock_is_set_back() -> None:
    story = Story(None, None)
    assert story.take() == [(1, 1), (2, 1)]
    story.settle(1, 1, "nak", delay_s=5)
    assert story.take(after_s=2) == []
    hour_s = 3600
    assert story.take(after_s=-hour_s) == []
    assert story.take(after_s=4 - hour_s) == [(1, 2)]
    assert story.take(after_s=30 - hour_s) == [(2, 2)]


def test_what_is_put_off_by_the_clock_that_was_set_back_waits_in_full() -> None:
    story = Story(None, None)
    assert story.take() == [(1, 1), (2, 1)]
    hour_s = 3600
    at_work = Settlement(position=1, attempt=1, outcome="progress")
    refused = Settlement(position=2, attempt=1, outcome="nak", delay_s=60)
    for settlement in (at_work, refused):
        story.cursor.settle(settlement, NOW - hour_s * SECOND)
    assert story.take(after_s=29 - hour_s) == []
    assert story.take(after_s=30 - hour_s) == [(1, 2)]
    assert story.take(after_s=59.9 - hour_s) == []
    assert (2, 2) in story.take(after_s=60 - hour_s)


def test_a_wait_goes_on_when_the_clock_is_set_back_while_nobody_consumes() -> None:
    story = Story(None)
    assert story.take() == [(1, 1)]
    story.keep()
    story.restart()
    assert story.take(after_s=-3600) == []
    assert story.take(after_s=30 - 3600) == [(1, 2)]


def test_what_was_settled_leaves_nothing_behind_in_memory() -> None:
    story = Story(*[None] * 5000)
    for position in range(1, 5001):
        story.take(1)
        story.settle(position, 1)
    assert len(story.cursor._due) < 2 * cursor.READ_AHEAD


def test_a_dead_letter_that_has_expired_is_delivered_when_it_is_redriven() -> None:
    story = Story(None)
    assert story.take() == [(1, 1)]
    story.settle(1, 1, "term")
    story.keep()
    late = story.records[0].envelope.replace(expirytime=format_time(NOW - SECOND))
    story.records[0] = Record(position=1, recorded_ns=NOW, envelope=late)
    story.redrive(1)
    assert story.keep() == {1: State.PARKED}
    story.restart()
    assert story.take() == [(1, 1)]
    assert story.keep() == {1: State.OUT}
    story.restart()
    assert story.take(after_s=31) == [(1, 2)]
    story.settle(1, 2)
    assert story.keep() == {}
