"""The bounded queue: order, room, each overflow policy, and all of it against a model."""

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hms_bus.abc import Overflow
from hms_bus.bus.mailbox import Mailbox, check_overflow
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, QueueFullError
from tests.support.events import event


class Box:
    """The owner of a mailbox, with a log of what it was told."""

    title = "test"

    def __init__(self, limit: int = 2, overflow: Overflow = "block") -> None:
        self.dropped: list[Envelope] = []
        self.cycle: list[str] = []
        self.grown: list[int] = []
        self.mailbox = Mailbox(
            self, limit=limit, overflow=overflow, loop=asyncio.get_running_loop()
        )

    def on_dropped(self, envelope: Envelope, reply_to: str | None) -> None:
        self.dropped.append(envelope)

    def before_wait(self, room: asyncio.Future[None]) -> list[str]:
        return self.cycle

    def grow(self) -> None:
        self.grown.append(len(self.mailbox))

    def offer(self, *names: str, priority: int | None = None) -> list[Awaitable[None] | None]:
        return [
            self.mailbox.offer(event("t", name, id=name, priority=priority), None) for name in names
        ]

    def take_all(self) -> list[str]:
        taken: list[str] = []
        while (item := self.mailbox.take()) is not None:
            taken.append(item[0].id)
        return taken

    @property
    def dropped_ids(self) -> list[str]:
        return [envelope.id for envelope in self.dropped]


async def test_equals_are_taken_in_the_order_of_arrival() -> None:
    box = Box(limit=10)
    assert box.offer("a", "b", "c") == [None, None, None]
    assert len(box.mailbox) == 3
    assert box.take_all() == ["a", "b", "c"]
    assert box.mailbox.take() is None


async def test_priority_is_strict_and_keeps_order_among_equals() -> None:
    box = Box(limit=100)
    for priority in (4, 0, 9, None, 5, 9, 0, 3):
        box.offer(f"{priority}.{len(box.mailbox)}", priority=priority)
    assert box.take_all() == ["9.2", "9.5", "5.4", "4.0", "None.3", "3.7", "0.1", "0.6"]


async def test_the_reply_address_stays_with_its_message() -> None:
    box = Box()
    box.mailbox.offer(event("t", id="a"), "$inbox.1")
    item = box.mailbox.take()
    assert item is not None
    assert item[1] == "$inbox.1"


# -- block ---------------------------------------------------------------------------------------


async def test_a_full_queue_accepts_and_lets_the_publisher_wait() -> None:
    box = Box(limit=2)
    _, _, room = box.offer("a", "b", "c")
    assert isinstance(room, asyncio.Future)
    assert not room.done()
    assert box.take_all() == ["a", "b", "c"]
    assert room.done()


async def test_waiting_publishers_go_on_when_half_is_free() -> None:
    box = Box(limit=4)
    *_, first, second = box.offer("a", "b", "c", "d", "e", "f")
    assert isinstance(first, asyncio.Future)
    assert isinstance(second, asyncio.Future)
    for _ in range(3):
        box.mailbox.take()
    assert not first.done()
    box.mailbox.take()
    assert first.done()
    assert second.done()


async def test_who_asks_is_told_once_when_half_is_free() -> None:
    box = Box(limit=4)
    box.offer("a", "b", "c", "d")
    told: list[int] = []
    box.mailbox.on_room(lambda: told.append(len(box.mailbox)))
    box.mailbox.take()
    await asyncio.sleep(0)
    assert told == []
    box.mailbox.take()
    await asyncio.sleep(0)
    assert told == [2]
    box.mailbox.take()
    await asyncio.sleep(0)
    assert told == [2]


async def test_who_asks_while_half_is_free_is_told_soon() -> None:
    box = Box(limit=4)
    told = asyncio.Event()
    box.mailbox.on_room(told.set)
    assert not told.is_set()
    await asyncio.sleep(0)
    assert told.is_set()


async def test_a_publisher_that_gave_up_leaves_its_message_and_disturbs_nobody() -> None:
    box = Box(limit=1)
    _, given_up, patient = box.offer("a", "b", "c")
    assert isinstance(given_up, asyncio.Future)
    assert isinstance(patient, asyncio.Future)
    given_up.cancel()
    assert box.take_all() == ["a", "b", "c"]
    await patient


async def test_a_cycle_is_refused_and_nothing_is_accepted() -> None:
    box = Box(limit=1)
    box.offer("a")
    box.cycle = ["x", "y", "x"]
    with pytest.raises(QueueFullError) as caught:
        box.offer("b")
    assert caught.value.cycle == ("x", "y", "x")
    assert box.take_all() == ["a"]


# -- the other policies ----------------------------------------------------------------------------


async def test_error_refuses_the_new_one() -> None:
    box = Box(limit=2, overflow="error")
    box.offer("a", "b")
    with pytest.raises(QueueFullError) as caught:
        box.offer("c")
    assert (caught.value.limit, caught.value.cycle) == (2, ())
    assert box.take_all() == ["a", "b"]


async def test_drop_newest_drops_the_new_one() -> None:
    box = Box(limit=2, overflow="drop_newest")
    assert box.offer("a", "b", "c", "d") == [None] * 4
    assert box.dropped_ids == ["c", "d"]
    assert box.take_all() == ["a", "b"]


async def test_drop_oldest_drops_the_oldest() -> None:
    box = Box(limit=2, overflow="drop_oldest")
    assert box.offer("a", "b", "c", "d") == [None] * 4
    assert box.dropped_ids == ["a", "b"]
    assert box.take_all() == ["c", "d"]


