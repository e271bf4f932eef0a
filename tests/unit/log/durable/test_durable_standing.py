"""How a durable is told to stand: by who consumes it, by others, and by readers of its file."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from hms_bus import new_envelope
from hms_bus.abc import ConsumingLog, Durable, DurableInfo
from hms_bus.errors import LogReadOnlyError, UsageError
from hms_bus.plugins import open_log
from tests.support.dead_letters import BILLING, consuming, fill, settle


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[ConsumingLog]:
    async with open_log(url) as log:
        yield consuming(log)


async def standing(log: ConsumingLog) -> DurableInfo:
    [info] = await log.durables()
    return info


@pytest.fixture(params=["memory:standing", "sqlite:{folder}/run.db"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.param.format(folder=tmp_path)


FILLED = DurableInfo(
    durable=BILLING,
    floor=3,
    delivered=4,
    unacked=1,
    redelivered=0,
    lag=2,
    consumers=0,
    dead=(2, 3),
)


async def test_what_was_left_unsettled_is_told_by_a_log_that_nobody_consumes(url: str) -> None:
    async with opened(url) as log:
        await fill(log)
        assert await standing(log) == FILLED


async def test_what_is_dead_is_told_while_it_is_consumed(url: str) -> None:
    async with opened(url) as log:
        await fill(log)
        async with log.consume(BILLING):
            assert await standing(log) == replace(FILLED, consumers=1)
            await log.redrive("billing", [3])
            assert (await standing(log)).dead == (2,)
        with pytest.raises(UsageError, match="position 3 is no dead letter"):
            await log.redrive("billing", [3])
        await log.redrive("billing", [2])
        assert (await standing(log)).dead == ()


async def test_a_file_that_is_read_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    file = f"sqlite:{tmp_path}/run.db"
    async with opened(file) as log:
        await fill(log)
        async with opened(f"{file}?readonly=true") as reading:
            assert await standing(reading) == FILLED
    async with opened(f"{file}?readonly=true") as reading:
        assert await standing(reading) == FILLED
        with pytest.raises(LogReadOnlyError):
            await reading.forget("billing")
        with pytest.raises(LogReadOnlyError):
            await reading.redrive("billing", [2])
        assert await standing(reading) == FILLED


async def test_deliveries_out_of_order_are_counted_by_a_reader(tmp_path: Path) -> None:
    file = f"sqlite:{tmp_path}/run.db"
    async with opened(file) as log:
        for number in range(20):
            topic = "a" if number % 2 else "b"
            await log.append([new_envelope(topic, number, source="/x")])
        async with log.consume(Durable(name="d", pattern="a")) as consumer:
            deliveries = await consumer.fetch(8)
            for delivery in (deliveries[0], deliveries[3], deliveries[7]):
                await settle(consumer, delivery, "ack")
            own = await standing(log)
            assert (own.floor, own.unacked) == (2, 5)
            async with opened(f"{file}?readonly=true") as reading:
                assert await standing(reading) == replace(own, consumers=0)
            await asyncio.gather(*(settle(consumer, one, "ack") for one in deliveries))
            assert (await standing(log)).unacked == 0
