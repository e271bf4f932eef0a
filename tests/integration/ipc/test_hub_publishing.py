"""Messages through a hub: windows, addresses, requests (spec/ipc.md, "Publishing", "Requests")."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, numbered, numbers


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


async def test_a_call_is_answered_and_delivered_in_order(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "orders.*"))
        await listener.expect("DONE", call=1, window=0)
        await client.send(raw.call(1, "orders.new", b"0", b"1"), raw.call(2, "orders.new", b"2"))
        await client.expect("DONE", call=1)
        await client.expect("DONE", call=2)
        frame = await listener.expect("DELIVER", subscriptions=[1])
        assert frame.content["messages"]["address"] == "orders.new"
        assert frame.content["messages"]["envelopes"] == [b"0", b"1"]
        assert numbers(await listener.documents(1)) == [2]


async def test_a_message_for_several_subscriptions_of_a_client_travels_once(
    hub: HubProcess,
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        for number, pattern in enumerate(("a.b", "a.*", "a.>", ">", "c.*"), start=1):
            await client.send(raw.subscribe(number, pattern, subscription=number))
            await client.expect("DONE", call=number)
        await client.send(raw.call(9, "a.b", b"x"))
        frame = await client.expect("DELIVER")
        assert sorted(frame.content["subscriptions"]) == [1, 2, 3, 4]
        await client.expect("DONE", call=9)


async def test_without_a_window_nothing_may_be_published(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.publish("orders.new", b"x"))
        await client.refused("bad-frame")


async def test_a_window_may_be_used_up_and_not_overdrawn(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, "orders.new", b"x"))
        window = (await client.expect("DONE", call=1)).content["window"]
        assert window > 1
        await client.send(raw.publish("orders.new", *numbered(window)))
        await client.round_trip()
        left = client.windows["orders.new"]
        assert left > 0
        await client.send(raw.publish("orders.new", *numbered(left + 1)))
        await client.refused("bad-frame")


async def test_a_window_is_for_one_address_and_one_client(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as other,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await client.send(raw.call(1, "orders.new", b"x"))
        await client.expect("DONE", call=1)
        await client.send(raw.publish("orders.old", b"x"))
        await client.refused("bad-frame")
        await other.send(raw.publish("orders.new", b"x"))
        await other.refused("bad-frame")


@pytest.mark.parametrize("address", [b"orders.new", b""])
async def test_a_window_that_was_forgotten_is_gone(hub: HubProcess, address: bytes) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, "orders.new", b"x"))
        await client.expect("DONE", call=1)
        await client.send(frames.frame(frames.FORGET, address), raw.publish("orders.new", b"x"))
        await client.refused("bad-frame")


async def test_system_addresses_need_no_window(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "$inbox.mine"))
        await client.expect("DONE", call=1)
        await client.send(raw.publish("$inbox.mine", *numbered(5000)))
        assert numbers(await client.documents(5000)) == list(range(5000))
        await client.send(raw.call(2, "$inbox.mine", b"x"))
        await client.documents(1)
        await client.expect("DONE", call=2, window=0)


async def test_there_are_no_more_windows_than_the_welcome_says(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_topics = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            windows: list[int] = []
            for number, address in enumerate(("a", "b", "c", "a", "c")):
                await client.send(raw.call(number, address, b"x"))
                windows.append((await client.expect("DONE")).content["window"])
            assert windows[0] > 0
            assert windows[1] > 0
            assert windows[2] == windows[4] == 0
            await client.send(frames.frame(frames.FORGET, b"a"), raw.call(9, "c", b"x"))
            assert (await client.expect("DONE", call=9)).content["window"] > 0


@pytest.mark.parametrize(
    "address", ["", "a..b", ".a", "a.", "a b", "a.*", ">", "ä", "a" * 600, "\x00"]
)
async def test_a_call_to_what_is_no_topic_fails(hub: HubProcess, address: str) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, address, b"x"))
        if not address:
            await client.refused("bad-frame")
            return
        failure = await client.failed(1, "bad-topic")
        assert failure["code"] == "INVALID_ARGUMENT"
        await client.round_trip()


async def test_an_address_must_be_utf8(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        block = frames.messages(b"a\xff", b"", [b"x"])
        await client.send(frames.call_frame(frames.CALL, 1, block))
        await client.failed(1, "bad-topic")
        await client.send(frames.frame(frames.PUBLISH, block))
        await client.refused("bad-topic")


async def test_a_reply_address_must_be_a_topic(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "quotes.get"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "quotes.get", b"x", reply_to="no topic"))
        await client.failed(2, "bad-topic")
        await client.round_trip()


async def test_calls_of_the_same_number_are_answered_each(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(7, "a", b"x"), raw.call(7, "b", b"x"))
        await client.expect("DONE", call=7)
        await client.expect("DONE", call=7)
        await client.round_trip()


# -- requests ----------------------------------------------------------------------------------


async def test_a_request_that_nobody_answers_comes_back(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "quotes.>", answers=False))
        await listener.expect("DONE", call=1)
        await client.send(raw.call(1, "quotes.get", b"x", reply_to="$inbox.me"))
        frame = await client.expect("RETURNED", reason=1)
        block = frame.content["messages"]
        assert block == {
            "address": "quotes.get",
            "reply_to": "$inbox.me",
            "envelopes": [b"x"],
        }
        await client.expect("DONE", call=1)
        await listener.round_trip()


async def test_a_request_reaches_who_answers_and_who_listens(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as server,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "quotes.>", answers=False))
        await listener.expect("DONE", call=1)
        await server.send(raw.subscribe(1, "quotes.get"))
        await server.expect("DONE", call=1)
        await client.send(raw.subscribe(1, "$inbox.me"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "quotes.get", b"?", reply_to="$inbox.me"))
        await client.expect("DONE", call=2)
        for each in (listener, server):
            frame = await each.expect("DELIVER", subscriptions=[1])
            assert frame.content["messages"]["reply_to"] == "$inbox.me"
        await server.send(raw.publish("$inbox.me", b"!"))
        assert await client.documents(1) == [b"!"]


@pytest.mark.parametrize("overflow", ["drop_newest", "error"])
@pytest.mark.parametrize("pattern", ["$inbox.me", "$inbox.*", "$inbox.>"])
async def test_who_was_given_a_reply_address_is_told_when_nobody_listens_there(
    hub: HubProcess, pattern: str, overflow: str
) -> None:
    async with RawClient.welcomed(hub.place.socket) as server:
        await server.send(raw.subscribe(1, "quotes.get", overflow=overflow))
        await server.expect("DONE", call=1)
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.subscribe(1, pattern))
            await client.expect("DONE", call=1)
            await client.send(raw.call(2, "quotes.get", b"?", reply_to="$inbox.me"))
            await client.expect("DONE", call=2)
            await server.documents(1)
        await server.expect("GONE", address="$inbox.me")


async def test_reply_addresses_without_end_are_not_kept(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as server,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await server.send(raw.subscribe(1, "quotes.get"))
        await server.expect("DONE", call=1)
        await client.send(raw.subscribe(1, "$inbox.me.>"))
        await client.expect("DONE", call=1)
        # The routes of 65,536 addresses are remembered, so that those come first.
        await _ask_from_many(client, server, range(70_000))
        before = hub.resident_bytes()
        await _ask_from_many(client, server, range(70_000, 140_000))
        assert hub.resident_bytes() - before < 16 * 2**20


async def _ask_from_many(client: RawClient, server: RawClient, places: range) -> None:
    for first in range(places.start, places.stop, 1000):
        asked = [
            raw.publish("quotes.get", b"?", reply_to=f"$inbox.me.{n}.{'x' * 200}")
            for n in range(first, first + 1000)
        ]
        await client.send(*asked)
        await server.documents(1000)
