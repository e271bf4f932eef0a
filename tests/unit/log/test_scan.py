"""Passes over a log, page by page, against a list as the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hms_bus.abc import Selector
from hms_bus.log.scan import FIRST_PAGE, LARGEST_PAGE, Row, Scan
from hms_bus.log.selection import Selection, prepare


class Table:
    """A table whose rows have the given times; the topic of every third position is `three`."""

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self.reach = 7
        self.asked: list[int] = []

    def last_position(self) -> int:
        return len(self.times)

    def recorded_ns(self, position: int) -> int:
        return self.times[position - 1]

    def rows(
        self, first: int, last: int, *, backwards: bool, limit: int, selection: Selection
    ) -> tuple[list[Row], int]:
        self.asked.append(limit)
        places = range(first, last + 1)
        places = places[::-1][: self.reach] if backwards else places[: self.reach]
        rows = [
            (position, self.times[position - 1], b"")
            for position in places
            if selection.wants_topic is None or selection.wants_topic(topic(position))
        ]
        if len(rows) > limit:
            rows = rows[:limit]
            return rows, rows[-1][0]
        return rows, places[-1]


def topic(position: int) -> str:
    return "three" if position % 3 == 0 else "other"


def turn_all(scan: Scan, table: Table) -> list[int]:
    positions: list[int] = []
    for _ in range(len(table.times) + 3):
        positions += [position for position, _, _ in scan.turn(table)]
        if scan.ended:
            return positions
    raise AssertionError("the pass does not end")


def expected(times: list[int], selector: Selector) -> list[int]:
    positions = [
        position
        for position, time in enumerate(times, 1)
        if position >= (selector.first or 1)
        and (selector.last is None or position <= selector.last)
        and (selector.since_ns is None or time >= selector.since_ns)
        and (selector.until_ns is None or time <= selector.until_ns)
        and selector.pattern in (None, topic(position))
    ]
    return positions[::-1] if selector.backwards else positions


maybe = st.none() | st.integers(0, 40)
selectors = st.builds(
    Selector,
    pattern=st.sampled_from([None, "three"]),
    first=maybe,
    last=maybe,
    since_ns=maybe,
    until_ns=maybe,
    backwards=st.booleans(),
)
all_times = st.lists(st.integers(1, 40), max_size=40).map(sorted)


@given(times=all_times, selector=selectors)
def test_a_pass_yields_what_the_bounds_let_through_in_order(
    times: list[int], selector: Selector
) -> None:
    scan = Scan(prepare(selector), follow=False)
    assert turn_all(scan, Table(times)) == expected(times, selector)


@given(times=all_times, selector=selectors, cuts=st.lists(st.integers(0, 40)))
def test_a_pass_that_follows_yields_all_that_a_later_pass_would(
    times: list[int], selector: Selector, cuts: list[int]
) -> None:
    selector = replace(selector, backwards=False)
    scan = Scan(prepare(selector), follow=True)
    table = Table([])
    positions: list[int] = []
    for length in sorted({*(min(cut, len(times)) for cut in cuts), len(times)}):
        table.times = times[:length]
        while not scan.ended:
            before = scan.position
            positions += [position for position, _, _ in scan.turn(table)]
            if scan.position == before:
                break
    assert positions == expected(times, selector)


def test_a_following_pass_ends_only_by_its_bounds() -> None:
    for selector, ends in (
        (Selector(), False),
        (Selector(last=3), True),
        (Selector(last=4), False),
        (Selector(until_ns=2), True),
        (Selector(until_ns=3), False),
        (Selector(limit=0), True),
    ):
        scan = Scan(prepare(selector), follow=True)
        scan.turn(Table([1, 2, 3]))
        assert scan.ended == ends, selector


def test_a_pass_that_stops_following_ends_at_what_is_there_then() -> None:
    table = Table([1, 2])
    scan = Scan(prepare(Selector(until_ns=10)), follow=True)
    scan.turn(table)
    table.times = [1, 2, 3]
    scan.stop_following()
    assert [position for position, _, _ in scan.turn(table)] == [3]
    assert scan.ended


def test_a_pass_ends_at_what_was_the_last_record_at_its_first_page() -> None:
    table = Table([1] * 10)
    scan = Scan(prepare(Selector()), follow=False)
    positions = [position for position, _, _ in scan.turn(table)]
    table.times += [1] * 10
    assert positions + turn_all(scan, table) == list(range(1, 11))


@pytest.mark.parametrize("backwards", [False, True])
def test_pages_grow_from_small_to_large(backwards: bool) -> None:
    table = Table([1] * 10_000)
    table.reach = 10_000
    scan = Scan(prepare(Selector(backwards=backwards)), follow=False)
    assert len(turn_all(scan, table)) == 10_000
    assert table.asked[:3] == [FIRST_PAGE, 2 * FIRST_PAGE, 4 * FIRST_PAGE]
    assert table.asked[-1] == LARGEST_PAGE
