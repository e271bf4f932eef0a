"""Who does not read, or has no room: what the hub holds then, and whom it lets wait."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hms_bus import Bus, plugins
from tests.support import raw_client as raw
from tests.support.hub_load import (
    MIB,
    SLACK,
    SMALL,
    call,
    echo,
    figures_of,
    subscribed,
    until_held_back,
)
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, numbered, numbers

JSON = plugins.get_codec("json")


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub(config=SMALL) as hub:
        yield hub


# -- who never reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
async def test_what_a_client_does_not_read_is_dropped(hub: HubProcess, policy: str) -> None:
    async with (
        subscribed(hub, overflow=policy),
        subscribed(hub, "other.>") as other,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        before = hub.peak_bytes()
        load = bytes(64 * 1024)
        for number in range(1000):  # 64 MB
            await client.send(raw.call(number, f"flood.{number % 7}", load))
            await client.expect("DONE", call=number)
            if number % 20 == 0:
                await echo(other)
        figures = await hub.status()
        held = figures_of(figures, "flood.>")
        assert held["congested"]
        assert held["dropped"] > 0
        assert held["queued_bytes"] <= 4 * MIB
        assert figures["totals"]["queued_bytes"] == held["queued_bytes"]
        assert hub.peak_bytes() - before < 4 * MIB + SLACK


async def test_the_oldest_or_the_newest_is_dropped_as_the_policy_says(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="drop_newest") as first,
        subscribed(hub, overflow="drop_oldest") as last,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        count = 400
        for number, load in enumerate(numbered(count, 64 * 1024)):
            await call(client, number, "flood.a", load)
        figures = await hub.status()
        dropped = [each["dropped"] for each in figures["clients"] if each["subscriptions"]]
        [kept_first, kept_last] = await asyncio.gather(read_all(hub, first), read_all(hub, last))
        assert kept_first == list(range(count - dropped[0]))
        assert dropped[1] == count - len(kept_last)
        # What was sent before nothing was read any more, then a gap, then the newest.
        gaps = [left for left, right in pairwise(kept_last) if right != left + 1]
        assert len(gaps) == 1
        assert kept_last[0] == 0
        assert kept_last[-1] == count - 1


async def test_who_does_not_read_offers_refuses_them(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="error"),
        RawClient.welcomed(hub.place.socket) as client,
    ):
        before = hub.peak_bytes()
        load = bytes(64 * 1024)
        failed = 0
        for number in range(1000):  # 64 MB
            await client.send(raw.call(number, "flood.a", load), raw.PING)
            while (frame := await client.hear()) is not None and frame.kind != "PONG":
                assert frame.kind == "FAILED"
                assert frame.content["json"]["reason"] == "queue-full"
                failed += 1
        held = figures_of(await hub.status(), "flood.>")
        assert held["dropped"] == failed > 900
        assert hub.peak_bytes() - before < SLACK


async def test_who_never_decides_on_offers_refuses_them(hub: HubProcess) -> None:
    async with (
        subscribed(hub, "$flood.>", overflow="error") as undecided,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        offers = 0
        for _ in range(10):
            await client.send(*[raw.publish("$flood.a", b"x")] * 1000)
            await client.round_trip()
            await undecided.send(raw.PING)
            while (frame := await undecided.hear()) is not None and frame.kind == "OFFER":
                offers += 1
        assert offers < 10_000
        await client.send(raw.call(1, "$flood.a", b"x"))
        failure = await client.failed(1, "queue-full")
        assert failure["retryable"]
        assert figures_of(await hub.status(), "$flood.>")["dropped"] == 10_001 - offers


# -- who lets publishers wait ------------------------------------------------------------------


async def test_a_publisher_is_answered_when_there_is_room(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="block", credit=2) as slow,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await client.send(*(raw.call(n, "flood.a", str(n).encode()) for n in range(5)))
        await client.expect("DONE", call=0)
        await client.expect("DONE", call=1, window=0)
        await client.round_trip()
        assert numbers(await slow.documents(2)) == [0, 1]
        figures = await hub.status()
        held = figures_of(figures, "flood.>")
        assert held["queued"] == 3
        assert held["waiting"] == 3
        assert held["subscriptions"][0]["credit"] == 0
        assert held["subscriptions"][0]["load"] == 2
        await slow.send(raw.credit(1, 1, 2))
        await client.expect("DONE", call=2, window=0)
        await slow.send(raw.credit(1, 50, 1))
        await client.expect("DONE", call=3)
        window = (await client.expect("DONE", call=4)).content["window"]
        assert numbers(await slow.documents(3)) == [2, 3, 4]
        assert window <= 48
        assert figures_of(await hub.status(), "flood.>")["subscriptions"][0]["load"] == 2


async def test_windows_are_no_greater_than_the_room_of_the_slowest(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="block", credit=40),
        subscribed(hub, "*.a", overflow="block", credit=7),
        subscribed(hub, "flood.a", overflow="drop_newest"),
        RawClient.welcomed(hub.place.socket) as client,
    ):
        assert await call(client, 1, "flood.a", b"x") <= 6
        assert await call(client, 2, "flood.b", b"x") <= 38
        assert await call(client, 3, "nobody.listens", b"x") == 100


async def test_a_publisher_goes_on_by_itself_as_credit_comes(hub: HubProcess) -> None:
    count = 3000
    async with (
        subscribed(hub, overflow="block", credit=50) as slow,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await_answers: set[int] = set()

        async def publish() -> None:
            window = 0
            for number, document in enumerate(numbered(count)):
                window += client.windows.pop("flood.a", 0)
                if window:
                    window -= 1
                    await client.send(raw.publish("flood.a", document))
                    await client.round_trip()
                else:
                    window += await call(client, number, "flood.a", document)
                    await_answers.add(number)

        publishing = asyncio.create_task(publish())
        got: list[int] = []
        while len(got) < count:
            frame = await slow.expect("DELIVER")
            new = numbers(frame.content["messages"]["envelopes"])
            got += new
            await slow.send(raw.credit(1, len(new), len(new)))
        await publishing
        assert got == list(range(count))
        assert len(await_answers) < count


async def test_a_group_has_room_while_a_member_has(hub: HubProcess) -> None:
    async with (
        subscribed(hub, group="g", overflow="block", credit=1) as narrow,
        subscribed(hub, group="g", overflow="block", credit=20) as wide,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        for number in range(10):
            await call(client, number, "flood.a", str(number).encode())
        got = [*await narrow.documents(1), *await wide.documents(9)]
        assert sorted(numbers(got)) == list(range(10))


async def test_all_that_is_held_for_who_lets_wait_is_bounded(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="block", credit=0) as stuck,
        subscribed(hub, "other.>") as other,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        before = hub.peak_bytes()
        count = 4000
        calls = [raw.call(n, "flood.a", load) for n, load in enumerate(numbered(count, 16 * 1024))]
        sending = asyncio.create_task(client.send(*calls))
        received = await until_held_back(hub)
        assert received < count
        assert not sending.done()
        assert hub.peak_bytes() - before < 16 * MIB + SLACK
        await echo(other)
        # What has piled up comes, in order, once there is credit.
        await stuck.send(raw.credit(1, 2**20))
        assert numbers(await stuck.documents(count)) == list(range(count))
        await sending
        for number in range(count):
            await client.expect("DONE", call=number)
        assert (await hub.status())["totals"]["queued_bytes"] == 0


async def read_all(hub: HubProcess, client: RawClient) -> list[int]:
    """Return the numbers of all messages that the hub has for a client."""
    got: list[int] = []

    async def read() -> None:
        while (frame := await client.hear()) is not None and frame.kind != "PONG":
            got.extend(numbers(frame.content["messages"]["envelopes"]))

    reading = asyncio.create_task(read())
    await hub.until(lambda figures: not figures["totals"]["queued"])
    await client.send(raw.PING)
    await reading
    return got


async def test_who_is_held_back_does_not_count_as_silent(runtime: Path) -> None:
    with running_hub(config=SMALL + "heartbeat_s = 0.5\n") as hub:
        async with (
            subscribed(hub, overflow="block", credit=0) as stuck,
            RawClient.welcomed(hub.place.socket) as client,
        ):
            count = 2000
            loads = numbered(count, 16 * 1024)
            calls = [raw.call(n, "flood.a", load) for n, load in enumerate(loads)]
            sending = asyncio.create_task(client.send(*calls))
            for _ in range(4):  # 2 s, at least: more than three heartbeats
                await stuck.expect("PING")
                await stuck.send(raw.PING)
                await stuck.expect("PONG")
            assert not sending.done()
            await stuck.send(raw.credit(1, 2**20))
            assert numbers(await stuck.documents(count)) == list(range(count))
            await sending


async def test_what_was_held_is_written_as_the_client_reads_it(hub: HubProcess) -> None:
    async with (
        subscribed(hub, overflow="block", credit=0) as stuck,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        calls = [raw.call(n, "flood.a", load) for n, load in enumerate(numbered(500, 16 * 1024))]
        sending = asyncio.create_task(client.send(*calls))
        await hub.until(lambda figures: figures["totals"]["queued"] == 500)
        await sending
        before = hub.peak_bytes()
        await stuck.send(raw.credit(1, 2**20))
        figures = await hub.until(lambda figures: figures["clients"][0]["congested"])
        assert figures["totals"]["queued_bytes"] > 4 * MIB
        assert hub.peak_bytes() - before < 4 * MIB
        assert numbers(await stuck.documents(500)) == list(range(500))


async def test_who_waits_for_itself_is_heard(hub: HubProcess) -> None:
    """Else the credit that would let it go on would never be read."""
    async with subscribed(hub, overflow="block", credit=0) as both:
        count = 3000
        calls = [raw.call(n, "flood.a", load) for n, load in enumerate(numbered(count, 16 * 1024))]
        credit = [raw.credit(1, 2**20)]
        sending = asyncio.create_task(both.send(*calls, *credit))
        got: list[int] = []
        answered = refused = 0
        while answered + refused < count:
            frame = await both.hear()
            assert frame is not None
            if frame.kind == "DELIVER":
                got += numbers(frame.content["messages"]["envelopes"])
            elif frame.kind == "DONE":
                answered += 1
            else:
                assert frame.content["json"]["reason"] == "queue-full"
                refused += 1
        await sending
        assert got == sorted(got)
        assert len(got) == answered > 0


# -- with a bus --------------------------------------------------------------------------------


async def test_a_slow_handler_slows_who_publishes_to_it_and_nobody_else(hub: HubProcess) -> None:
    go_on = asyncio.Event()
    handled: list[int] = []
    slow, fast, publisher = Bus(hub.url), Bus(hub.url), Bus(hub.url)

    @slow.subscribe("jobs.*", max_queue=10)
    async def work(n: int) -> None:
        await go_on.wait()
        handled.append(n)

    @fast.serve("echo")
    async def echo(n: int) -> int:
        return n

    async with slow, fast, publisher:

        async def publish() -> None:
            for n in range(300):
                await publisher.publish("jobs.a", n)

        publishing = asyncio.create_task(publish())
        await hub.until(lambda figures: any(each["waiting"] for each in figures["clients"]))
        for n in range(100):
            assert await publisher.request("echo", n) == n
        assert not publishing.done()
        go_on.set()
        await publishing
    assert handled == list(range(300))


async def test_a_large_message_travels_whole(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus, bus.subscribe("large") as messages:
        for size in (MIB, 15 * MIB):
            await bus.publish("large", "x" * size)
            message = await anext(messages)
            assert len(message.decode(str)) == size
