"""Windows, room for all, and who is told that somebody has gone."""

import pytest

from hms_bus.errors import FrameError
from hms_bus.hub import callers
from hms_bus.hub.subscriptions import Wait
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ipc import frames
from hms_bus.ipc.session import Failure
from tests.support import raw_client as raw
from tests.support.hub_clients import Keeping
from tests.support.raw_client import numbered, numbers

MAX_BYTES = 200_000


@pytest.fixture
def switchboard() -> Switchboard:
    return Switchboard(max_window=10, max_bytes=MAX_BYTES)


@pytest.fixture
def sender(switchboard: Switchboard) -> Keeping:
    return Keeping(switchboard, 7)


def publish(
    switchboard: Switchboard, sender: Keeping, address: str, *documents: bytes, reply_to: str = ""
) -> None:
    content = raw.publish(address, *documents, reply_to=reply_to)[frames.LENGTH_BYTES :]
    switchboard.publish(sender, content, 1, None)


def call(
    switchboard: Switchboard, sender: Keeping, address: str, *documents: bytes
) -> list[Failure | None]:
    """Publish as a CALL does; return its answer, which may come later."""
    content = raw.call(1, address, *documents)[frames.LENGTH_BYTES :]
    answers: list[Failure | None] = []
    wait = Wait(answers.append)
    switchboard.publish(sender, content, 5, wait)
    wait.end_one()
    return answers


def grant(switchboard: Switchboard, sender: Keeping, address: str, size: int = 100) -> int:
    found = frames.read_messages(raw.messages(address, b"x"), 0)
    return switchboard.grant(sender, found, size)


# -- windows -----------------------------------------------------------------------------------


def test_a_window_is_filled_up_and_no_further(switchboard: Switchboard, sender: Keeping) -> None:
    assert grant(switchboard, sender, "a") == 10
    assert grant(switchboard, sender, "a") == 0
    publish(switchboard, sender, "a", b"1", b"2")
    assert sender.windows[b"a"] == 8
    assert sender.heard() == []
    publish(switchboard, sender, "a", *numbered(3))
    [frame] = sender.heard()
    assert frame.content == {"window": 5, "address": "a"}
    assert sender.windows[b"a"] == 10


def test_a_window_cannot_be_overdrawn(switchboard: Switchboard, sender: Keeping) -> None:
    grant(switchboard, sender, "a")
    with pytest.raises(FrameError, match="1 messages more"):
        publish(switchboard, sender, "a", *numbered(11))


def test_a_window_grows_no_more_where_there_is_no_room(
    switchboard: Switchboard, sender: Keeping
) -> None:
    listener = Keeping(switchboard)
    subscription = listener.subscribe("a", overflow="block", credit=4)
    assert grant(switchboard, sender, "a") == 4
    published = 0
    while window := sender.windows[b"a"]:
        publish(switchboard, sender, "a", *numbered(window))
        published += window
    # A window may be given anew before what has used it up is delivered, once.
    assert published <= 8
    assert len(listener.documents()) == 4
    assert subscription.queued == published - 4
    assert grant(switchboard, sender, "a") == 0


def test_large_messages_have_a_small_window(switchboard: Switchboard, sender: Keeping) -> None:
    assert grant(switchboard, sender, "a", size=2**20) == 4
    assert grant(switchboard, sender, "b", size=2**24) == 1


def test_there_are_windows_for_so_many_addresses(switchboard: Switchboard, sender: Keeping) -> None:
    assert [grant(switchboard, sender, address) for address in "abcd"] == [10, 10, 10, 0]
    del sender.windows[b"a"]
    assert grant(switchboard, sender, "d") == 10


def test_system_addresses_have_none_and_need_none(
    switchboard: Switchboard, sender: Keeping
) -> None:
    assert grant(switchboard, sender, "$inbox.a") == 0
    publish(switchboard, sender, "$inbox.a", *numbered(1000))
    assert sender.windows == {}


def test_requests_need_no_window(switchboard: Switchboard, sender: Keeping) -> None:
    server = Keeping(switchboard)
    server.subscribe("a")
    publish(switchboard, sender, "a", b"?", reply_to="$inbox.me")
    assert server.documents() == [b"?"]


# -- room for all ------------------------------------------------------------------------------


