"""Durables at the hub, frame by frame (spec/ipc.md, "Durables")."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hms_bus.plugins import open_log
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document

SOON: dict[str, Any] = {"ack_wait_s": 0.05}


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


async def fill(client: RawClient, count: int, topic: str = "a") -> None:
    """Append so many records."""
    await client.send(raw.append(99, topic, *(document(topic, n) for n in range(count))))
    await client.expect("RECEIPTS")


async def begin(client: RawClient, pattern: str = ">", **members: Any) -> None:
    """Consume."""
    await client.send(raw.consume(1, pattern, **members))
    await client.expect("DONE", call=1)


async def durables(client: RawClient) -> list[dict[str, Any]]:
    """Return what the hub tells of durables."""
    await client.send(raw.ask(98, "durables"))
    return (await client.expect("ANSWER", call=98, more=0)).content["json"]["durables"]


# -- consumers ---------------------------------------------------------------------------------


async def test_a_number_is_that_of_one_consumer(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await begin(client)
        await client.send(raw.consume(2, name="other"))
        await client.refused("bad-frame")


async def test_there_is_one_fetch_at_a_time(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await begin(client)
        await client.send(raw.fetch(2), raw.fetch(3))
        await client.refused("bad-frame")


async def test_there_are_no_more_consumers_than_the_welcome_says(runtime: Path) -> None:
    with running_hub("--log", "memory:", config="[limits]\nmax_consumers = 1\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await begin(client)
            await client.send(raw.consume(2, consumer=2, name="e"))
            failure = await client.failed(2, "limit")
            assert "raise max_consumers" in failure["message"]
            await client.send(raw.release(3))
            await client.expect("DONE", call=3)
            await client.send(raw.consume(4, consumer=2, name="e"))
            await client.expect("DONE", call=4)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"pattern": "a..b"}, "bad-topic"),
        ({"codec": "morse"}, "unsupported"),
        ({"name": ""}, "usage"),
    ],
)
async def test_a_durable_that_cannot_be_fails(
    hub: HubProcess, members: dict[str, Any], reason: str
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.consume(1, **members))
        await client.failed(1, reason)
        await begin(client)
        assert [each["name"] for each in await durables(client)] == ["d"]


async def test_a_consumer_is_used_when_it_is_there_and_may_be_released_before(
    hub: HubProcess,
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.consume(1), raw.fetch(2), raw.release(3), raw.release(4))
        for number in (2, 4):
            assert "no consumer 1" in (await client.failed(number, "usage"))["message"]
        await client.expect("DONE", call=1)
        await client.expect("DONE", call=3)
        await client.send(raw.settle(5, (1, 1, "ack")), raw.fetch(6))
        await client.failed(5, "usage")
        await client.failed(6, "usage")
        await begin(client)
        assert [each["consumers"] for each in await durables(client)] == [1]


async def test_a_consumer_that_cannot_be_may_be_released(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as client,
        RawClient.welcomed(hub.place.socket) as other,
    ):
        await begin(client)
        await other.send(raw.consume(1), raw.release(2))
        failure = await other.failed(1, "log")
        assert failure["details"]["kind"] == "DurableInUseError"
        await other.expect("DONE", call=2)


async def test_a_release_ends_a_fetch_and_hands_back(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await fill(client, 2)
        await begin(client)
        await client.send(raw.fetch(2))
        assert await client.deliveries(2) == [(1, 1), (2, 1)]
        await client.send(raw.settle(3, (1, 1, "ack")))
        await client.expect("DONE", call=3)
        await client.send(raw.fetch(4), raw.release(5))
        assert await client.deliveries(4) == []
        await client.expect("DONE", call=5)
        await begin(client)
        await client.send(raw.fetch(6))
        assert await client.deliveries(6) == [(2, 1)]


async def test_nothing_of_a_consumer_comes_behind_its_release(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as writer,
        RawClient.connected(hub.place.socket, receive_bytes=4096) as slow,
    ):
        for _ in range(4):
            await writer.send(raw.append(1, "a", *(document("a", "x" * 500_000) for _ in range(4))))
            await writer.expect("RECEIPTS")
        await slow.send(raw.hello())
        await slow.expect("WELCOME")
        await begin(slow)
        await slow.send(raw.fetch(2))
        await hub.until(lambda figures: figures["totals"]["queued"] > 0)
        await slow.send(raw.release(3))
        assert len(await slow.deliveries(2)) < 16
        await slow.expect("DONE", call=3)
        await slow.round_trip()
        assert (await hub.status())["totals"]["queued_bytes"] == 0
        await begin(writer)
        await writer.send(raw.fetch(4))
        assert (await writer.deliveries(4))[0] == (1, 1)


async def test_a_release_without_handing_back_leaves_it_to_the_ack_wait(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await fill(client, 1)
        await begin(client, **SOON)
        await client.send(raw.fetch(2))
        assert await client.deliveries(2) == [(1, 1)]
        await client.send(raw.release(3, 1))
        await client.expect("DONE", call=3)
        await begin(client, **SOON)
        await client.send(raw.fetch(4))
        assert await client.deliveries(4) == [(1, 2)]


# -- who goes ----------------------------------------------------------------------------------


async def test_what_a_client_had_that_has_gone_is_left_to_the_ack_wait(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as other:
        await fill(other, 2)
        async with RawClient.welcomed(hub.place.socket) as client:
            await begin(client, group="g", ack_wait_s=60)
            await client.send(raw.fetch(2, 1))
            assert await client.deliveries(2) == [(1, 1)]
        await hub.until(lambda figures: figures["totals"]["clients"] == 2)
        await begin(other, group="g", ack_wait_s=60)
        await other.send(raw.fetch(2))
        assert await other.deliveries(2) == [(2, 1)]
        # By a consumer of the same durable, on another connection.
        await other.send(raw.settle(3, (1, 1, "ack"), (2, 1, "ack")))
        await other.expect("DONE", call=3)
        [durable] = await durables(other)
        assert (durable["floor"], durable["unacked"], durable["consumers"]) == (2, 0, 1)


async def test_what_is_settled_before_a_bye_is_settled(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await fill(client, 1)
        await begin(client)
        await client.send(raw.fetch(2))
        assert await client.deliveries(2) == [(1, 1)]
        await client.send(raw.settle(3, (1, 1, "ack")), raw.bye())
        await client.expect("DONE", call=3)
        await client.expect("BYE")
        assert await client.hear() is None
    async with RawClient.welcomed(hub.place.socket) as client:
        [durable] = await durables(client)
        assert (durable["floor"], durable["consumers"]) == (1, 0)


async def test_the_figures_of_the_hub_name_consumers(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await fill(client, 1)
        await begin(client, "a.>", group="g")
        figures = await hub.status()
        expected = {"durable": "d", "pattern": "a.>", "group": "g"}
        [shown] = figures["clients"][0]["consumers"]
        assert shown == expected | {"waiting": False, "queued": 0, "delivered": 0}
        await client.send(raw.fetch(2))
        await hub.until(lambda figures: figures["clients"][0]["consumers"][0]["waiting"])
        await client.send(raw.append(3, "a.b", document("a.b")))
        kinds = {(await client.hear()).kind for _ in range(2)}  # pyright: ignore[reportOptionalMemberAccess]
        assert kinds == {"RECEIPTS", "DELIVERIES"}
        figures = await hub.status()
        [shown] = figures["clients"][0]["consumers"]
        assert shown == expected | {"waiting": False, "queued": 0, "delivered": 1}


# -- questions ---------------------------------------------------------------------------------


async def test_dead_letters_are_delivered_again_when_they_are_redriven(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await fill(client, 1)
        await begin(client, "a")
        await client.send(raw.fetch(2))
        assert await client.deliveries(2) == [(1, 1)]
        await client.send(raw.settle(3, (1, 1, "term")))
        await client.expect("DONE", call=3)
        for positions in ([2], [1, 2]):
            await client.send(raw.ask(4, "redrive", name="d", positions=positions))
            await client.failed(4, "usage")
        await client.send(raw.ask(5, "redrive", name="d", positions=[1]))
        await client.expect("ANSWER", call=5, json={})
        await client.send(raw.fetch(6))
        assert await client.deliveries(6) == [(1, 1)]


async def test_a_durable_is_forgotten_when_nobody_consumes(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await begin(client)
        await client.send(raw.ask(2, "forget", name="d"))
        failure = await client.failed(2, "log")
        assert failure["details"] | {"path": ""} == {
            "kind": "DurableInUseError",
            "name": "d",
            "path": "",
        }
        await client.send(raw.release(3))
        await client.expect("DONE", call=3)
        await client.send(raw.ask(4, "forget", name="d"))
        await client.expect("ANSWER", call=4, json={})
        assert await durables(client) == []


async def test_many_durables_come_in_several_answers(hub: HubProcess) -> None:
    count = 300
    async with RawClient.welcomed(hub.place.socket) as client:
        for number in range(count):
            await client.send(raw.consume(1, name=f"d{number:03}"), raw.release(2))
            await client.expect("DONE", call=1)
            await client.expect("DONE", call=2)
        await client.send(raw.ask(3, "durables"))
        first = await client.expect("ANSWER", call=3, more=1)
        last = await client.expect("ANSWER", call=3, more=0)
        names = [each["name"] for each in first.content["json"]["durables"]]
        names += [each["name"] for each in last.content["json"]["durables"]]
        assert names == [f"d{number:03}" for number in range(count)]


# -- rights ------------------------------------------------------------------------------------

RIGHTS = """
[[token]]
name = "shop"
token = "shop-secret"
subscribe = ["orders.>"]
durable = ["d"]

