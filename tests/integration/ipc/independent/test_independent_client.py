"""Publishing and subscribing of a client that shares no code with hms_bus."""

import ast
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from examples import ipc_client
from examples.ipc_client import Client, HubError, new_event
from tests.support.agent_process import AgentProcess
from tests.support.hub_process import HubProcess

CODECS = ("json", "cbor", "protobuf")


def test_it_needs_nothing_but_the_standard_library() -> None:
    source = Path(ipc_client.__file__).read_text(encoding="utf-8")
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("codec", CODECS)
async def test_an_agent_of_any_codec_hears_it(
    codec: str, agent_of: Callable[[str], AgentProcess], client: Client, topic: str
) -> None:
    agent = agent_of(codec)
    await agent.do("listen", pattern=f"{topic}.>")
    event = await client.publish(f"{topic}.created", {"ü": [1, 2.5, None]}, priority=7)
    assert event["source"] == "/agents/independent"
    assert await agent.heard(f"{topic}.>") == event


async def test_it_hears_an_agent(agent: AgentProcess, client: Client, topic: str) -> None:
    options = {"type": "order", "partitionkey": "k", "priority": 0, "extensions": {"own": "x"}}
    async with client.subscribe(f"{topic}.*.created") as events:
        receipt = await agent.do("publish", topic=f"{topic}.eu.created", data={"n": 1}, **options)
        event = await anext(events)
    assert event["id"] == event["correlationid"] == receipt["id"]
    assert event["topic"] == f"{topic}.eu.created"
    assert event["data"] == {"n": 1}
    shown = {name: event[name] for name in ("type", "partitionkey", "priority", "own")}
    assert shown == {"type": "order", "partitionkey": "k", "priority": 0, "own": "x"}


@pytest.mark.parametrize("codec", ["cbor", "protobuf"])
async def test_what_it_cannot_read_it_leaves_out(
    codec: str, agent_of: Callable[[str], AgentProcess], client: Client, topic: str
) -> None:
    """It is more than the client has room for: what is left out makes room again."""
    async with client.subscribe(topic) as events:
        await agent_of(codec).do("publish_all", topic=topic, count=200)
        await client.publish(topic, "readable")
        assert (await anext(events))["data"] == "readable"


async def test_unknown_attributes_survive(agent: AgentProcess, client: Client, topic: str) -> None:
    """Through an agent that forwards the envelope."""
    extensions: dict[str, Any] = {"text": "ü", "number": -(2**31), "flag": True, "octets": "AP/+"}
    sent = new_event("/far/away", f"{topic}.there", {"n": 2**64 - 1}, **extensions)
    async with client.subscribe(f"{topic}.there") as events:
        await agent.do("forward", envelope=sent)
        assert await anext(events) == {**sent, "hops": 1}


async def test_patterns_select_topics(client: Client, topic: str) -> None:
    selected = {
        "{0}": [""],
        "{0}.*": [".a", ".b"],
        "{0}.>": [".a", ".b", ".a.c", ".b.c"],
        "{0}.*.c": [".a.c", ".b.c"],
        "{0}.{{name}}.c": [".a.c", ".b.c"],
        "*.a.c": [".a.c"],
        "nobody.>": [],
    }
    for pattern, wanted in selected.items():
        async with client.subscribe(pattern.format(topic)) as events:
            for rest in ("", ".a", ".b", ".a.c", ".b.c"):
                await client.publish(topic + rest, None)
            heard = [(await anext(events))["topic"] for _ in wanted]
        assert heard == [topic + rest for rest in wanted], pattern


async def test_a_bad_pattern_is_refused_and_the_connection_lives(client: Client) -> None:
    with pytest.raises(HubError) as caught:
        async with client.subscribe("orders..eu"):
            pass
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.reason == "bad-topic"
    await client.ping()


async def test_of_a_group_one_gets_each(
    hub: HubProcess, agent: AgentProcess, client: Client, topic: str
) -> None:
    got: asyncio.Queue[int] = asyncio.Queue()

    async def take(next_event: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        while True:
            got.put_nowait((await next_event())["data"])

    await agent.do("listen", pattern=topic, group="workers")
    async with (
        Client(hub.place.url) as other,
        client.subscribe(topic, "workers") as mine,
        other.subscribe(topic, "workers") as others,
        asyncio.TaskGroup() as tasks,
    ):
        takers = [
            tasks.create_task(take(lambda: anext(mine))),
            tasks.create_task(take(lambda: anext(others))),
            tasks.create_task(take(lambda: agent.heard(topic))),
        ]
        for n in range(30):
            await client.publish(topic, n)
        taken = [await got.get() for _ in range(30)]
        for taker in takers:
            taker.cancel()
    assert sorted(taken) == list(range(30))


async def test_who_has_the_least_to_do_gets_the_next_one(
    hub: HubProcess, client: Client, topic: str
) -> None:
    async with (
        Client(hub.place.url) as other,
        client.subscribe(topic, "workers") as mine,
        other.subscribe(topic, "workers") as others,
    ):
        for n in (1, 2):
            await client.publish(topic, n)
        assert {(await anext(mine))["data"], (await anext(others))["data"]} == {1, 2}
        third = asyncio.ensure_future(anext(mine))  # which says that the first is finished
        await asyncio.sleep(0)
        await client.ping()
        await client.publish(topic, 3)
        assert (await third)["data"] == 3


async def test_messages_of_one_publisher_come_in_order(
    agent: AgentProcess, client: Client, topic: str
) -> None:
    in_order = list(range(300))
    await agent.do("listen", pattern=topic)
    async with client.subscribe(topic) as events:
        publishing = asyncio.gather(*(client.publish(topic, n) for n in in_order))
        assert [(await anext(events))["data"] for _ in in_order] == in_order
        assert [(await agent.heard(topic))["data"] for _ in in_order] == in_order
        await publishing
        publishing = asyncio.create_task(agent.do("publish_all", topic=topic, count=300))
        assert [(await anext(events))["data"] for _ in in_order] == in_order
        await publishing


async def test_a_publisher_waits_for_a_reader_without_room(client: Client, topic: str) -> None:
    """100 messages for a reader that takes 64 ahead, of which it has finished 29 at first."""

    async def publish_all() -> None:
        for n in range(100):
            await client.publish(topic, n)

    async with client.subscribe(topic) as events:
        publishing = asyncio.create_task(publish_all())
        assert [(await anext(events))["data"] for _ in range(30)] == list(range(30))
        await client.ping()
        assert not publishing.done()
        assert [(await anext(events))["data"] for _ in range(70)] == list(range(30, 100))
        await publishing


async def test_behind_the_end_of_a_subscription_nothing_comes(client: Client, topic: str) -> None:
    async with client.subscribe(topic) as first:
        async with client.subscribe(topic) as second:
            await client.publish(topic, 1)
            assert (await anext(second))["data"] == 1
        await client.publish(topic, 2)
        assert [(await anext(first))["data"] for _ in range(2)] == [1, 2]