async def test_drop_oldest_drops_the_least_urgent_first() -> None:
    box = Box(limit=4, overflow="drop_oldest")
    box.offer("urgent", priority=9)
    box.offer("old relaxed", "new relaxed", priority=1)
    box.offer("normal")
    box.offer("a", "b", "c", priority=5)
    assert box.dropped_ids == ["old relaxed", "new relaxed", "normal"]
    assert box.take_all() == ["urgent", "a", "b", "c"]


async def test_drop_oldest_never_drops_for_a_less_urgent_one() -> None:
    box = Box(limit=2, overflow="drop_oldest")
    box.offer("urgent", "too", priority=9)
    box.offer("normal")
    box.offer("relaxed", priority=0)
    assert box.dropped_ids == ["normal", "relaxed"]
    assert box.take_all() == ["urgent", "too"]


def test_an_unknown_policy_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(ConfigError, match="'wait'; known: block, drop_oldest, drop_newest, error"):
        check_overflow("wait")


# -- takers --------------------------------------------------------------------------------------


async def test_one_message_wakes_one_taker_the_first_that_came() -> None:
    box = Box()
    takers = [asyncio.ensure_future(box.mailbox.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    box.offer("a")
    await takers[0]
    assert not takers[1].done()
    takers[1].cancel()


async def test_a_cancelled_taker_passes_its_wake_up_on() -> None:
    box = Box()
    takers = [asyncio.ensure_future(box.mailbox.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    box.offer("a")
    takers[0].cancel()
    await takers[1]
    assert box.take_all() == ["a"]


async def test_a_cancelled_taker_is_not_woken() -> None:
    box = Box()
    takers = [asyncio.ensure_future(box.mailbox.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    takers[0].cancel()
    box.offer("a")
    await takers[1]


async def test_more_takers_are_asked_for_while_none_waits() -> None:
    box = Box(limit=10)
    box.mailbox.can_grow = True
    box.offer("a", "b")
    assert box.grown == [1, 2]
    box.take_all()
    taker = asyncio.ensure_future(box.mailbox.wait())
    await asyncio.sleep(0)
    box.offer("c")
    assert box.grown == [1, 2]
    await taker


async def test_closing_returns_what_is_left_and_lets_publishers_go() -> None:
    box = Box(limit=2)
    *_, room = box.offer("a", "b", "c")
    box.offer("urgent", priority=9)
    assert [envelope.id for envelope, _ in box.mailbox.close()] == ["urgent", "a", "b", "c"]
    assert isinstance(room, asyncio.Future)
    assert room.done()
    assert len(box.mailbox) == 0


# -- against a model -----------------------------------------------------------------------------


class MailboxMachine(RuleBasedStateMachine):
    """Offers and takes at random, beside a plain list."""

    title = "model"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.held: list[tuple[int, int]] = []  # (priority, number), in the order of arrival
        self.number = 0
        self.waiting: list[asyncio.Future[None]] = []
        self.dropped: list[int] = []

    @initialize(
        limit=st.integers(1, 5),
        overflow=st.sampled_from(["block", "drop_oldest", "drop_newest", "error"]),
    )
    def make(self, limit: int, overflow: Overflow) -> None:
        self.limit = limit
        self.overflow = overflow
        self.mailbox = Mailbox(self, limit=limit, overflow=overflow, loop=self.loop)

    def on_dropped(self, envelope: Envelope, reply_to: str | None) -> None:
        self.dropped.append(int(envelope.id))

    def before_wait(self, room: asyncio.Future[None]) -> list[str]:
        return []

    def grow(self) -> None:
        raise AssertionError("the mailbox was not told that it can grow")

    @rule(priority=st.sampled_from([None, 0, 3, 4, 5, 9]))
    def offer(self, priority: int | None) -> None:
        self.number += 1
        new = (4 if priority is None else priority, self.number)
        was_full = len(self.held) >= self.limit
        self.dropped.clear()
        try:
            room = self.mailbox.offer(event("t", id=str(self.number), priority=priority), None)
        except QueueFullError:
            assert was_full
            assert self.overflow == "error"
            return
        assert (room is not None) == (was_full and self.overflow == "block")
        if isinstance(room, asyncio.Future):
            self.waiting.append(room)
        self.held.append(new)
        expected: list[int] = []
        if was_full and self.overflow == "drop_newest":
            expected = [self.held.pop()[1]]
        if was_full and self.overflow == "drop_oldest":
            least = min(self.held)
            self.held.remove(least)
            expected = [least[1]]
        assert self.dropped == expected

    @precondition(lambda self: self.held)
    @rule()
    def take(self) -> None:
        expected = min(self.held, key=lambda entry: (-entry[0], entry[1]))
        self.held.remove(expected)
        item = self.mailbox.take()
        assert item is not None
        assert int(item[0].id) == expected[1]
        if len(self.held) <= self.limit // 2:
            assert all(room.done() for room in self.waiting)
            self.waiting.clear()

    @precondition(lambda self: self.waiting)
    @rule()
    def give_up(self) -> None:
        self.waiting.pop().cancel()

    @precondition(lambda self: not self.held)
    @rule()
    def take_from_an_empty_one(self) -> None:
        assert self.mailbox.take() is None

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if hasattr(self, "mailbox"):
            assert len(self.mailbox) == self.mailbox.load == len(self.held)
            assert bool(self.mailbox) == bool(self.held)
            assert self.overflow == "block" or len(self.held) <= self.limit

    def teardown(self) -> None:
        if hasattr(self, "mailbox"):
            left = [int(envelope.id) for envelope, _ in self.mailbox.close()]
            assert left == [
                number for _, number in sorted(self.held, key=lambda entry: (-entry[0], entry[1]))
            ]
        assert all(room.done() for room in self.waiting)
        self.loop.close()


TestMailbox = MailboxMachine.TestCase
