"""The WAL of a log file stays as small as `checkpoint` says, whatever is committed."""

from pathlib import Path
from typing import cast

import pytest

from hms_bus.abc import ConsumingLog, Durable, Settlement
from hms_bus.plugins import open_log
from tests.support.events import event, events

FRAME_BYTES = 24 + 4096
CHECKPOINT = 64
ALLOWED_BYTES = (CHECKPOINT + 16) * FRAME_BYTES
"""One commit more may stand in it than was counted."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def wal_bytes(path: Path) -> int:
    return path.with_name("events.db-wal").stat().st_size


async def test_of_single_records(path: Path) -> None:
    async with open_log(f"sqlite:{path}?checkpoint={CHECKPOINT}") as log:
        for n in range(200):
            await log.append([event(f"orders.{n % 3}")])
        assert wal_bytes(path) < ALLOWED_BYTES


async def test_of_what_durables_keep(path: Path) -> None:
    async with open_log(f"sqlite:{path}?checkpoint={CHECKPOINT}") as log:
        await log.append(events(100))
        async with cast("ConsumingLog", log).consume(Durable(name="d", pattern=">")) as consumer:
            for _ in range(100):
                [delivery] = await consumer.fetch(1)
                position = delivery.record.position
                done = Settlement(position=position, attempt=delivery.attempt, outcome="ack")
                await consumer.settle([done])
        assert wal_bytes(path) < ALLOWED_BYTES
