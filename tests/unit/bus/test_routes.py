"""Routes: some topics over another transport."""

from collections.abc import Callable
from typing import Any

import pytest

from hms_bus import Bus, Message
from hms_bus.topics import parse_pattern

pytestmark = pytest.mark.usefixtures("no_task_is_left")


async def test_routes_send_some_topics_elsewhere() -> None:
    bus = Bus("direct://default", routes={"far.>": "direct://far"})
    heard: list[str] = []
    listeners = {"default": Bus("direct://default"), "far": Bus("direct://far")}
    for name, listener in listeners.items():
        listener.subscribe(">")(_noting(name, heard))
        listener.serve("*.ask")(_noting(name, heard))
    async with bus, listeners["default"], listeners["far"]:
        await bus.publish("near.a")
        await bus.publish("far.a")
        assert await bus.request("near.ask") == "default"
        assert await bus.request("far.ask") == "far"
        bus.emit("far.b")
    assert sorted(heard) == sorted(
        [
            *("default near.a", "far far.a", "far far.b"),
            *("default near.ask", "default near.ask", "far far.ask", "far far.ask"),
        ]
    )


def _noting(name: str, heard: list[str]) -> Callable[..., Any]:
    async def take(msg: Message) -> str:
        heard.append(f"{name} {msg.topic}")
        return name

    return take


async def test_the_first_route_that_matches_wins() -> None:
    bus = Bus("direct://", routes={"a.b.>": "direct://one", "a.>": "direct://two"})
    async with bus:
        router = bus._opened().router
        urls = [router.route(topic).link.url for topic in ("a.b.c", "a.c", "b", "$a.b.c")]
    assert urls == ["direct://one", "direct://two", "direct://", "direct://"]


async def test_two_ways_to_one_transport_deliver_once() -> None:
    url = "direct://same"
    bus, got = Bus(url, routes={"a.>": url, "b.>": "direct://"}), list[str]()

    @bus.subscribe(">")
    async def take(msg: Message) -> None:
        got.append(msg.topic)

    @bus.serve("a.ask", group=None)
    async def answer() -> str:
        return "once"

    async with bus:
        for topic in ("a.1", "b.1", "c"):
            await bus.publish(topic)
        assert len(await bus.request_many("a.ask", timeout=0.02)) == 1
    assert got == ["a.1", "b.1", "c", "a.ask"]


async def test_a_pattern_listens_where_its_topics_may_come_from() -> None:
    routes = {"a.>": "direct://one", "b.*": "direct://two"}
    async with Bus("direct://", routes=routes) as bus:
        listening = {
            pattern: [link.url for link in bus._opened().router.listening(parse_pattern(pattern))]
            for pattern in ("a.x", "a.>", "b.x.y", "*.x", ">", "c", "$a.x")
        }
    assert listening == {
        "a.x": ["direct://one"],
        "a.>": ["direct://one"],
        "b.x.y": ["direct://"],
        "*.x": ["direct://one", "direct://two", "direct://"],
        ">": ["direct://one", "direct://two", "direct://"],
        "c": ["direct://"],
        "$a.x": ["direct://"],
    }


async def test_what_is_logged_follows_its_patterns() -> None:
    bus = Bus(log="memory:", logged=["orders.>", "$audit.*"])

    @bus.serve("orders.ask")
    async def answer() -> int:
        return 1

    async with bus:
        for topic in ("orders.a", "quotes.a", "$audit.a", "$other.a"):
            await bus.publish(topic)
        await bus.request("orders.ask")
        topics = [message.topic async for message in bus.replay()]
        system = [message.topic async for message in bus.replay("$audit.>")]
    assert (topics, system) == (["orders.a", "orders.ask"], ["$audit.a"])


async def test_by_default_all_is_logged_but_the_systems_own() -> None:
    bus = Bus(log="memory:")

    @bus.serve("ask")
    async def answer() -> int:
        return 1

    async with bus:
        await bus.publish("a")
        await bus.publish("$system")
        await bus.request("ask")
        assert (await bus.log.head()).position == 3
        replies = [message.topic async for message in bus.replay("$reply.>")]
    assert replies == ["$reply.ask"]
