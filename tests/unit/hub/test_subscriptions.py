"""What a subscription holds, drops and sends; which member of a group gets a message."""

import pytest

from hms_bus.hub.subscriptions import Group, Subscription, Wait
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ipc.session import Failure
from hms_bus.topics import parse_pattern
from tests.support.hub_clients import Keeping
from tests.support.raw_client import messages, numbered, numbers

FAILURE = Failure(code="INTERNAL", message="no", reason="queue-full")
REFUSAL = Failure(code="ABORTED", message="other", reason="conflict")


@pytest.fixture
def switchboard() -> Switchboard:
    return Switchboard(max_window=100, max_bytes=10_000)


@pytest.fixture
def client(switchboard: Switchboard) -> Keeping:
    return Keeping(switchboard)


class Answer:
    """The answer of a CALL."""

    def __init__(self) -> None:
        self.answers: list[Failure | None] = []
        self.wait = Wait(self.answers.append)

    @property
    def is_given(self) -> bool:
        return bool(self.answers)


def offer(subscription: Subscription, first: int, last: int, size: int = 100) -> Answer:
    """Give a subscription messages with these numbers, each one on its own, as one CALL does."""
    answer = Answer()
    for document in numbered(last + 1, size)[first:]:
        subscription.take(messages("a", document), 1, answer.wait, None)
    answer.wait.end_one()
    return answer


# -- waiting -----------------------------------------------------------------------------------


def test_a_call_is_answered_when_the_last_message_has_found_room() -> None:
    answer = Answer()
    answer.wait.add()
    answer.wait.add()
    answer.wait.end_one()
    answer.wait.end_one()
    assert not answer.is_given
    answer.wait.end_one()
    assert answer.answers == [None]


def test_a_call_is_answered_with_the_first_refusal() -> None:
    answer = Answer()
    answer.wait.add()
    answer.wait.end_one(FAILURE)
    answer.wait.fail(REFUSAL)
    assert not answer.is_given
    answer.wait.end_one(REFUSAL)
    assert answer.answers == [FAILURE]


# -- block -------------------------------------------------------------------------------------


def test_a_message_uses_up_credit_and_counts_as_load(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=2)
    assert offer(subscription, 0, 1).is_given
    assert (subscription.credit, subscription.load, subscription.free) == (0, 2, 0)
    assert numbers(client.documents()) == [0, 1]


def test_without_credit_messages_wait_in_order(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=1)
    answer = offer(subscription, 0, 3)
    assert not answer.is_given
    assert (subscription.queued, subscription.free, subscription.waiting) == (3, -3, 3)
    subscription.credit += 2
    subscription.pump()
    assert numbers(client.documents()) == [0, 1, 2]
    assert not answer.is_given
    subscription.credit += 10
    subscription.pump()
    assert numbers(client.documents()) == [3]
    assert answer.answers == [None]
    assert client.queued_bytes == 0


def test_what_comes_later_does_not_overtake_what_waits(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=0)
    offer(subscription, 0, 0)
    subscription.credit = 5
    offer(subscription, 1, 1)
    subscription.pump()
    assert numbers(client.documents()) == [0, 1]


def test_messages_that_travel_together_may_overdraw_the_credit(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=1)
    subscription.take(messages("a", *numbered(5)), 5, None, None)
    assert len(client.documents()) == 5
    assert subscription.credit == -4


def test_block_drops_nothing_however_much_waits(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=0)
    offer(subscription, 0, 99)
    assert subscription.queued == 100
    assert subscription.dropped == 0
    assert client.queued_bytes > client.max_queued_bytes


# -- who does not read -------------------------------------------------------------------------


def test_the_newest_is_dropped(client: Keeping) -> None:
    subscription = client.subscribe("a")
    client.is_congested = True
    answer = offer(subscription, 0, 99)
    assert answer.answers == [None], "who sheds lets nobody wait"
    kept = subscription.queued
    assert 0 < kept < 10
    assert subscription.dropped == client.dropped == 100 - kept
    client.is_congested = False
    subscription.pump()
    assert numbers(client.documents()) == list(range(kept))


