"""What `hms-bus bench` measures: this installation on this machine, without its peers.

The figures beside other libraries come from `make bench` (docs/benchmarks.md).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from hms_bus.bus import Bus, Message
from hms_bus.ids import stamp

_IN_FLIGHT = 1000


class Payload(Struct):
    """What is sent: about 128 bytes as JSON."""

    number: int
    text: str = "x" * 100


class Bench(Struct, frozen=True):
    """One row: `measure` does `what` about `count` times and returns how often per second."""

    name: str
    what: str
    measure: Callable[[int], Awaitable[float]]


def benches(folder: Path) -> list[Bench]:
    """Return all rows; logs are made in `folder`."""

    async def one(count: int) -> float:
        return await _publish(count, subscribers=1)

    async def ten(count: int) -> float:
        return await _publish(count, subscribers=10)

    async def append(count: int) -> float:
        return await _append(count, folder)

    async def replay(count: int) -> float:
        return await _replay(count, folder)

    return [
        Bench("publish-1", "publish until handled, 1 subscriber", one),
        Bench("publish-10", "publish until handled, 10 subscribers", ten),
        Bench("request", "request and reply, one at a time", _request),
        Bench("append", "publish to a SQLite log, synced, 1,000 in flight", append),
        Bench("replay", "replay from that log", replay),
    ]


async def _publish(count: int, *, subscribers: int) -> float:
    """Return messages per second, each handled by all subscribers."""
    bus = Bus("direct://")
    left = count * subscribers
    done = asyncio.Event()

    async def handle(payload: Payload) -> None:
        del payload
        nonlocal left
        left -= 1
        if not left:
            done.set()

    for _ in range(subscribers):
        bus.subscribe("bench.topic")(handle)
    payload = Payload(number=1)
    async with bus:
        started = time.perf_counter()
        for _ in range(count):
            await bus.publish("bench.topic", payload)
        await done.wait()
        return count / (time.perf_counter() - started)


async def _request(count: int) -> float:
    """Return requests per second."""
    bus = Bus("direct://")

    @bus.serve("bench.service")
    async def answer(message: Message) -> Payload:
        return message.decode(Payload)

    payload = Payload(number=1)
    async with bus:
        started = time.perf_counter()
        for _ in range(count):
            await bus.request("bench.service", payload, returns=Payload)
        return count / (time.perf_counter() - started)


async def _append(count: int, folder: Path) -> float:
    """Return events per second, each durable."""
    async with Bus("direct://", log=_new_log(folder)) as bus:
        return await _fill(bus, count)


async def _replay(count: int, folder: Path) -> float:
    """Return records per second, each with its payload read."""
    async with Bus("direct://", log=_new_log(folder)) as bus:
        await _fill(bus, count)
        started = time.perf_counter()
        async for message in bus.replay("bench.>"):
            message.decode(Payload)
        return count / (time.perf_counter() - started)


async def _fill(bus: Bus, count: int) -> float:
    payload = Payload(number=1)
    numbers = iter(range(count))

    async def publish() -> None:
        for _ in numbers:
            await bus.publish("bench.topic", payload)

    started = time.perf_counter()
    await asyncio.gather(*(publish() for _ in range(_IN_FLIGHT)))
    return count / (time.perf_counter() - started)


def _new_log(folder: Path) -> str:
    return f"sqlite:{folder}/{stamp()[0]}.db"
