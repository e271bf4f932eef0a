"""Durables of a hub's log, for its clients: consumers in several processes, and who is killed."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.abc import ConsumingLog, Delivery, Durable, DurableInfo, Settlement
from hms_bus.errors import DurableInUseError, StateError, UnsupportedError, UsageError
from hms_bus.ipc.durables import MAX_SETTLED
from tests.support.consuming_program import ConsumingProcess, consuming_process
from tests.support.fake_hub import Talk, fake_hub
from tests.support.hub_process import HubProcess, running_hub, serving_hub, there_are

DURABLE = Durable(name="d", pattern="a.>", ack_wait_s=60)
SOON = Durable(name="d", pattern="a.>", ack_wait_s=0.2)
SHARED = Durable(name="d", pattern="a.>", group="g", ack_wait_s=60)


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


def log_of(bus: Bus) -> ConsumingLog:
    assert isinstance(bus.log, ConsumingLog)
    assert "log-durable" in bus.log.capabilities
    return bus.log


def marks(deliveries: Sequence[Delivery]) -> list[tuple[int, int]]:
    """Positions and attempts."""
    return [(delivery.record.position, delivery.attempt) for delivery in deliveries]


def acks(deliveries: Sequence[Delivery]) -> list[Settlement]:
    return [Settlement(position=p, attempt=a, outcome="ack") for p, a in marks(deliveries)]


async def publish(bus: Bus, count: int) -> None:
    await bus.publish_many([("a.b", n) for n in range(count)])


async def info(bus: Bus) -> DurableInfo:
    [found] = await log_of(bus).durables()
    return found


# -- one client --------------------------------------------------------------------------------


async def test_what_was_published_is_fetched_and_settled(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        await publish(bus, 5)
        async with log_of(bus).consume(DURABLE) as consumer:
            first = await consumer.fetch(2)
            assert marks(first) == [(1, 1), (2, 1)]
            assert [delivery.record.envelope.decode(int) for delivery in first] == [0, 1]
            await consumer.settle(acks(first))
            await consumer.settle([])
            assert marks(await consumer.fetch(100)) == [(3, 1), (4, 1), (5, 1)]
            found = await info(bus)
            assert found.durable == DURABLE
            assert (found.floor, found.delivered, found.unacked) == (2, 5, 3)
        async with log_of(bus).consume(DURABLE) as consumer:
            assert marks(await consumer.fetch(100)) == [(3, 1), (4, 1), (5, 1)]
        await log_of(bus).forget("d")
        assert await log_of(bus).durables() == []


async def test_every_outcome_and_its_delay_arrive(hub: HubProcess) -> None:
    durable = Durable(name="d", pattern="a.>", ack_wait_s=0.5, max_deliveries=None)
    async with Bus(hub.url) as bus:
        await publish(bus, 5)
        async with log_of(bus).consume(durable) as consumer:
            assert len(await consumer.fetch(5)) == 5
            outcomes = ("ack", "nak", "term", "progress", "defer")
            settled = [
                Settlement(position=position, attempt=1, outcome=outcome, delay_s=60)
                for position, outcome in enumerate(outcomes, 1)
            ]
            await consumer.settle(settled)
            assert marks(await consumer.fetch(5)) == [(4, 2)]  # its ack wait was over
            await consumer.settle([Settlement(position=4, attempt=2, outcome="nak")])
            assert marks(await consumer.fetch(5)) == [(4, 3)]
            assert (await info(bus)).unacked == 3
            await log_of(bus).redrive("d", [3])
            assert marks(await consumer.fetch(5)) == [(3, 1)]


async def test_more_is_settled_at_once_than_a_frame_may_settle(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus, log_of(bus).consume(DURABLE) as consumer:
        await publish(bus, 1)
        await consumer.settle(acks(await consumer.fetch(1)) * (MAX_SETTLED + 1))
        assert (await info(bus)).floor == 1


async def test_a_fetch_that_is_given_up_loses_nothing(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus, log_of(bus).consume(DURABLE) as consumer:
        got: list[Delivery] = []
        for turn in range(50):
            fetching = asyncio.create_task(consumer.fetch(100))
            publishing = asyncio.create_task(publish(bus, 3))
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            fetching.cancel()
            await asyncio.wait([fetching])
            got += [] if fetching.cancelled() else fetching.result()
            await publishing
        while len(got) < 150:
            piece = await consumer.fetch(7)
            assert 1 <= len(piece) <= 7
            got += piece
        assert marks(got) == [(position, 1) for position in range(1, 151)]


async def test_a_large_fetch_comes_in_several_frames(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        await bus.publish_many([("a.b", "x" * 50_000) for _ in range(40)])
        async with log_of(bus).consume(DURABLE) as consumer:
            got: list[Delivery] = []
            while len(got) < 40:
                piece = await consumer.fetch(1000)
                got += piece
                await consumer.settle(
                    [
                        Settlement(position=p, attempt=a, outcome="term", reason="y" * 60_000)
                        for p, a in marks(piece)
                    ]
                )
            assert marks(got) == [(position, 1) for position in range(1, 41)]
            assert (await info(bus)).floor == 40


async def test_what_is_asked_for_in_vain_is_refused_as_by_any_log(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus, Bus(hub.url) as other:
        log = log_of(bus)
        async with log.consume(DURABLE) as consumer:
            with pytest.raises(UsageError, match="at least 1"):
                await consumer.fetch(0)
            with pytest.raises(DurableInUseError, match="'d'"):
                async with log_of(other).consume(DURABLE):
                    pass
            with pytest.raises(DurableInUseError, match="'d'"):
                await log.forget("d")
            with pytest.raises(UsageError, match="3"):
                await log.redrive("d", [3])
            with pytest.raises(UsageError, match="position"):
                await log.redrive("d", [0])
            with pytest.raises(UsageError):
                await log.redrive("d", range(1, 2**20))
            with pytest.raises(UsageError, match="max_unacked"):
                async with log.consume(Durable(name="e", pattern="a", max_unacked=0)):
                    pass
        with pytest.raises(StateError, match="closed"):
            await consumer.fetch(1)
        with pytest.raises(StateError, match="closed"):
            await consumer.settle([Settlement(position=1, attempt=1, outcome="ack")])
        with pytest.raises(UsageError, match="'d'"):
            async with log.consume(Durable(name="d", pattern="b.>")):
                pass
        with pytest.raises(UsageError, match="'e'"):
            await log.forget("e")


async def test_many_durables_are_told_of(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        names = [f"d{number:03}" for number in range(260)]
        for name in names:
            async with log_of(bus).consume(Durable(name=name, pattern="a", start="end")):
                pass
        found = await log_of(bus).durables()
        assert [each.durable for each in found] == [
            Durable(name=name, pattern="a", start="end") for name in names
        ]


async def test_a_consumer_may_be_given_up_before_it_is_there(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        scope = log_of(bus).consume(DURABLE)
        entering = asyncio.ensure_future(scope.__aenter__())
        await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])
        async with log_of(bus).consume(DURABLE):
            assert (await info(bus)).consumers == 1


async def test_a_consumer_that_is_abandoned_leaves_it_to_the_ack_wait(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        await publish(bus, 1)
        async with log_of(bus).consume(SOON) as consumer:
            assert marks(await consumer.fetch(1)) == [(1, 1)]
            consumer.abandon()
            with pytest.raises(StateError):
                await consumer.fetch(1)
        async with log_of(bus).consume(SOON) as consumer:
            assert marks(await consumer.fetch(1)) == [(1, 2)]


async def test_a_bus_that_is_left_ends_its_consumers(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        scope = log_of(bus).consume(DURABLE)
        consumer = await scope.__aenter__()
        fetching = asyncio.create_task(consumer.fetch(1))
        await hub.until(lambda figures: figures["clients"][0]["consumers"][0]["waiting"])
    with pytest.raises(StateError):
        await fetching
    await scope.__aexit__(None, None, None)
    await hub.until(there_are(0))


async def test_a_hub_whose_log_keeps_no_durables_is_not_asked(runtime: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(log={"url": "old:", "identity": "1", "capabilities": ["log-follow"]})
        await talk.serve()

    runtime.mkdir(mode=0o700)
    async with fake_hub(runtime, script) as hub, Bus(hub.url) as bus:
        assert isinstance(bus.log, ConsumingLog)
        assert "log-durable" not in bus.log.capabilities
        with pytest.raises(UnsupportedError, match="log-durable"):
            async with bus.log.consume(DURABLE):
                pass
        for asking in (bus.log.durables(), bus.log.forget("d"), bus.log.redrive("d", [1])):
            with pytest.raises(UnsupportedError, match="old:"):
                await asking


# -- several processes -------------------------------------------------------------------------


async def test_two_processes_share_a_group(hub: HubProcess) -> None:
    async with (
        Bus(hub.url) as bus,
        consuming_process(hub.url, SHARED, "ack") as one,
        consuming_process(hub.url, SHARED, "ack") as other,
    ):
        assert (await info(bus)).consumers == 2
        came: asyncio.Queue[tuple[str, int, int]] = asyncio.Queue()

        async def collect(name: str, program: ConsumingProcess) -> None:
            while True:
                came.put_nowait((name, *await program.delivery()))

        collecting = [
            asyncio.create_task(collect("one", one)),
            asyncio.create_task(collect("other", other)),
        ]
        got: list[tuple[str, int, int]] = []
        while len({name for name, *_ in got}) < 2:
            await publish(bus, 50)
            async with asyncio.timeout(30):
                got += [await came.get() for _ in range(50)]
        assert sorted(position for _, position, _ in got) == list(range(1, len(got) + 1))
        assert {attempt for *_, attempt in got} == {1}
        for task in collecting:
            task.cancel()
        await asyncio.wait(collecting)
        await one.end()
        await other.end()
        found = await info(bus)
        assert (found.floor, found.unacked, found.consumers) == (len(got), 0, 0)


async def test_what_a_killed_process_had_is_delivered_again_after_the_ack_wait(
    hub: HubProcess,
) -> None:
    async with Bus(hub.url) as bus:
        await publish(bus, 3)
        async with consuming_process(hub.url, SOON, "hold") as program:
            assert [await program.delivery() for _ in range(3)] == [(1, 1), (2, 1), (3, 1)]
            await program.kill()
        await hub.until(there_are(1))
        async with log_of(bus).consume(SOON) as consumer:
            got: list[Delivery] = []
            while len(got) < 3:
                got += await consumer.fetch(3)
            assert marks(got) == [(1, 2), (2, 2), (3, 2)]
            assert (await info(bus)).redelivered == 3


async def test_what_a_process_had_that_ends_well_is_delivered_at_once(hub: HubProcess) -> None:
    async with Bus(hub.url) as bus:
        await publish(bus, 3)
        async with consuming_process(hub.url, DURABLE, "hold") as program:
            assert [await program.delivery() for _ in range(3)] == [(1, 1), (2, 1), (3, 1)]
            await program.end()
        async with log_of(bus).consume(DURABLE) as consumer:
            assert marks(await consumer.fetch(3)) == [(1, 1), (2, 1), (3, 1)]


async def test_a_killed_hub_leaves_attempts_and_cursor_to_the_next_one(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as bus:
            await publish(bus, 4)
            async with log_of(bus).consume(SOON) as consumer:
                first = await consumer.fetch(3)
                await consumer.settle(acks(first[:2]))
                hub.kill()
                async with serving_hub("--log", log):
                    got: list[Delivery] = []
                    while len(got) < 2:
                        got += await consumer.fetch(2)
                    assert sorted(marks(got)) == [(3, 2), (4, 1)]
                    await consumer.settle(acks(got))
                    found = await info(bus)
                    assert (found.floor, found.unacked) == (4, 0)


async def test_a_hub_that_ends_well_leaves_what_clients_had_to_them(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as bus:
            await publish(bus, 2)
            async with log_of(bus).consume(DURABLE) as consumer:
                first = await consumer.fetch(1)
                ending = asyncio.create_task(hub.end())
                assert await ending == 0
                async with serving_hub("--log", log):
                    await consumer.settle(acks(first))
                    assert marks(await consumer.fetch(2)) == [(2, 1)]
                    assert (await info(bus)).floor == 1
