"""A hub that asks for tokens: what each gives a right to, and the record of what was refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document

RIGHTS = """
audit = "{folder}/audit.jsonl"

[[token]]
name = "shop"
token = "shop-secret"
publish = ["orders.>"]
subscribe = ["orders.>"]
durable = ["shop-*"]

[[token]]
name = "boss"
token = "boss-secret"
publish = [">"]
subscribe = [">", "$reply.>"]
durable = ["*"]
admin = true
"""


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:", config=RIGHTS.format(folder=runtime)) as hub:
        yield hub


def refusals(runtime: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runtime / "audit.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("token", [None, "", "wrong", "shop-secre", "shop", "\u0000" * 1000])
async def test_without_the_token_nobody_comes_in(
    runtime: Path, hub: HubProcess, token: str | None
) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(token=token))
        failure = await client.refused("unauthenticated")
        assert failure["code"] == "UNAUTHENTICATED"
        assert not token or token not in failure["message"]
    await hub.end()
    [refusal] = refusals(runtime)
    assert refusal["what"] == "unauthenticated"
    assert refusal["pid"] == os.getpid()
    assert refusal["name"] == "raw"


async def test_what_the_token_gives_no_right_to_is_denied(runtime: Path, hub: HubProcess) -> None:
    secret = "pay.secret"
    async with (
        RawClient.welcomed(hub.place.socket, token="boss-secret") as boss,
        RawClient.welcomed(hub.place.socket, token="shop-secret") as shop,
    ):
        await boss.send(raw.subscribe(1, ">"))
        await boss.expect("DONE", call=1)
        await shop.send(raw.call(1, secret, b"x"))
        failure = await shop.failed(1, "denied")
        assert failure["code"] == "PERMISSION_DENIED"
        assert failure["details"] == {"action": "publish", "topic": secret, "name": "shop"}
        await shop.send(raw.append(2, secret, document(secret)))
        await shop.failed(2, "denied")
        await shop.send(raw.append(3, "$inbox.boss", document(secret)))
        await shop.failed(3, "denied")
        for number, pattern in enumerate(("pay.>", ">", "*.new", "$inbox.*", "$reply.>"), start=10):
            await shop.send(raw.subscribe(number, pattern))
            await shop.failed(number, "denied")
        await shop.send(raw.read(20))
        await shop.failed(20, "denied")
        await shop.send(raw.read(21, pattern="pay.>"))
        await shop.failed(21, "denied")
        await shop.send(raw.ask(22, "stop"))
        await shop.failed(22, "denied")
        await boss.round_trip()
    await hub.end()
    found = {(line["what"], line.get("topic"), line["token"]) for line in refusals(runtime)}
    assert ("denied", secret, "shop") in found
    assert ("denied", "pay.>", "shop") in found


async def test_what_the_token_gives_a_right_to_is_done(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket, token="shop-secret") as shop:
        await shop.send(raw.subscribe(1, "orders.*"), raw.call(2, "orders.new", b"x"))
        await shop.expect("DONE", call=1)
        await shop.documents(1)
        await shop.expect("DONE", call=2)
        await shop.send(raw.append(3, "orders.new", document("orders.new")))
        await shop.documents(1)
        await shop.expect("RECEIPTS")
        await shop.send(raw.read(4, pattern="orders.>"))
        await shop.expect("RECORDS", call=4)
        await shop.expect("END", call=4)


async def test_what_was_published_without_the_right_comes_back(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket, token="shop-secret") as shop:
        await shop.send(raw.publish("$secret.door", b"x", reply_to="$inbox.me"))
        frame = await shop.expect("RETURNED", reason=2)
        assert frame.content["messages"]["address"] == "$secret.door"
        await shop.round_trip()


async def test_the_hub_that_asks_for_tokens_opens_no_log_for_just_anybody(runtime: Path) -> None:
    with running_hub(config=RIGHTS.format(folder=runtime)) as hub:
        async with RawClient.connected(hub.place.socket) as shop:
            await shop.send(raw.hello(token="shop-secret", log=f"sqlite:{runtime}/mine.db"))
            await shop.refused("no-log")
        assert not (runtime / "mine.db").exists()
        async with RawClient.welcomed(
            hub.place.socket, token="boss-secret", log=f"sqlite:{runtime}/mine.db"
        ):
            assert (runtime / "mine.db").exists()


async def test_the_figures_of_the_hub_show_no_inbox(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket, token="boss-secret") as boss,
        RawClient.welcomed(hub.place.socket, token="shop-secret") as shop,
    ):
        await shop.send(raw.subscribe(1, "$inbox.nobody-can-guess"))
        await shop.expect("DONE", call=1)
        await boss.send(raw.ask(1, "status"))
        answer = await boss.expect("ANSWER", call=1)
        assert "$inbox." in str(answer.content)
        assert "nobody-can-guess" not in str(answer.content)


async def test_a_durable_takes_a_right_to_its_name(runtime: Path, hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket, token="boss-secret") as boss,
        RawClient.welcomed(hub.place.socket, token="shop-secret") as shop,
    ):
        await boss.send(raw.consume(1, "orders.>", name="billing", group="g"))
        await boss.expect("DONE", call=1)
        wanted: dict[str, Any] = {"group": "g", "max_deliveries": 1, "ack_wait_s": 0.001}
        # What is there and what is not is denied alike.
        for number, name in enumerate(("billing", "no-such"), start=10):
            await shop.send(raw.consume(number, "orders.>", name=name, **wanted))
            failure = await shop.failed(number, "denied")
            assert failure["details"] == {"action": "consume", "topic": name, "name": "shop"}
            for op in ("forget", "redrive"):
                await shop.send(raw.ask(20, op, name=name, positions=[1]))
                failure = await shop.failed(20, "denied")
                assert failure["details"] == {"action": op, "topic": name, "name": "shop"}
        await boss.send(raw.ask(2, "durables"))
        [billing] = (await boss.expect("ANSWER", call=2)).content["json"]["durables"]
        assert (billing["max_deliveries"], billing["ack_wait_s"]) == (5, 30.0)
    await hub.end()
    assert ("denied", "billing") in {
        (line["what"], line.get("topic")) for line in refusals(runtime)
    }
