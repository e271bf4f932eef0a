"""The hub runs the schedules of its log: what was published for later is sent, whoever has gone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hms_bus import Bus, plugins
from hms_bus.abc import ConsumingLog, Durable, EventLog
from hms_bus.attributes import new_envelope
from hms_bus.errors import UsageError
from hms_bus.plugins import open_log
from hms_bus.schedules import SCHEDULER, make_schedule, schedule_record
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub, serving_hub
from tests.support.raw_client import RawClient

_encode = plugins.get_codec("json").encode


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


def scheduled(topic: str, *, name: str = "tea", **when: Any) -> bytes:
    """Return the record of a schedule, as a client of any language appends it."""
    message = new_envelope(topic, "late", source="/shop", id="7")
    schedule = make_schedule(message, **(when or {"delay": 0.2}))
    return _encode(schedule_record(name, "/shop", schedule))


async def durables(log: EventLog | None) -> list[str]:
    assert isinstance(log, ConsumingLog)
    return [info.durable.name for info in await log.durables()]


async def test_it_is_sent_when_its_publisher_has_gone(hub: HubProcess) -> None:
    async with Bus(hub.url) as listener, listener.subscribe("later") as messages:
        async with Bus(hub.url) as publisher:
            receipt = await publisher.publish("later", "tea", delay=0.3)
        async with asyncio.timeout(10):
            message = await anext(messages)
        assert (message.data, message.id) == ("tea", receipt.id)
        assert [each.data async for each in listener.replay("later")] == ["tea"]


async def test_who_appends_a_schedule_needs_no_bus(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "later"))
        await client.expect("DONE", call=1)
        await client.send(raw.append(2, "$schedule.tea", scheduled("later")))
        await client.expect("RECEIPTS")
        [document] = await client.documents(1)
        assert plugins.codec_of(document).decode(document).decode(str) == "late"


async def test_what_was_due_while_there_was_no_hub_is_sent_by_the_next(runtime: Path) -> None:
    log = f"sqlite:{runtime.parent}/a.db"
    async with open_log(log) as events:
        schedule = make_schedule(new_envelope("later", "tea", source="/shop"), delay=0)
        await events.append([schedule_record("tea", "/shop", schedule)])
    async with serving_hub("--log", log) as hub, Bus(hub.url) as bus:
        async with asyncio.timeout(10):
            async for message in bus.replay("later", follow=True):
                assert message.data == "tea"
                break


async def test_a_log_without_schedules_gets_no_durable_for_them(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus, bus.subscribe("a") as messages:
        await bus.publish("a", 1)
        await anext(messages)
        assert bus.log is not None
        assert "log-schedules" in bus.log.capabilities
        assert await durables(bus.log) == []
        await bus.publish("a", 2, delay=0)
        await anext(messages)
        assert await durables(bus.log) == [SCHEDULER.name]


async def test_the_durable_of_the_schedules_is_the_hubs(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        assert isinstance(bus.log, ConsumingLog)
        with pytest.raises(UsageError, match="is the hub's"):
            async with bus.log.consume(Durable(name=SCHEDULER.name, pattern="other.>")):
                pass


RIGHTS = """
[[token]]
name = "shop"
token = "shop-secret"
publish = ["orders.>", "$schedule.>"]
subscribe = ["orders.>"]
"""


async def test_nobody_has_sent_what_it_may_not_send_itself(runtime: Path) -> None:
    with running_hub("--log", "memory:", config=RIGHTS) as hub:
        async with RawClient.welcomed(hub.place.socket, token="shop-secret") as shop:
            await shop.send(raw.append(1, "$schedule.tea", scheduled("pay.salary")))
            failure = await shop.failed(1, "denied")
            assert failure["details"]["topic"] == "pay.salary"
            # The topic counts, not the address.
            await shop.send(raw.append(2, "$inbox.x", scheduled("pay.salary")))
            await shop.failed(2, "denied")
            inner = plugins.codec_of(scheduled("pay.salary")).decode(scheduled("pay.salary"))
            outer = schedule_record("outer", "/shop", make_schedule(inner, delay=0))
            await shop.send(raw.append(5, "$schedule.outer", _encode(outer)))
            await shop.failed(5, "denied")
            await shop.send(raw.subscribe(3, "orders.>"))
            await shop.expect("DONE", call=3)
            await shop.send(raw.append(4, "$schedule.tea", scheduled("orders.new")))
            await shop.expect("RECEIPTS")
            await shop.documents(1)