def test_the_oldest_is_dropped(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="drop_oldest")
    client.is_congested = True
    offer(subscription, 0, 99)
    kept = subscription.queued
    assert 0 < kept < 10
    client.is_congested = False
    subscription.pump()
    assert numbers(client.documents()) == list(range(100 - kept, 100))


def test_what_alone_is_too_much_is_dropped_and_displaces_nothing_for_ever(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="drop_oldest")
    client.is_congested = True
    offer(subscription, 0, 1)
    offer(subscription, 2, 2, size=5000)
    assert client.queued_bytes <= client.max_queued_bytes
    offer(subscription, 3, 3)
    client.is_congested = False
    subscription.pump()
    assert numbers(client.documents())[-1] == 3


def test_the_bound_is_for_all_that_a_client_has_subscribed_to(client: Keeping) -> None:
    first, second = client.subscribe("a"), client.subscribe("a", 2)
    client.is_congested = True
    offer(first, 0, 99)
    offer(second, 0, 99)
    assert second.queued == 0
    assert client.queued_bytes <= client.max_queued_bytes


def test_pumping_stops_when_the_client_reads_no_more(switchboard: Switchboard) -> None:
    client = Keeping(switchboard, max_bytes=10**7)
    subscription = client.subscribe("a")
    client.is_congested = True
    offer(subscription, 0, 49, size=64 * 1024)
    client.is_congested, client.congested_after = False, 2
    subscription.pump()
    sent = len(client.documents())
    assert 0 < sent < 20
    assert subscription.queued == 50 - sent


def test_what_is_left_is_handed_out_at_the_end(client: Keeping) -> None:
    subscription = client.subscribe("a", overflow="block", credit=0)
    answer = offer(subscription, 0, 2)
    left = subscription.empty()
    assert len(left) == 3
    assert client.queued_bytes == subscription.queued == subscription.waiting == 0
    for held in left:
        assert held.wait is not None
        held.wait.end_one()
    assert answer.is_given


# -- groups ------------------------------------------------------------------------------------


def members(switchboard: Switchboard, count: int, credit: int = 100) -> Group:
    group = Group(parse_pattern("a"), "g")
    for number in range(count):
        client = Keeping(switchboard, number)
        group.members.append(client.subscribe("a", overflow="block", credit=credit))
    return group


def test_those_who_have_nothing_to_do_take_turns(switchboard: Switchboard) -> None:
    group = members(switchboard, 3)
    picked = [group.pick() for _ in range(6)]
    assert {picked.count(member) for member in group.members} == {2}
    assert picked[:3] == picked[3:]


def test_who_has_the_least_to_do_is_picked(switchboard: Switchboard) -> None:
    group = members(switchboard, 3)
    for member, load in zip(group.members, (5, 2, 7), strict=True):
        member.load = load
    assert group.pick() is group.members[1]


def test_of_those_with_equally_much_the_last_one_is_picked_again(switchboard: Switchboard) -> None:
    group = members(switchboard, 3)
    for member in group.members:
        member.load = 1
    first = group.pick()
    assert [group.pick() for _ in range(4)] == [first] * 4


def test_who_is_not_ready_is_picked_last(switchboard: Switchboard) -> None:
    group = members(switchboard, 2)
    group.members[0].credit = 0
    group.members[1].load = 50
    assert {group.pick() for _ in range(4)} == {group.members[1]}
    group.members[1].credit = 0
    assert group.pick() is group.members[0]


def test_one_alone_is_always_picked(switchboard: Switchboard) -> None:
    group = members(switchboard, 1, credit=0)
    assert group.pick() is group.members[0]


def test_a_group_has_the_room_of_all_its_members(switchboard: Switchboard) -> None:
    group = members(switchboard, 3)
    group.members[0].credit = -5
    assert group.free == 200
    assert len(group.peers) == 3
