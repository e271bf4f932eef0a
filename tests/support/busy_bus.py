"""A bus that is used in all ways at once, whatever its hub makes of it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from hms_bus import Bus, Message
from hms_bus.errors import BusError
from hms_bus.ipc.places import Place
from tests.support.false_hub import false_hub
from tests.support.hub_process import PATIENCE_S, running_hub


def busy_bus(url: str) -> Bus:
    """Return a bus that listens in all ways, and serves."""
    bus = Bus(f"{url}?spawn=false&timeout=60s", max_queue=5)

    @bus.subscribe("fuzz.>")
    async def block(msg: Message) -> None: ...

    @bus.subscribe("fuzz.>", overflow="error")
    async def refuse(msg: Message) -> None: ...

    @bus.subscribe("fuzz.*", overflow="drop_oldest", group="g")
    async def drop(msg: Message) -> None: ...

    @bus.serve("square.get")
    async def square(n: int) -> int:
        return n * n

    return bus


async def publish(bus: Bus) -> None:
    await bus.publish("fuzz.a", 1)


async def ask(bus: Bus) -> None:
    await bus.request("square.get", 3, returns=int, timeout=0.1)


async def ask_for_stream(bus: Bus) -> None:
    async with bus.request_stream("square.get", 3, timeout=0.1) as items:
        async for _ in items:
            pass


async def listen(bus: Bus) -> None:
    async with bus.subscribe("fuzz.>") as messages:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                async for _ in messages:
                    pass


async def replay(bus: Bus) -> None:
    async for _ in bus.replay("fuzz.>", limit=5):
        pass


async def use(bus: Bus) -> None:
    """Use a bus in all ways, whatever comes of it, until the task is cancelled."""

    async def again_and_again(deed: Callable[[Bus], Coroutine[Any, Any, None]]) -> None:
        while True:
            with suppress(BusError):
                await deed(bus)
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        for deed in (publish, ask, ask_for_stream, listen, replay):
            group.create_task(again_and_again(deed))


async def outlive_nonsense(place: Place, seed: int, connections: int, log: str | None) -> None:
    """Use a bus whose hub talks nonsense for so many connections, until there is a real one.

    Raises `AssertionError`, or `TimeoutError` if the bus does not come to work then.
    """
    is_sane = asyncio.Event()
    living = asyncio.create_task(_live(busy_bus(place.url), is_sane))
    async with false_hub(place.socket, seed, log) as hub:
        await hub.has_had(connections)
        await hub.sober_up()
    with running_hub(*(() if log is None else ("--log", log)), url=place.url):
        is_sane.set()
        async with asyncio.timeout(PATIENCE_S):
            assert await living == 144


async def _live(bus: Bus, is_sane: asyncio.Event) -> int:
    """Open a bus and use it until there is a hub at last; then ask it something."""
    while True:
        with suppress(BusError):  # opening it may fail before
            async with bus:
                using = asyncio.create_task(use(bus))
                await is_sane.wait()
                using.cancel()
                await asyncio.wait([using])
                while True:
                    with suppress(BusError):
                        return await bus.request("square.get", 12, returns=int, timeout=1)
