"""Where messages to an address lead."""

import pytest

from hms_bus.hub.routes import Route, Routes
from hms_bus.hub.switchboard import Switchboard
from tests.support.hub_clients import Keeping


@pytest.fixture
def switchboard() -> Switchboard:
    return Switchboard(max_window=100, max_bytes=10_000)


@pytest.fixture
def routes(switchboard: Switchboard) -> Routes:
    return switchboard.routes


def find(routes: Routes, address: str) -> Route:
    return routes.find(address.encode())


def test_nobody_listens(routes: Routes) -> None:
    route = find(routes, "a.b")
    assert route.is_empty
    assert not route.answers
    assert route.capacity(7) == 7


def test_subscriptions_of_one_client_are_a_fan(switchboard: Switchboard, routes: Routes) -> None:
    one, other = Keeping(switchboard, 1), Keeping(switchboard, 2)
    one.subscribe("a.*", 1)
    one.subscribe(">", 2)
    one.subscribe("b", 3)
    other.subscribe("a.b", 1)
    fans = {
        fan.peer: [each.number for each in fan.subscriptions] for fan in find(routes, "a.b").fans
    }
    assert fans == {one: [1, 2], other: [1]}


def test_a_route_is_found_anew_after_each_change(switchboard: Switchboard, routes: Routes) -> None:
    client = Keeping(switchboard)
    assert find(routes, "a").is_empty
    subscription = client.subscribe("a")
    assert routes.known == {}
    assert not find(routes, "a").is_empty
    assert routes.remove(subscription) is None
    assert find(routes, "a").is_empty
    assert len(routes) == 0


def test_a_group_is_one_target_until_its_last_member_has_gone(
    switchboard: Switchboard, routes: Routes
) -> None:
    client = Keeping(switchboard)
    first = client.subscribe("a.{x}", 1, group="g")
    second = client.subscribe("a.*", 2, group="g")
    client.subscribe("a.*", 3, group="h")
    client.subscribe("a.>", 4, group="g")
    assert len(find(routes, "a.b").groups) == 3
    group = routes.remove(first)
    assert group is not None
    assert group.members == [second]
    assert routes.remove(second) is None
    assert len(find(routes, "a.b").groups) == 2


def test_the_capacity_is_that_of_the_one_with_the_least_room(
    switchboard: Switchboard, routes: Routes
) -> None:
    client = Keeping(switchboard)
    client.subscribe("a", 1, overflow="block", credit=5)
    client.subscribe("a", 2, overflow="block", credit=3)
    client.subscribe("a", 3)
    assert find(routes, "a").capacity(100) == 3
    assert find(routes, "a").capacity(2) == 2


def test_who_has_less_than_no_room_has_none(switchboard: Switchboard, routes: Routes) -> None:
    Keeping(switchboard).subscribe("a", overflow="block", credit=-3)
    assert find(routes, "a").capacity(100) == 0


def test_a_group_is_limited_when_all_its_members_are(
    switchboard: Switchboard, routes: Routes
) -> None:
    client = Keeping(switchboard)
    client.subscribe("a", 1, group="g", overflow="block", credit=2)
    client.subscribe("a", 2, group="g", overflow="block", credit=3)
    assert find(routes, "a").capacity(100) == 5
    client.subscribe("a", 3, group="g")
    assert find(routes, "a").capacity(100) == 100


@pytest.mark.parametrize("group", [None, "g"])
def test_who_decides_on_each_message_leaves_no_capacity(
    switchboard: Switchboard, routes: Routes, group: str | None
) -> None:
    Keeping(switchboard).subscribe("a", overflow="error", group=group)
    assert find(routes, "a").capacity(100) == 0


def test_who_only_listens_does_not_answer(switchboard: Switchboard, routes: Routes) -> None:
    client = Keeping(switchboard)
    client.subscribe("a", 1, answers=False)
    client.subscribe("a", 2, group="g", answers=False)
    assert not find(routes, "a").answers
    client.subscribe("a", 3, group="g")
    assert find(routes, "a").answers


def test_all_who_may_get_a_message_are_named_once(switchboard: Switchboard, routes: Routes) -> None:
    one, two, three = (Keeping(switchboard, number) for number in range(3))
    one.subscribe("a", 1)
    one.subscribe("a", 2, group="g")
    two.subscribe("a", group="g")
    three.subscribe("a", overflow="error")
    assert set(find(routes, "a").peers) == {one, two, three}
    assert len(find(routes, "a").peers) == 3


def test_an_address_is_named_by_who_has_subscribed_to_just_that(
    switchboard: Switchboard, routes: Routes
) -> None:
    client = Keeping(switchboard)
    client.subscribe("a.*", 1)
    assert not find(routes, "a.b").is_named("a.b")
    client.subscribe("a.b", 2, group="g")
    assert find(routes, "a.b").is_named("a.b")