def fill(switchboard: Switchboard, stuck: Keeping, sender: Keeping) -> None:
    """Let the hub hold more than it should, for somebody who takes nothing."""
    while not switchboard.is_overfull:
        call(switchboard, sender, "stuck", bytes(10_000))


def test_who_sends_to_a_full_queue_is_held_back_until_it_is_not(
    switchboard: Switchboard, sender: Keeping
) -> None:
    stuck, bystander = Keeping(switchboard, 1), Keeping(switchboard, 2)
    subscription = stuck.subscribe("stuck", overflow="block", credit=0)
    fill(switchboard, stuck, sender)
    call(switchboard, sender, "stuck", b"x")
    call(switchboard, bystander, "other", b"x")
    assert sender.held_back_by == {switchboard}
    assert bystander.held_back_by == set()
    subscription.credit = 2
    subscription.pump()
    assert sender.held_back_by == {switchboard}
    subscription.credit = 1000
    subscription.pump()
    assert sender.held_back_by == set()
    assert switchboard.queued_bytes == stuck.queued_bytes == 0


def test_who_is_held_back_goes_on_when_the_stuck_one_has_gone(
    switchboard: Switchboard, sender: Keeping
) -> None:
    stuck = Keeping(switchboard)
    subscription = stuck.subscribe("stuck", overflow="block", credit=0)
    fill(switchboard, stuck, sender)
    call(switchboard, sender, "stuck", b"x")
    assert sender.held_back_by
    stuck.is_open = False
    switchboard.unsubscribe(subscription)
    switchboard.forget(stuck)
    assert not sender.held_back_by
    assert switchboard.queued_bytes == 0


def test_who_waits_for_itself_is_refused_and_heard(switchboard: Switchboard) -> None:
    both = Keeping(switchboard)
    both.subscribe("stuck", overflow="block", credit=0)
    fill(switchboard, both, both)
    [failure] = call(switchboard, both, "stuck", b"x")
    assert failure is not None
    assert failure.reason == "queue-full"
    assert not both.held_back_by
    assert call(switchboard, both, "elsewhere", b"x") == [None]


def test_a_little_is_held_for_each_however_much_for_others(
    switchboard: Switchboard, sender: Keeping
) -> None:
    stuck, slow, other = (Keeping(switchboard, number) for number in (1, 2, 3))
    stuck.subscribe("stuck", overflow="block", credit=0)
    slow.subscribe("slow", overflow="block", credit=0)
    fill(switchboard, stuck, sender)
    call(switchboard, other, "slow", b"x")
    call(switchboard, other, "slow", b"x")
    assert not other.held_back_by


# -- verdicts ----------------------------------------------------------------------------------


def test_messages_of_a_call_are_decided_on_one_by_one(
    switchboard: Switchboard, sender: Keeping
) -> None:
    picky = Keeping(switchboard)
    picky.subscribe("a", overflow="error")
    answers = call(switchboard, sender, "a", b"1", b"2")
    asks = [frame.content["ask"] for frame in picky.heard()]
    assert len(asks) == 2
    switchboard.take_verdict(picky, asks[1], None)
    assert answers == []
    switchboard.take_verdict(picky, asks[0], None)
    assert answers == [None]


def test_a_verdict_is_up_to_who_was_asked(switchboard: Switchboard, sender: Keeping) -> None:
    picky = Keeping(switchboard)
    picky.subscribe("a", overflow="error")
    answers = call(switchboard, sender, "a", b"1")
    [frame] = picky.heard()
    with pytest.raises(FrameError, match="another"):
        switchboard.take_verdict(sender, frame.content["ask"], None)
    assert answers == []
    switchboard.take_verdict(picky, frame.content["ask"], None)
    assert answers == [None]


def test_who_has_gone_is_not_waited_for(switchboard: Switchboard, sender: Keeping) -> None:
    picky = Keeping(switchboard)
    subscription = picky.subscribe("a", overflow="error")
    answers = call(switchboard, sender, "a", b"1")
    [frame] = picky.heard()
    switchboard.unsubscribe(subscription)
    assert answers == [None]
    switchboard.take_verdict(picky, frame.content["ask"], None)


# -- groups and goings -------------------------------------------------------------------------


