"""A log with a durable that has settled, unsettled and dead records, for tests of what shows it.

Positions 1 to 6 are orders. The durable `billing` has settled 1; 2 is dead (its letter is 7), 3 as
well after two tries (its letter is 8), 4 is unsettled, 5 and 6 were not delivered.
"""

import asyncio
from pathlib import Path
from typing import Any

from hms_bus import Bus, new_envelope
from hms_bus.abc import Consumer, ConsumingLog, Delivery, Durable, Outcome, Settlement
from hms_bus.plugins import open_log

BILLING = Durable(name="billing", pattern="orders.>", group="till", max_deliveries=2, max_unacked=9)
REASON = "no such\naccount\x1b[2J"


def record_dead(path: Path) -> Path:
    """Make the log at `path`."""

    async def make() -> None:
        async with open_log(f"sqlite:{path}") as log:
            await fill(consuming(log))

    asyncio.run(make())
    return path


def record_dead_at(url: str) -> None:
    """Make the same behind the bus at `url`, which has a log."""

    async def make() -> None:
        async with Bus(url) as bus:
            await fill(consuming(bus.log))

    asyncio.run(make())


async def fill(log: ConsumingLog) -> None:
    """Append the orders, and consume what is said above."""
    for number in range(1, 7):
        order = {"id": number, "lines": ["tea"]}
        await log.append([new_envelope("orders.eu", order, source="/shop", type="Order")])
    async with log.consume(BILLING) as consumer:
        settled, refused, failed, _ = await consumer.fetch(4)
        await settle(consumer, settled, "ack")
        await settle(consumer, refused, "term", code="INVALID_ARGUMENT", reason=REASON)
        await settle(consumer, failed, "nak")
        [again] = await consumer.fetch(1)
        await settle(consumer, again, "nak", code="UNAVAILABLE", reason="the bank is closed")
        consumer.abandon()


async def settle(consumer: Consumer, delivery: Delivery, outcome: Outcome, **how: Any) -> None:
    """Say what became of one delivery."""
    position, attempt = delivery.record.position, delivery.attempt
    await consumer.settle([Settlement(position=position, attempt=attempt, outcome=outcome, **how)])


def consuming(log: object) -> ConsumingLog:
    """Return `log`, which keeps durables."""
    assert isinstance(log, ConsumingLog)
    return log
