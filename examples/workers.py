"""A group of workers shares a queue, and a publisher that is too fast is made to wait.

The workers belong to one group, so that each picture goes to one of them, to an idle one while
there is one. Each queue holds two pictures. When all are full, `publish` waits, so that the
publisher is as fast as its workers and no faster.

Prints:
    published 60 pictures, never more than 7 waiting: True
    each picture handled once: True
    everybody had work: True
"""

import asyncio

from hms_bus import Bus

PICTURES = range(60)

bus = Bus("direct://")
handled: dict[str, list[int]] = {"ann": [], "bob": [], "cy": []}


def hire(name: str) -> None:
    """Add a worker to the group."""

    @bus.subscribe("pictures.new", group="workers", max_queue=2)
    async def make_thumbnail(picture: int) -> None:
        await asyncio.sleep(0.001)
        handled[name].append(picture)


def waiting() -> int:
    """How many pictures wait in the queues of all workers."""
    return sum(worker.queued for worker in bus.stats().subscriptions)


async def main() -> None:
    """Publish pictures faster than they are handled."""
    for name in handled:
        hire(name)
    most = 0
    async with bus:
        for picture in PICTURES:
            room = asyncio.ensure_future(bus.publish("pictures.new", picture))
            await asyncio.sleep(0)  # it is queued now, and may wait for room
            most = max(most, waiting())
            await room
    # Three queues of two, and the one picture whose publisher waits for room.
    print(f"published {len(PICTURES)} pictures, never more than 7 waiting: {most <= 7}")
    once = sorted(picture for pictures in handled.values() for picture in pictures)
    print(f"each picture handled once: {once == list(PICTURES)}")
    print(f"everybody had work: {all(handled.values())}")


if __name__ == "__main__":
    asyncio.run(main())