def test_what_was_held_for_a_member_is_dealt_out_again(
    switchboard: Switchboard, sender: Keeping
) -> None:
    goes, stays = Keeping(switchboard, 1), Keeping(switchboard, 2)
    held = goes.subscribe("a", group="g", overflow="block", credit=0)
    answers = call(switchboard, sender, "a", *numbered(3))
    stays.subscribe("a", group="g")
    assert answers == []
    switchboard.unsubscribe(held)
    assert numbers(stays.documents()) == [0, 1, 2]
    assert answers == [None]
    assert goes.heard() == []


def test_what_was_held_for_one_who_stays_is_sent_at_the_end_of_the_subscription(
    switchboard: Switchboard, sender: Keeping
) -> None:
    client = Keeping(switchboard)
    subscription = client.subscribe("a", overflow="block", credit=0)
    answers = call(switchboard, sender, "a", b"1")
    switchboard.unsubscribe(subscription)
    assert client.documents() == [b"1"]
    assert answers == [None]


def test_a_message_to_a_group_is_split_among_its_members(
    switchboard: Switchboard, sender: Keeping
) -> None:
    members = [Keeping(switchboard, number) for number in range(3)]
    for member in members:
        member.subscribe("a", group="g")
    call(switchboard, sender, "a", *numbered(9))
    shares = [numbers(member.documents()) for member in members]
    assert sorted(number for share in shares for number in share) == list(range(9))
    assert {len(share) for share in shares} == {3}


# -- who has gone ------------------------------------------------------------------------------


def test_servers_are_told_of_an_inbox_that_has_gone(switchboard: Switchboard) -> None:
    caller, server, listener = (Keeping(switchboard, number) for number in range(3))
    inbox = caller.subscribe("$inbox.me")
    server.subscribe("a", overflow="error")
    listener.subscribe(">", answers=False)
    for _ in range(2):
        publish(switchboard, caller, "a", b"?", reply_to="$inbox.me")
    assert server.documents() == listener.documents() == [b"?", b"?"]
    switchboard.unsubscribe(inbox)
    for each in (server, listener):
        assert [frame.content for frame in each.heard()] == [{"address": "$inbox.me"}]
        assert each.given == set()


def test_nobody_is_told_while_another_listens_there(switchboard: Switchboard) -> None:
    caller, server = Keeping(switchboard, 1), Keeping(switchboard, 2)
    first, second = caller.subscribe("$inbox.me", 1), caller.subscribe("$inbox.me", 2)
    server.subscribe("a")
    publish(switchboard, caller, "a", b"?", reply_to="$inbox.me")
    server.documents()
    switchboard.unsubscribe(first)
    assert server.heard() == []
    switchboard.unsubscribe(second)
    assert len(server.heard()) == 1


def test_a_server_that_has_gone_is_not_told(switchboard: Switchboard) -> None:
    caller, server = Keeping(switchboard, 1), Keeping(switchboard, 2)
    inbox = caller.subscribe("$inbox.me")
    subscription = server.subscribe("a")
    publish(switchboard, caller, "a", b"?", reply_to="$inbox.me")
    server.documents()
    switchboard.unsubscribe(subscription)
    switchboard.forget(server)
    switchboard.unsubscribe(inbox)
    assert server.heard() == []


def test_of_addresses_below_a_pattern_the_last_ones_are_remembered(
    switchboard: Switchboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_MAX_BELOW", 3)
    caller, server = Keeping(switchboard, 1), Keeping(switchboard, 2)
    inbox = caller.subscribe("$inbox.me.*")
    server.subscribe("a")
    for number in range(5):
        publish(switchboard, caller, "a", b"?", reply_to=f"$inbox.me.{number}")
    server.documents()
    assert server.given == {f"$inbox.me.{number}".encode() for number in (2, 3, 4)}
    switchboard.unsubscribe(inbox)
    told = {frame.content["address"] for frame in server.heard()}
    assert told == {f"$inbox.me.{number}" for number in (2, 3, 4)}


def test_an_address_that_nobody_listens_at_is_not_remembered(switchboard: Switchboard) -> None:
    caller, server = Keeping(switchboard, 1), Keeping(switchboard, 2)
    server.subscribe("a")
    publish(switchboard, caller, "a", b"?", reply_to="$inbox.nobody")
    assert server.given == set()
