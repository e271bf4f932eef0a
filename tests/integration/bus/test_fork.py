"""A process that forks: the child has a bus, ids and addresses of its own."""

import asyncio
import os

from hms_bus import Bus


async def publish_some(url: str) -> list[str]:
    """Open a bus, have a message handled, and return the ids of those that were published."""
    bus, handled = Bus(url), list[str]()

    @bus.subscribe("a")
    async def take(data: str) -> None:
        handled.append(data)

    async with bus:
        receipts = [await bus.publish("a", str(n)) for n in range(100)]
    assert len(handled) == 100
    return [receipt.id for receipt in receipts]


def in_child(url: str) -> list[str]:
    """Fork, run `publish_some` there and return what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writing, "\n".join(asyncio.run(publish_some(url))).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        ids = pipe.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return ids


async def test_a_child_has_ids_and_addresses_of_its_own() -> None:
    async with Bus("direct://forked") as bus:
        before = [(await bus.publish("a")).id for _ in range(10)]
        child = await asyncio.to_thread(in_child, "direct://forked")
        after = [(await bus.publish("a")).id for _ in range(10)]
    ids = [*before, *child, *after]
    assert len(set(ids)) == len(ids) == 120
