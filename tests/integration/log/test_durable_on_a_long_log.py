"""A durable on a long log begins where it stands: what lies elsewhere is not read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hms_bus.abc import ConsumingLog, Delivery, Durable, Settlement
from hms_bus.log.durable.cursor import READ_AHEAD
from hms_bus.log.scan import LARGEST_PAGE
from hms_bus.log.table import SqliteTable
from hms_bus.plugins import open_log
from tests.support.events import event

RECORDS = 200_000
AT_ONCE = 10_000
FEW = READ_AHEAD + 2 * LARGEST_PAGE
"""What is held ready, a page that is fetched before that is full, and one that is under way."""


class Read:
    """How much is read of logs from now on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        read_page = SqliteTable.rows

        def count(table: SqliteTable, *bounds: int, **how: Any) -> Any:
            rows, reached = read_page(table, *bounds, **how)
            self.rows += len(rows)
            return rows, reached

        patch.setattr(SqliteTable, "rows", count)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make the log."""
    url = f"sqlite:{tmp_path_factory.mktemp('long') / 'events.db'}"

    async def fill() -> None:
        one = event("long.log", 1)
        async with open_log(f"{url}?sync=normal") as log:
            for start in range(0, RECORDS, AT_ONCE):
                await log.append([one.replace(id=str(start + n)) for n in range(AT_ONCE)])

    asyncio.run(fill())
    return url


@asynccontextmanager
async def consuming(url: str, durable: Durable) -> AsyncGenerator[tuple[ConsumingLog, Any]]:
    async with open_log(url) as log:
        assert isinstance(log, ConsumingLog)
        async with log.consume(durable) as consumer:
            yield log, consumer


def positions(deliveries: list[Delivery]) -> list[int]:
    return [delivery.record.position for delivery in deliveries]


async def test_at_the_beginning_only_the_beginning_is_read(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Read(monkeypatch)
    async with consuming(url, Durable(name="beginning", pattern="long.*")) as (_, consumer):
        assert positions(await consumer.fetch(1)) == [1]
    assert read.rows <= FEW


async def test_at_the_end_nothing_is_read_but_what_comes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Read(monkeypatch)
    async with consuming(url, Durable(name="end", pattern="long.*", start="end")) as (
        log,
        consumer,
    ):
        [receipt] = await log.append([event("long.log", 2)])
        assert positions(await consumer.fetch(9)) == [receipt.position]
    assert read.rows == 1


async def test_a_durable_goes_on_where_it_stands(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = Durable(name="middle", pattern="long.*", start=RECORDS // 2, max_unacked=5)
    async with consuming(url, middle) as (_, consumer):
        taken = await consumer.fetch(9)
        acks = [
            Settlement(position=position, attempt=1, outcome="ack") for position in positions(taken)
        ]
        await consumer.settle(acks[1:])
    read = Read(monkeypatch)
    async with consuming(url, middle) as (_, consumer):
        got = [await consumer.fetch(1) for _ in range(3)]
        assert [positions(each) for each in got] == [[RECORDS // 2 + n] for n in (0, 5, 6)]
    assert read.rows <= len(taken) + FEW
