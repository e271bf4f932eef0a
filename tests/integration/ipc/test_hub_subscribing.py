"""Subscriptions, groups and verdicts at a hub (spec/ipc.md, "Subscribing")."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, numbered, numbers


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


async def test_after_the_answer_to_unsubscribe_nothing_comes(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a"), raw.call(2, "a", b"x"))
        await client.expect("DONE", call=1)
        await client.documents(1)
        await client.expect("DONE", call=2)
        await client.send(raw.unsubscribe(3), raw.call(4, "a", b"y"))
        await client.expect("DONE", call=3)
        await client.expect("DONE", call=4)
        await client.round_trip()


async def test_an_unknown_subscription_can_be_ended(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.unsubscribe(3, 99), raw.credit(99, 1))
        await client.expect("DONE", call=3)
        await client.round_trip()


async def test_a_number_is_that_of_one_subscription(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a"), raw.unsubscribe(2), raw.subscribe(3, "b"))
        for number in (1, 2, 3):
            await client.expect("DONE", call=number)
        await client.send(raw.subscribe(4, "c"))
        await client.refused("bad-frame")


@pytest.mark.parametrize("pattern", ["", "a..b", "a.>.b", "a b", "\x00", "ä", "a" * 600, "{"])
async def test_a_pattern_that_is_none_fails(hub: HubProcess, pattern: str) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, pattern))
        await client.failed(1, "bad-topic")
        await client.round_trip()


@pytest.mark.parametrize(
    "frame",
    [
        frames.call_frame(frames.SUBSCRIBE, 1, b'{"subscription":1,"pattern":"a\\udc80"}'),
        frames.call_frame(
            frames.SUBSCRIBE, 1, b'{"subscription":1,"pattern":"a","group":"\\ud800"}'
        ),
        frames.call_frame(frames.ASK, 1, b'{"op":"\\ud800"}'),
        frames.call_frame(frames.READ, 1, b'{"pattern":"\\ud800"}'),
        frames.call_frame(frames.READ, 1, b'{"codec":"\\ud800"}'),
        frames.frame(frames.BYE, b'{"reason":"\\ud800"}'),
    ],
)
async def test_text_that_is_no_unicode_breaks_the_protocol(hub: HubProcess, frame: bytes) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(frame)
        await client.refused("bad-frame")


async def test_a_name_that_is_no_unicode_breaks_the_protocol(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        content = json.dumps(raw.HELLO | {"client": {"name": "\ud800"}}).encode()
        await client.send(frames.frame(frames.HELLO, content))
        await client.refused("bad-frame")
    assert (await hub.status())["totals"]["clients"] == 1


async def test_there_are_no_more_subscriptions_than_the_welcome_says(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_subscriptions = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for number in (1, 2, 3):
                await client.send(raw.subscribe(number, "a", subscription=number))
            await client.expect("DONE", call=1)
            await client.expect("DONE", call=2)
            failure = await client.failed(3, "limit")
            assert failure["code"] == "RESOURCE_EXHAUSTED"
            await client.send(raw.unsubscribe(4, 1), raw.subscribe(5, "a", subscription=3))
            await client.expect("DONE", call=4)
            await client.expect("DONE", call=5)


async def test_of_a_group_one_gets_each_message(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as left,
        RawClient.welcomed(hub.place.socket) as right,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        for member in (left, right):
            await member.send(raw.subscribe(1, "jobs.*", group="workers"))
            await member.expect("DONE", call=1)
        await client.send(raw.call(1, "jobs.a", *numbered(10)))
        await client.expect("DONE", call=1)
        await left.send(raw.PING)
        await right.send(raw.PING)
        got: list[int] = []
        for member in (left, right):
            while (frame := await member.hear()) is not None and frame.kind == "DELIVER":
                got += numbers(frame.content["messages"]["envelopes"])
        assert sorted(got) == list(range(10))


async def test_what_is_held_for_a_member_that_goes_is_given_to_another(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as stays,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        async with RawClient.welcomed(hub.place.socket) as goes:
            await goes.send(raw.subscribe(1, "jobs", group="w", overflow="block", credit=0))
            await goes.expect("DONE", call=1)
            await client.send(raw.call(1, "jobs", b"0", b"1"), raw.call(2, "jobs", b"2"))
            await client.round_trip()
            await stays.send(raw.subscribe(1, "jobs", group="w"))
            await stays.expect("DONE", call=1)
        assert numbers(await stays.documents(3)) == [0, 1, 2]
        await client.expect("DONE", call=1)
        await client.expect("DONE", call=2)


async def test_a_call_ends_when_the_only_subscriber_without_room_goes(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        async with RawClient.welcomed(hub.place.socket) as goes:
            await goes.send(raw.subscribe(1, "jobs", overflow="block", credit=0))
            await goes.expect("DONE", call=1)
            await client.send(raw.call(1, "jobs", b"0"))
            await client.round_trip()
        await client.expect("DONE", call=1)


# -- verdicts ----------------------------------------------------------------------------------


async def test_a_verdict_decides_on_a_call(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0", b"1"))
        asks = [(await picky.expect("OFFER", subscriptions=[1])).content["ask"] for _ in range(2)]
        await picky.send(frames.verdict(asks[0], None))
        await client.round_trip()
        refusal = {
            "code": "RESOURCE_EXHAUSTED",
            "message": "full",
            "reason": "queue-full",
            "details": {"queue": "a", "limit": 1},
        }
        await picky.send(frames.verdict(asks[1], raw.to_json(**refusal)))
        failure = await client.failed(1, "queue-full")
        assert failure["details"] == {"queue": "a", "limit": 1}
        await client.send(raw.call(2, "a", b"2"))
        ask = (await picky.expect("OFFER")).content["ask"]
        await picky.send(frames.verdict(ask, None))
        await client.expect("DONE", call=2, window=0)


async def test_a_request_needs_no_verdict(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a", overflow="error"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "a", b"?", reply_to="$inbox.me"))
        await client.expect("DELIVER", subscriptions=[1])
        await client.expect("DONE", call=2)


async def test_a_verdict_on_what_another_was_asked_is_refused(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as stranger,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0"))
        ask = (await picky.expect("OFFER")).content["ask"]
        await stranger.send(frames.verdict(ask, None))
        await stranger.refused("bad-frame")
        await client.round_trip()
        await picky.send(frames.verdict(ask, None))
        await client.expect("DONE", call=1)


async def test_who_goes_without_a_verdict_has_accepted(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        async with RawClient.welcomed(hub.place.socket) as picky:
            await picky.send(raw.subscribe(1, "a", overflow="error"))
            await picky.expect("DONE", call=1)
            await client.send(raw.call(1, "a", b"0"))
            await picky.expect("OFFER")
        await client.expect("DONE", call=1)


async def test_who_ends_the_subscription_need_give_no_verdict_any_more(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0"))
        ask = (await picky.expect("OFFER")).content["ask"]
        # The verdict was under way when the subscription was ended.
        await picky.send(raw.unsubscribe(2), frames.verdict(ask, None))
        await picky.expect("DONE", call=2)
        await client.expect("DONE", call=1)
        await picky.round_trip()