[[token]]
name = "boss"
token = "boss-secret"
publish = [">"]
subscribe = [">", "$reply.>"]
durable = ["*"]
"""


async def test_who_consumes_needs_the_right_to_the_durable_and_to_its_records(
    runtime: Path,
) -> None:
    with running_hub("--log", "memory:", config=RIGHTS) as hub:
        async with (
            RawClient.welcomed(hub.place.socket, token="boss-secret") as boss,
            RawClient.welcomed(hub.place.socket, token="shop-secret") as shop,
        ):
            await fill(boss, 1, "orders.new")
            await begin(boss, name="all")
            for pattern in (">", "pay.>", "$dlq.>", "*.new"):
                await shop.send(raw.consume(1, pattern))
                failure = await shop.failed(1, "denied")
                assert failure["details"]["action"] == "read"
            await begin(shop, "orders.*")
            await shop.send(raw.fetch(2))
            assert await shop.deliveries(2) == [(1, 1)]
            assert [each["name"] for each in await durables(boss)] == ["all", "d"]
            assert [each["name"] for each in await durables(shop)] == ["d"]
            await boss.send(raw.release(3))
            await boss.expect("DONE", call=3)
            for op, members in (("forget", {}), ("redrive", {"positions": [1]})):
                await shop.send(raw.ask(4, op, name="all", **members))
                failure = await shop.failed(4, "denied")
                assert failure["details"] == {"action": op, "topic": "all", "name": "shop"}
            await boss.send(raw.ask(5, "forget", name="all"))
            await boss.expect("ANSWER", call=5)
            await shop.send(raw.release(6))
            await shop.expect("DONE", call=6)
            await shop.send(raw.ask(7, "forget", name="d"))
            await shop.expect("ANSWER", call=7)


# -- those that cannot be sent ------------------------------------------------------------------


async def test_a_record_that_has_no_form_in_the_codec_is_a_dead_letter(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        # No reader of CBOR takes an integer of more than 64 bits.
        await client.send(raw.append(99, "a", *(document("a", n) for n in (1, 2**70, 2))))
        await client.expect("RECEIPTS")
        await begin(client, codec="cbor")
        await client.send(raw.fetch(2))
        assert await client.deliveries(2) == [(1, 1), (3, 1)]
        await client.send(raw.settle(3, (1, 1, "ack"), (3, 1, "ack")))
        await client.expect("DONE", call=3)
        [durable] = await durables(client)
        assert (durable["floor"], durable["unacked"]) == (3, 0)
        assert "has no form in the codec" in hub.words


async def test_a_record_that_no_frame_can_hold_is_a_dead_letter(runtime: Path) -> None:
    log = f"sqlite:{runtime.parent}/a.db"
    async with open_log(log) as events:
        await events.append([event("a.b", "x" * n) for n in (1, 5000, 2)])
    with running_hub("--log", log, config="[limits]\nmax_frame = 4096\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await begin(client, "a.>")
            await client.send(raw.fetch(2))
            assert await client.deliveries(2) == [(1, 1), (3, 1)]
            await client.send(raw.settle(3, (1, 1, "ack"), (3, 1, "ack")))
            await client.expect("DONE", call=3)
            [durable] = await durables(client)
            assert (durable["floor"], durable["unacked"]) == (3, 0)
            await client.send(raw.ask(4, "redrive", name="d", positions=[2]))
            await client.expect("ANSWER", call=4)
            await client.send(raw.fetch(5))
            assert await client.deliveries(5) == []
            await client.send(raw.ask(6, "head"))
            head = await client.expect("ANSWER", call=6)
            assert head.content["json"]["position"] >= 4
