"""The lanes of a durable subscription: none stands idle while there is something for it."""

import asyncio

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
