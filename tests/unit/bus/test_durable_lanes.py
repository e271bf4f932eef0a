"""The lanes of a durable subscription: busy while there is something, and they end with it."""

import asyncio
from contextlib import suppress

from hms_bus import Bus

PATIENCE_S = 20


async def test_slow_messages_leave_the_other_lanes_their_work() -> None:
    gate, through, stuck = asyncio.Event(), asyncio.Event(), asyncio.Event()
    slow, quick = 5, 30
    bus = Bus("direct://", log="memory:")
    handled: list[int] = []
    waiting: list[int] = []

    @bus.subscribe("orders", durable="d", concurrency=slow + 1)
    async def handle(number: int) -> None:
        if number < slow:
            waiting.append(number)
            if len(waiting) == slow:
                stuck.set()
            await gate.wait()
        else:
            # So slow that no more is fetched ahead than the lanes can begin with.
            await stuck.wait()
        handled.append(number)
        if len(handled) == quick:
            through.set()

    async with bus, asyncio.timeout(PATIENCE_S):
        for number in range(slow + quick):
            await bus.publish("orders", number)
        await through.wait()
        assert handled == list(range(slow, slow + quick))
        gate.set()


async def test_who_hangs_fetches_nothing_that_it_cannot_begin() -> None:
    stuck, seen = asyncio.Event(), asyncio.Event()
    first, later = 20, 30
    bus = Bus("direct://", log="memory:", drain_timeout_s=0.01)

    @bus.subscribe("orders", durable="hanging", ack_wait=0.1, max_deliveries=None)
    async def hang(number: int) -> None:
        if number == first:
            stuck.set()
            await asyncio.Event().wait()

    @bus.subscribe("orders", durable="witness")
    async def see(number: int) -> None:
        if number == later:
            seen.set()

    def queued() -> int:
        return next(each.queued for each in bus.stats().subscriptions if "hang" in each.handler)

    async with asyncio.timeout(PATIENCE_S), bus:
        await bus.publish_many([("orders", number) for number in range(later)])
        await stuck.wait()
        calm = 0
        while calm < 3:  # a fetch that was under way still brings something
            later += 1
            seen.clear()
            await bus.publish("orders", later)
            await seen.wait()
            calm = 0 if queued() else calm + 1


async def test_a_handler_that_heeds_no_cancellation_ends_with_its_bus() -> None:
    stuck, handled = asyncio.Event(), list[int]()
    bus = Bus("direct://", log="memory:", drain_timeout_s=0.01)

    @bus.subscribe("orders", durable="d")
    async def handle(number: int) -> None:
        stuck.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        handled.append(number)

    async with asyncio.timeout(PATIENCE_S), bus:
        await bus.publish_many([("orders", 1), ("orders", 2)])
        await stuck.wait()
    assert handled == [1]
