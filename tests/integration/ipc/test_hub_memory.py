"""What a hub holds at most, whatever clients send, ask for, and do not read."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hms_bus import plugins
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_load import (
    MIB,
    SLACK,
    SMALL,
    call,
    echo,
    subscribed,
    until_held_back,
)
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document

JSON = plugins.get_codec("json")


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub(config=SMALL) as hub:
        yield hub


async def test_many_who_have_no_room_are_bounded_together(hub: HubProcess) -> None:
    count, load = 12, bytes(64 * 1024)
    async with AsyncExitStack() as scope:
        lines: list[tuple[RawClient, RawClient]] = []
        for n in range(count):
            stuck = subscribed(hub, f"flood.{n}", overflow="block", credit=0)
            client = RawClient.welcomed(hub.place.socket)
            lines.append(
                (await scope.enter_async_context(stuck), await scope.enter_async_context(client))
            )
        sending = [
            asyncio.create_task(client.send(*[raw.call(1, f"flood.{n}", load)] * 50))
            for n, (_, client) in enumerate(lines)
        ]
        await hub.until(lambda figures: figures["totals"]["queued_bytes"] > 16 * MIB)
        other = await scope.enter_async_context(subscribed(hub, "other.>"))
        for _ in range(5):
            await echo(other)
        # Each may have been reading a piece of a flood when it became too much.
        assert (await hub.status())["totals"]["queued_bytes"] < 16 * MIB + count * 512 * 1024
        for stuck, _ in lines:
            await stuck.send(raw.credit(1, 100))
        await asyncio.gather(*(stuck.documents(50) for stuck, _ in lines), *sending)


# -- who sends to the log ----------------------------------------------------------------------


async def test_appends_that_find_no_room_do_not_fill_the_hub(runtime: Path) -> None:
    with running_hub("--log", "memory:", config=SMALL) as hub:
        async with (
            subscribed(hub, overflow="block", credit=0) as stuck,
            RawClient.welcomed(hub.place.socket) as client,
        ):
            count = 2000
            appends = [
                raw.append(n, "flood.a", document("flood.a", "." * 16_000)) for n in range(count)
            ]
            sending = asyncio.create_task(client.send(*appends))
            assert await until_held_back(hub) < count
            assert not sending.done()
            await stuck.send(raw.credit(1, 2**20))
            await stuck.documents(count)
            await sending
            receipts = 0
            while receipts < count:
                frame = await client.expect("RECEIPTS")
                receipts += len(frame.content["entries"])


async def test_many_appends_do_not_fill_the_hub(runtime: Path) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            small = document("flood.a", "")
            before = hub.peak_bytes()

            async def send() -> None:
                for n in range(60):
                    block = b"".join(
                        raw.append(n, "flood.a", small.replace(b'"id":"', b'"id":"%d-%d-' % (n, m)))
                        for m in range(1000)
                    )
                    await client.send(block)

            sending = asyncio.create_task(send())
            receipts = 0
            while receipts < 60_000:
                receipts += len((await client.expect("RECEIPTS")).content["entries"])
            await sending
            assert hub.peak_bytes() - before < 8 * MIB + SLACK
        assert (await hub.status())["totals"]["queued_bytes"] == 0


async def test_records_that_are_not_read_stay_in_the_log(runtime: Path) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for number in range(64):
                load = event("flood.a", "." * MIB)
                await client.send(raw.append(number, "flood.a", JSON.encode(load)))
                await client.expect("RECEIPTS")
            before = hub.peak_bytes()
            async with RawClient.welcomed(hub.place.socket) as reader:
                await reader.send(*(raw.read(n, credit=2**32 - 1) for n in range(2)))
                await hub.until(lambda figures: figures["clients"][-2]["congested"])
                await client.round_trip()
                assert hub.peak_bytes() - before < 64 * MIB
                ended = records = 0
                while ended < 2:
                    frame = await reader.hear()
                    assert frame is not None
                    if frame.kind == "END":
                        ended += 1
                    else:
                        records += len(frame.content["entries"])
                assert records == 2 * 64


# -- who does not read deliveries --------------------------------------------------------------


async def test_deliveries_that_are_not_read_stay_in_the_log(runtime: Path) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for number in range(64):
                load = event("flood.a", "." * MIB)
                await client.send(raw.append(number, "flood.a", JSON.encode(load)))
                await client.expect("RECEIPTS")
            before = hub.peak_bytes()
            async with RawClient.welcomed(hub.place.socket) as worker:
                await worker.send(*(raw.consume(n, consumer=n, name=f"d{n}") for n in range(2)))
                for number in range(2):
                    await worker.expect("DONE", call=number)
                await worker.send(*(raw.fetch(n, 1000, consumer=n) for n in range(2)))
                figures = await hub.until(lambda figures: figures["clients"][-2]["congested"])
                figures = await hub.until(
                    lambda figures: all(
                        each["queued"] > 0 for each in figures["clients"][-2]["consumers"]
                    )
                )
                # One piece of each FETCH, not the thousand that were asked for; and the durables
                # themselves read ahead.
                assert MIB < figures["clients"][-2]["queued_bytes"] < 2 * 17 * MIB
                await client.round_trip()
                assert hub.peak_bytes() - before < 4 * 64 * MIB
                got: dict[int, int] = {0: 0, 1: 0}
                is_over = 0
                while is_over < 2:
                    frame = await worker.expect("DELIVERIES")
                    got[frame.content["call"]] += len(frame.content["entries"])
                    is_over += not frame.content["more"]
                assert all(0 < count < 64 for count in got.values())
            figures = await hub.until(lambda figures: figures["totals"]["clients"] == 2)
            assert figures["totals"]["queued_bytes"] == 0


async def test_who_goes_with_deliveries_unread_leaves_nothing_in_the_hub(runtime: Path) -> None:
    with running_hub("--log", "memory:") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for number in range(16):
                load = event("flood.a", "." * MIB)
                await client.send(raw.append(number, "flood.a", JSON.encode(load)))
                await client.expect("RECEIPTS")
            async with RawClient.welcomed(hub.place.socket) as worker:
                await worker.send(raw.consume(1))
                await worker.expect("DONE", call=1)
                await worker.send(raw.fetch(2))
                await hub.until(lambda figures: figures["totals"]["queued_bytes"] > MIB)
            figures = await hub.until(lambda figures: figures["totals"]["clients"] == 2)
            assert figures["totals"]["queued_bytes"] == 0
            assert figures["totals"]["queued"] == 0


async def test_settlements_that_are_not_answered_yet_hold_their_client_back(
    runtime: Path,
) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with RawClient.welcomed(hub.place.socket) as worker:
            await worker.send(raw.consume(1))
            await worker.expect("DONE", call=1)
            before = hub.peak_bytes()
            flood = raw.settle(2, *((n, 1, "ack") for n in range(1, 1001)))
            count = 64 * MIB // len(flood)
            sending = asyncio.create_task(worker.send(*[flood] * count))
            for _ in range(count):
                await worker.expect("DONE", call=2)
            await sending
            assert hub.peak_bytes() - before < 32 * MIB
            assert (await hub.status())["totals"]["queued_bytes"] == 0


# -- who does not read answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        raw.PING,
        raw.ask(1, "status"),
        raw.ask(1, "nonsense"),
        raw.call(1, "flood.a", b"x"),
        raw.call(1, "no topic", b"x"),
        raw.publish("nobody.serves", bytes(1000), reply_to="$inbox.me"),
        raw.read(1),
        raw.subscribe(1, "no pattern."),
        raw.unsubscribe(1),
        raw.consume(1),
        raw.fetch(1),
        raw.settle(1, (1, 1, "ack")),
        raw.ask(1, "durables"),
    ],
    ids=[
        "ping",
        "status",
        "ask",
        "call",
        "bad call",
        "request",
        "read",
        "subscribe",
        "unsubscribe",
        "consume",
        "fetch",
        "settle",
        "durables",
    ],
)
async def test_answers_that_are_not_read_do_not_fill_the_hub(
    hub: HubProcess, question: bytes
) -> None:
    async with (
        subscribed(hub, "other.>") as other,
        RawClient.welcomed(hub.place.socket) as deaf,
    ):
        await other.send(*(raw.subscribe(n, "other.x.*", subscription=n) for n in range(2, 302)))
        for _ in range(300):
            await other.expect("DONE")
        before = hub.peak_bytes()
        many = question * (1_000_000 // len(question))

        async def ask() -> None:
            for _ in range(40):
                await deaf.send(many)

        asking = asyncio.create_task(ask())
        for _ in range(20):
            await echo(other)
            await hub.status()
        assert hub.peak_bytes() - before < 8 * MIB + SLACK
        asking.cancel()
        await asyncio.wait([asking])


# -- many and much -----------------------------------------------------------------------------


async def test_a_client_may_have_ten_thousand_subscriptions(hub: HubProcess) -> None:
    count = 10_000
    async with (
        RawClient.welcomed(hub.place.socket) as client,
        RawClient.welcomed(hub.place.socket) as other,
    ):
        before = hub.resident_bytes()
        await client.send(
            *(raw.subscribe(n, f"many.t{n}.>", subscription=n) for n in range(count - 1)),
            raw.subscribe(count, "many.*.x", subscription=count),
        )
        for _ in range(count):
            await client.expect("DONE")
        assert hub.resident_bytes() - before < 40 * MIB
        assert (await hub.status())["totals"]["subscriptions"] == count
        for number in (0, 4321, count - 2):
            await call(other, 1, f"many.t{number}.x", b"!")
            frame = await client.expect("DELIVER")
            assert sorted(frame.content["subscriptions"]) == [number, count]
        await call(other, 1, "many.nobody.y", b"!")
        await client.send(*(raw.unsubscribe(n, n) for n in range(count // 2)))
        for _ in range(count // 2):
            await client.expect("DONE")
        await call(other, 1, "many.t0.y", b"!")
        await client.round_trip()
    figures = await hub.until(lambda figures: figures["totals"]["clients"] == 1)
    assert figures["totals"]["subscriptions"] == 0


async def test_ten_thousand_subscriptions_to_one_topic_cost_one_frame(hub: HubProcess) -> None:
    count = 10_000
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(*(raw.subscribe(n, "one.topic", subscription=n) for n in range(count)))
        for _ in range(count):
            await client.expect("DONE")
        await client.send(raw.call(1, "one.topic", b"!"))
        frame = await client.expect("DELIVER")
        assert sorted(frame.content["subscriptions"]) == list(range(count))
        await client.expect("DONE", call=1)
    await hub.until(lambda figures: figures["totals"]["subscriptions"] == 0)


@pytest.mark.parametrize("size", [MIB, 15 * MIB])
async def test_windows_for_large_messages_are_small(runtime: Path, size: int) -> None:
    with running_hub() as hub:
        async with (
            subscribed(hub, overflow="block", credit=1000) as reader,
            RawClient.welcomed(hub.place.socket) as client,
        ):
            load = bytes(size)

            most = max(1, 4 * MIB // size)

            async def publish() -> int:
                window = await call(client, 1, "flood.a", load)
                assert 1 <= window <= most
                await client.send(*[raw.publish("flood.a", load)] * window)
                await client.round_trip()
                assert 1 <= client.windows["flood.a"] <= most
                return window

            publishing = asyncio.create_task(publish())
            got = await reader.documents(2)
            window = await publishing
            got += await reader.documents(window - 1) if window > 1 else []
            assert {len(document) for document in got} == {size}
