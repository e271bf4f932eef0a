"""Many deadlines on one timer, under a clock that the test turns."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.bus.deadlines import Deadlines


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def go_to(self, when: float) -> None:
        self.now = when
        for _ in range(3):
            self.call_soon(self.stop)
            self.run_forever()


class Target:
    def __init__(self, expire: Callable[[], None]) -> None:
        self.ended = False
        self.expire = expire


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.close()


def test_deadlines_expire_at_their_time_in_their_order(clock: Clock) -> None:
    deadlines, expired = Deadlines(clock), list[str]()
    for name, when in [("late", 1003.0), ("soon", 1001.0), ("twin", 1001.0), ("next", 1002.0)]:
        deadlines.at(when, Target(lambda name=name: expired.append(name)))
    clock.go_to(1000.5)
    assert expired == []
    clock.go_to(1001.0)
    assert expired == ["soon", "twin"]
    clock.go_to(1005.0)
    assert expired == ["soon", "twin", "next", "late"]
    assert len(deadlines) == 0


def test_what_was_called_off_does_not_expire(clock: Clock) -> None:
    deadlines, expired = Deadlines(clock), list[str]()
    off, on = (Target(lambda name=name: expired.append(name)) for name in ("off", "on"))
    deadlines.at(1001.0, off)
    deadlines.at(1002.0, on)
    off.ended = True
    clock.go_to(1003.0)
    assert expired == ["on"]


def test_a_deadline_in_the_past_expires_at_the_next_turn(clock: Clock) -> None:
    deadlines, expired = Deadlines(clock), list[int]()
    deadlines.at(5.0, Target(lambda: expired.append(1)))
    assert expired == []
    clock.go_to(1000.0)
    assert expired == [1]


def test_expiring_may_arm_another_earlier_than_all_others(clock: Clock) -> None:
    deadlines, expired = Deadlines(clock), list[str]()

    def again() -> None:
        expired.append("first")
        deadlines.at(1002.0, Target(lambda: expired.append("second")))

    deadlines.at(1010.0, Target(lambda: expired.append("last")))
    deadlines.at(1001.0, Target(again))
    clock.go_to(1001.0)
    clock.go_to(1002.0)
    assert expired == ["first", "second"]
    clock.go_to(1010.0)
    assert expired == ["first", "second", "last"]


def test_closing_forgets_them_all(clock: Clock) -> None:
    deadlines, expired = Deadlines(clock), list[int]()
    deadlines.at(1001.0, Target(lambda: expired.append(1)))
    deadlines.close()
    clock.go_to(1002.0)
    assert expired == []
    deadlines.at(1003.0, Target(lambda: expired.append(2)))
    clock.go_to(1003.0)
    assert expired == [2]


def test_called_off_deadlines_take_no_memory_for_long(clock: Clock) -> None:
    deadlines = Deadlines(clock)
    for number in range(100_000):
        target = Target(lambda: None)
        deadlines.at(2000.0 + number, target)
        target.ended = True
    assert len(deadlines) <= 2048


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60))
def test_all_that_stay_armed_expire_in_order(armed: list[tuple[int, bool]]) -> None:
    clock = Clock()
    deadlines, expired = Deadlines(clock), list[int]()
    targets: list[Target] = []
    for delay, _ in armed:
        targets.append(Target(lambda delay=delay: expired.append(delay)))
        deadlines.at(1000.0 + delay, targets[-1])
    for target, (_, is_called_off) in zip(targets, armed, strict=True):
        target.ended = is_called_off
    for now in range(51):
        clock.go_to(1000.0 + now)
        assert all(delay <= now for delay in expired)
    assert expired == sorted(delay for delay, is_called_off in armed if not is_called_off)
    clock.close()
