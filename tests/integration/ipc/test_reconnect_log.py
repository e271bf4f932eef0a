"""The log of a hub, when the connection ends: nothing that was acknowledged is lost."""

import asyncio
from pathlib import Path

import pytest

from hms_bus import Bus, Selector
from hms_bus.errors import ConnectError, DisconnectedError, LogError
from tests.support.hub_line import line_to
from tests.support.hub_process import running_hub, serving_hub, there_are


async def positions(bus: Bus, count: int) -> list[int]:
    """Return the positions of the first records that a reader of the whole log gets."""
    records = bus.log.read(Selector(limit=count), follow=True)
    return [record.position async for record in records]


async def test_who_follows_the_log_misses_nothing_and_gets_nothing_twice(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with line_to(hub) as line, Bus(hub.url) as publisher, Bus(line.url) as reader:
            following = asyncio.create_task(positions(reader, 500))
            for n in range(500):
                await publisher.publish("a.b", n)
                if n % 100 == 50:
                    line.cut()
            assert await following == list(range(1, 501))


async def test_who_follows_the_log_goes_on_with_the_next_hub(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as publisher, Bus(hub.url) as reader:
            following = asyncio.create_task(positions(reader, 300))
            for n in range(100):
                await publisher.publish("a.b", n)
            hub.kill()
            async with serving_hub("--log", log) as second:
                for n in range(100):
                    await publisher.publish("a.b", n)
                second.kill()
                publishing = asyncio.create_task(publisher.publish("a.b", 0))
                async with serving_hub("--log", log):
                    await publishing
                    for n in range(99):
                        await publisher.publish("a.b", n)
                    assert await following == list(range(1, 301))


async def test_a_bounded_read_goes_on_where_it_was(runtime: Path) -> None:
    with running_hub("--log", "memory:") as hub:
        async with line_to(hub) as line, Bus(hub.url) as publisher, Bus(line.url) as reader:
            await publisher.publish_many([("a.b", n) for n in range(10_000)])
            for selector, expected in (
                (Selector(limit=9000), list(range(1, 9001))),
                (Selector(backwards=True, last=9999, limit=9000), list(range(9999, 999, -1))),
            ):
                got: list[int] = []
                async for record in reader.log.read(selector):
                    got.append(record.position)
                    if len(got) in {1, 3000, 6000}:
                        line.cut()
                assert got == expected


async def test_what_was_acknowledged_is_there_and_the_rest_appears_once(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    count = 2000
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as publisher:
            publishing = [
                asyncio.create_task(publisher.publish("a.b", n, id=f"id-{n}")) for n in range(count)
            ]
            await publishing[0]
            hub.kill()
            acknowledged = [task for task in publishing if task.done()]
            assert len(acknowledged) < count
            async with serving_hub("--log", log):
                receipts = await asyncio.gather(*publishing)
                assert not any(receipt.duplicate for receipt in receipts)
                assert [receipt.position for receipt in receipts] == list(range(1, count + 1))
                records = [record async for record in publisher.log.read(Selector())]
    assert [record.envelope.id for record in records] == [f"id-{n}" for n in range(count)]


async def test_an_append_that_expects_is_tried_again_as_well(runtime: Path) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with line_to(hub) as line, Bus(line.url) as bus:
            for last in range(20):
                publishing = asyncio.create_task(bus.publish("a.b", 1, expect=last or "none"))
                if last % 5 == 0:
                    await asyncio.sleep(0)
                    line.cut()
                receipt = await publishing
                assert (receipt.position, receipt.duplicate) == (last + 1, False)


async def test_what_is_published_without_a_connection_is_appended_when_there_is_one(
    runtime: Path,
) -> None:
    with running_hub("--log", "memory:") as hub:
        async with line_to(hub) as line, Bus(line.url) as bus:
            first = await bus.publish("a.b", 1, id="same")
            line.bar()
            await hub.until(there_are(0))
            publishing = [
                asyncio.create_task(bus.publish("a.b", n, id=name))
                for n, name in enumerate(["new", "same", "last"])
            ]
            await asyncio.sleep(0)
            line.let_in()
            new, same, last = await asyncio.gather(*publishing)
            assert (new.position, new.duplicate) == (2, False)
            assert (same.position, same.duplicate) == (first.position, True)
            assert (last.position, last.duplicate) == (3, False)


async def test_a_log_that_is_gone_ends_those_who_read_it(runtime: Path) -> None:
    with running_hub("--log", "memory:") as hub:
        async with Bus(hub.url) as bus:
            await bus.publish("a.b", 1)
            following = asyncio.create_task(positions(bus, 2))
            await hub.until(lambda figures: figures["log"]["position"] == 1)
            hub.kill()
            async with serving_hub("--log", "memory:") as second:
                with pytest.raises(LogError, match="memory:"):
                    await following
                assert (await bus.publish("a.b", 2)).position == 1
                assert (await bus.log.head()).position == 1
                assert (await second.status())["log"]["position"] == 1


async def test_the_next_hub_opens_the_log_of_the_one_before(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as bus:
            await bus.publish("a.b", 1)
            hub.kill()
            async with serving_hub() as second:
                assert (await bus.publish("a.b", 2)).position == 2
                assert (await second.status())["log"]["url"].endswith("/a.db")


async def test_a_hub_with_another_log_ends_who_has_asked_for_one(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url, log=log) as bus:
            await bus.publish("a.b", 1)
            hub.kill()
            async with serving_hub("--log", f"sqlite:{runtime}/b.db"):
                with pytest.raises((ConnectError, DisconnectedError), match=r"b\.db"):
                    await bus.publish("a.b", 2)
                with pytest.raises(ConnectError, match=r"b\.db"):
                    await bus.publish("a.b", 2)
                with pytest.raises(ConnectError, match=r"b\.db"):
                    await bus.request("a.b", 2)


async def test_who_has_asked_for_no_log_goes_on_with_another_one(runtime: Path) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with Bus(hub.url) as bus:
            await bus.publish("a.b", 1)
            following = asyncio.create_task(positions(bus, 2))
            await hub.until(lambda figures: figures["log"]["position"] == 1)
            hub.kill()
            async with serving_hub("--log", f"sqlite:{runtime}/b.db"):
                with pytest.raises(LogError, match=r"a\.db"):
                    await following
                assert (await bus.publish("a.b", 2)).position == 1
                assert await positions(bus, 1) == [1]


async def test_what_is_published_while_a_hub_ends_is_not_lost(runtime: Path) -> None:
    """With a log, everything that was published is there once, whenever the hub ended."""
    log = f"sqlite:{runtime}/a.db"
    with running_hub("--log", log) as hub:
        async with Bus(hub.url) as publisher:

            async def publish() -> None:
                for n in range(3000):
                    await publisher.publish("a.b", n)

            publishing = asyncio.create_task(publish())
            await hub.until(lambda figures: figures["totals"]["appended"] > 100)
            assert await hub.end() == 0
            async with serving_hub("--log", log):
                await publishing
                records = [record async for record in publisher.log.read(Selector())]
    assert [record.envelope.decode(int) for record in records] == list(range(3000))
