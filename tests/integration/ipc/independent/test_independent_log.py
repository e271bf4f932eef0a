"""The log of a hub, for a client that shares no code with hms_bus."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from examples.ipc_client import Client, Event, HubError, Kind, new_event, write_json
from tests.support.agent_process import running_agent
from tests.support.hub_process import HubProcess, running_hub

pytestmark = pytest.mark.parametrize("log", ["memory:independent", "sqlite:{folder}/run.db"])


@pytest.fixture
def keeper(log: str, runtime: Path) -> Iterator[HubProcess]:
    """A hub that keeps a log, empty at the beginning."""
    runtime.mkdir(mode=0o700)
    with running_hub("--log", log.format(folder=runtime)) as hub:
        yield hub


@pytest.fixture
async def writer(keeper: HubProcess) -> AsyncIterator[Client]:
    async with Client(keeper.place.url, name="writer") as client:
        yield client


def numbered(client: Client, numbers: range, topic: str = "kept.a") -> list[Any]:
    return [new_event(client.source, topic, n) for n in numbers]


async def read_all(client: Client, **selector: Any) -> list[tuple[int, Any]]:
    async with aclosing(client.read(**selector)) as records:
        return [(position, event["data"]) async for position, _, event in records]


async def test_the_welcome_tells_of_the_log(keeper: HubProcess, log: str, writer: Client) -> None:
    kept = writer.welcome["log"]
    assert kept["url"].partition(":")[0] == log.partition(":")[0]
    assert "log-expect" in kept["capabilities"]
    head = await writer.call(Kind.ASK, write_json({"op": "head"}))
    assert (head["position"], head["hash"]) == (0, "00" * 32)
    await writer.append(*numbered(writer, range(2)))
    head = await writer.call(Kind.ASK, write_json({"op": "head"}))
    assert head["position"] == 2
    async with Client(keeper.place.url) as later:
        assert later.welcome["log"]["identity"]


async def test_what_is_appended_is_delivered_and_can_be_read(writer: Client) -> None:
    events = numbered(writer, range(3))
    async with writer.subscribe("kept.>") as heard:
        assert await writer.append(*events) == [(1, False), (2, False), (3, False)]
        assert [await anext(heard) for _ in events] == events
    async with aclosing(writer.read()) as records:
        read = [record async for record in records]
    assert [(position, event) for position, _, event in read] == [*enumerate(events, 1)]
    times = [recorded_ns for _, recorded_ns, _ in read]
    assert times == sorted(times)


async def test_a_duplicate_is_neither_appended_nor_delivered(writer: Client) -> None:
    first, second = numbered(writer, range(2))
    async with writer.subscribe("kept.>") as heard:
        assert await writer.append(first) == [(1, False)]
        assert await writer.append(first, second, first) == [(1, True), (2, False), (1, True)]
        assert [(await anext(heard))["data"] for _ in range(2)] == [0, 1]
        await writer.publish("kept.end", "end")
        assert (await anext(heard))["data"] == "end"


async def test_expect_is_the_last_position_on_the_topic(writer: Client) -> None:
    one, two, three, four = numbered(writer, range(4))
    other = new_event(writer.source, "kept.b", None)
    assert await writer.append(one, expect=0) == [(1, False)]
    assert await writer.append(other, expect=0) == [(2, False)]
    with pytest.raises(HubError, match="ABORTED") as caught:
        await writer.append(two, expect=0)
    assert caught.value.reason == "conflict"
    details = caught.value.details
    assert details == {"topic": "kept.a", "expected": 0, "actual": 1}
    with pytest.raises(HubError, match="ABORTED"):
        await writer.append(two, three, expect=7)
    assert await writer.append(two, three, expect=1) == [(3, False), (4, False)]
    assert await writer.append(four, expect=4) == [(5, False)]
    assert [data for _, data in await read_all(writer, pattern="kept.a")] == [0, 1, 2, 3]


async def test_all_are_appended_or_none(writer: Client) -> None:
    good = numbered(writer, range(2))
    bad = Event(new_event(writer.source, "kept.a", None), topic="kept..a")
    with pytest.raises(HubError, match="INVALID_ARGUMENT"):
        await writer.append(*good, bad)
    assert await read_all(writer) == []


async def test_what_is_read_is_selected(writer: Client) -> None:
    await writer.append(*numbered(writer, range(10)), *numbered(writer, range(10, 15), "kept.b"))
    marked = new_event("/somebody/else", "kept.a", 15, type="mark", correlationid="talk")
    await writer.append(marked)
    assert await read_all(writer, first=3, last=5) == [(3, 2), (4, 3), (5, 4)]
    assert await read_all(writer, pattern="*.b", limit=2) == [(11, 10), (12, 11)]
    assert await read_all(writer, backwards=True, limit=2) == [(16, 15), (15, 14)]
    for selector in ({"types": ["mark"]}, {"correlation": "talk"}, {"source": "/somebody/else"}):
        assert await read_all(writer, **selector) == [(16, 15)], selector
    assert await read_all(writer, pattern="nothing.>") == []


async def test_credit_bounds_what_is_under_way(writer: Client) -> None:
    """Each record that was taken allows another one."""
    await writer.append(*numbered(writer, range(100)))
    assert len(await read_all(writer, credit=1)) == 100
    assert len(await read_all(writer)) == 100


async def test_who_follows_reads_what_is_appended_later(keeper: HubProcess, writer: Client) -> None:
    await writer.append(*numbered(writer, range(3)))
    async with Client(keeper.place.url) as follower:
        async with aclosing(follower.read(pattern="kept.>", follow=True)) as records:
            assert [(await anext(records))[0] for _ in range(3)] == [1, 2, 3]
            later = asyncio.ensure_future(anext(records))
            await follower.ping()
            assert not later.done()
            await writer.append(*numbered(writer, range(3, 6)))
            assert (await later)[0] == 4
            assert [(await anext(records))[0] for _ in range(2)] == [5, 6]
        assert [position for position, _ in await read_all(follower)] == [1, 2, 3, 4, 5, 6]


async def test_agents_keep_and_replay_the_same_log(
    keeper: HubProcess, log: str, runtime: Path, writer: Client
) -> None:
    """An agent hears and replays what the client appends, and the client what the agent keeps."""
    url = log.format(folder=runtime)
    with running_agent(keeper.url, "json", url) as agent:
        await agent.do("listen", pattern="kept.>")
        appended = new_event(writer.source, "kept.a", {"from": "the client"})
        await writer.append(appended)
        assert await agent.heard("kept.>") == appended
        async with writer.subscribe("kept.>") as heard:
            receipt = await agent.do("publish", topic="kept.b", data={"from": "the agent"})
            event = await anext(heard)
        assert (receipt["id"], receipt["position"]) == (event["id"], 2)
        assert await agent.do("replay", pattern="kept.>") == [[1, appended], [2, event]]
        assert await read_all(writer) == [(1, appended["data"]), (2, event["data"])]


async def test_an_agent_of_another_codec_keeps_what_it_can_read(
    keeper: HubProcess, log: str, runtime: Path, writer: Client
) -> None:
    """A READ comes in the codec of the reader, whatever the envelope was appended in."""
    with running_agent(keeper.url, "cbor", log.format(folder=runtime)) as agent:
        await agent.do("publish", topic="kept.a", data={"ü": [1, None]}, priority=9)
        async with aclosing(writer.read(pattern="kept.>")) as records:
            [(position, _, event)] = [record async for record in records]
    assert (position, event["priority"], event["data"]) == (1, 9, {"ü": [1, None]})
