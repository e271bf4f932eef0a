"""Consumers of a hub's log, when the connection ends: nothing is lost, and nothing counts twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.abc import Consumer, ConsumingLog, Delivery, Durable, Settlement
from hms_bus.errors import DisconnectedError, DurableInUseError, LogError
from tests.support.hub_line import line_to
from tests.support.hub_process import HubProcess, running_hub, serving_hub, there_are

DURABLE = Durable(name="d", pattern="a.>", ack_wait_s=60)


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


def log_of(bus: Bus) -> ConsumingLog:
    assert isinstance(bus.log, ConsumingLog)
    return bus.log


def acks(deliveries: list[Delivery]) -> list[Settlement]:
    return [
        Settlement(position=each.record.position, attempt=each.attempt, outcome="ack")
        for each in deliveries
    ]


async def test_a_consumer_goes_on_and_settles_what_it_had_before(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(hub.url) as bus, Bus(line.url) as worker:
        await bus.publish_many([("a.b", n) for n in range(200)])
        async with log_of(worker).consume(DURABLE) as consumer:
            positions: list[int] = []
            while len(positions) < 200:
                got = await consumer.fetch(7)
                if len(positions) % 5 == 0:
                    line.cut()
                await consumer.settle(acks(got))
                assert {each.attempt for each in got} == {1}
                positions += [each.record.position for each in got]
            assert positions == list(range(1, 201))
            [found] = await log_of(bus).durables()
            assert (found.floor, found.unacked) == (200, 0)
            assert line.connections > 5


async def test_a_fetch_waits_over_the_end_of_a_connection(hub: HubProcess) -> None:
    async with (
        line_to(hub) as line,
        Bus(hub.url) as bus,
        Bus(line.url) as worker,
        log_of(worker).consume(DURABLE) as consumer,
    ):
        fetching = asyncio.create_task(consumer.fetch(9))
        for turn in range(1, 4):
            await hub.until(
                lambda figures: any(
                    each["waiting"] for client in figures["clients"] for each in client["consumers"]
                )
            )
            line.cut()
            await line.until_connected(turn + 1)
        await bus.publish("a.b", 1)
        assert [each.record.position for each in await fetching] == [1]


async def test_a_settlement_waits_for_a_connection(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(hub.url) as bus, Bus(line.url) as worker:
        await bus.publish("a.b", 1)
        async with log_of(worker).consume(DURABLE) as consumer:
            got = await consumer.fetch(1)
            line.bar()
            await hub.until(there_are(1))
            settling = asyncio.create_task(consumer.settle(acks(got)))
            await asyncio.sleep(0)
            assert not settling.done()
            line.let_in()
            await settling
            [found] = await log_of(bus).durables()
            assert (found.floor, found.unacked) == (1, 0)


async def test_a_settlement_gives_up_when_there_is_no_connection(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(f"{line.url}&timeout=0.5s") as worker:
        await worker.publish("a.b", 1)
        async with log_of(worker).consume(DURABLE) as consumer:
            got = await consumer.fetch(1)
            line.bar()
            with pytest.raises(DisconnectedError, match="unknown"):
                await consumer.settle(acks(got))
            line.let_in()
            await hub.until(there_are(1))
            await consumer.settle(acks(got))


async def test_who_begins_to_consume_waits_for_a_connection(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(hub.url) as bus, Bus(line.url) as worker:
        await bus.publish("a.b", 1)
        line.bar()
        await hub.until(there_are(1))

        async def consume() -> list[Delivery]:
            async with log_of(worker).consume(DURABLE) as consumer:
                return await consumer.fetch(1)

        consuming = asyncio.create_task(consume())
        await asyncio.sleep(0)
        assert not consuming.done()
        line.let_in()
        assert [each.attempt for each in await consuming] == [1]


async def test_a_durable_that_another_one_has_taken_meanwhile_is_asked_for_until_it_is_free(
    hub: HubProcess,
) -> None:
    async with (
        line_to(hub) as line,
        Bus(hub.url) as bus,
        Bus(f"{line.url}&timeout=0.5s") as worker,
        log_of(worker).consume(DURABLE) as consumer,
    ):
        line.bar()
        await hub.until(there_are(1))
        async with log_of(bus).consume(DURABLE):
            line.let_in()
            with pytest.raises(DurableInUseError):
                await consumer.fetch(1)
            with pytest.raises(DurableInUseError):
                await consumer.settle([Settlement(position=1, attempt=1, outcome="ack")])
        await bus.publish("a.b", 1)
        assert [each.record.position for each in await until_let_in(consumer)] == [1]


async def until_let_in(consumer: Consumer) -> list[Delivery]:
    """Fetch as a program does that tries again when another one has the durable."""
    while True:
        try:
            return await consumer.fetch(1)
        except DurableInUseError:
            await asyncio.sleep(0.05)


async def test_a_durable_that_comes_free_in_time_is_taken_again(hub: HubProcess) -> None:
    async with (
        line_to(hub) as line,
        Bus(hub.url) as bus,
        Bus(line.url) as worker,
        log_of(worker).consume(DURABLE) as consumer,
    ):
        line.bar()
        await hub.until(there_are(1))
        async with log_of(bus).consume(DURABLE):
            line.let_in()
            await hub.until(there_are(2))
        await bus.publish("a.b", 1)
        assert [each.record.position for each in await consumer.fetch(1)] == [1]


async def test_a_log_that_is_gone_ends_its_consumers(runtime: Path) -> None:
    with running_hub("--log", "memory:") as hub:
        async with Bus(hub.url) as bus:
            await bus.publish("a.b", 1)
            async with log_of(bus).consume(DURABLE) as consumer:
                got = await consumer.fetch(1)
                hub.kill()
                async with serving_hub("--log", "memory:"):
                    with pytest.raises(LogError, match="memory:"):
                        await consumer.fetch(1)
                    with pytest.raises(LogError, match="memory:"):
                        await consumer.settle(acks(got))
                    await bus.publish("a.b", 1)
                    async with log_of(bus).consume(DURABLE) as second:
                        assert [each.attempt for each in await second.fetch(1)] == [1]


async def test_a_consumer_is_left_without_a_connection(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(hub.url) as bus, Bus(line.url) as worker:
        async with log_of(worker).consume(DURABLE):
            line.bar()
            await hub.until(there_are(1))
        [found] = await log_of(bus).durables()
        assert found.consumers == 0
