"""Requests and streams between a client that shares no code with hms_bus, and agents."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from examples.ipc_client import Client, Event, HubError, new_event, seconds_left, write_time
from tests.support.agent_process import AgentFailed, AgentProcess, running_agent
from tests.support.hub_process import HubProcess


async def add(request: Event) -> int:
    return sum(request["data"])


def in_a_minute() -> str:
    return write_time(time.time() + 60)


class Waiting:
    """A handler that waits for ever, and tells when it begins and when it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Event) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_it_asks_an_agent(agent: AgentProcess, client: Client) -> None:
    assert await client.request("json.add", [3, 4]) == 7
    sums = await asyncio.gather(*(client.request("json.add", [n, n]) for n in range(50)))
    assert sums == [2 * n for n in range(50)]


async def test_an_agent_asks_it(agent: AgentProcess, client: Client, topic: str) -> None:
    await client.serve(topic, add)
    assert await agent.do("request", topic=topic, data=[3, 4]) == 7
    asking = (agent.do("request", topic=topic, data=[n, n]) for n in range(100))
    assert await asyncio.gather(*asking) == [2 * n for n in range(100)]


async def test_it_asks_itself(client: Client, topic: str) -> None:
    await client.serve(topic, add)
    assert await client.request(topic, [3, 4]) == 7


async def test_members_of_a_group_share_the_requests(
    hub: HubProcess, client: Client, topic: str
) -> None:
    served: list[str] = []

    def handler(name: str) -> Callable[[Event], Awaitable[None]]:
        async def handle(request: Event) -> None:
            served.append(name)

        return handle

    async with Client(hub.place.url) as other:
        await client.serve(topic, handler("one"), "workers")
        await other.serve(topic, handler("other"), "workers")
        for _ in range(10):
            await client.request(topic, None)
    assert len(served) == 10
    assert set(served) == {"one", "other"}


async def test_a_request_tells_what_led_to_it(
    agent: AgentProcess, client: Client, topic: str
) -> None:
    """It asks an agent, which asks it, and it asks the agent again."""
    inner: list[Event] = []

    async def ask_again(request: Event) -> int:
        inner.append(request)
        return await client.request("json.add", request["data"], timeout=60, cause=request)

    await client.serve(topic, ask_again)
    first = await client.publish(f"{topic}.before", None)
    assert await client.request("json.relay", topic, timeout=10, cause=first) == 3
    relayed = await agent.heard("json.relay")
    assert relayed["correlationid"] == inner[0]["correlationid"] == first["id"]
    assert (relayed["causationid"], inner[0]["causationid"]) == (first["id"], relayed["id"])
    assert (relayed["hops"], inner[0]["hops"]) == (1, 2)
    assert seconds_left(inner[0]) < 11, "not the 30 s that the agent would wait by itself"


async def test_errors_of_an_agent(agent: AgentProcess, client: Client) -> None:
    with pytest.raises(HubError, match="NOT_FOUND: there is no sofa") as caught:
        await client.request("json.refuse", None)
    assert caught.value.details == {"article": "sofa"}
    assert caught.value.retryable is True
    with pytest.raises(HubError, match="UNKNOWN: LookupError: it fell"):
        await client.request("json.fall", None)
    with pytest.raises(HubError, match="INVALID_ARGUMENT: "):
        await client.request("json.add", "three and four")


async def test_its_errors(agent: AgentProcess, client: Client, topic: str) -> None:
    async def refuse(request: Event) -> None:
        raise HubError("NOT_FOUND", "no sofa", details={"article": "sofa"}, retryable=True)

    async def fall(request: Event) -> None:
        raise LookupError

    async def babble(request: Event) -> object:
        return object()

    for name, handler in (("refuse", refuse), ("fall", fall), ("babble", babble)):
        await client.serve(f"{topic}.{name}", handler)
    with pytest.raises(AgentFailed, match="RemoteError: NOT_FOUND: no sofa") as caught:
        await agent.do("request", topic=f"{topic}.refuse", data=None)
    assert (caught.value.details, caught.value.retryable) == ({"article": "sofa"}, True)
    with pytest.raises(AgentFailed, match=r"UNKNOWN: LookupError$"):
        await agent.do("request", topic=f"{topic}.fall", data=None)
    with pytest.raises(AgentFailed, match="UNKNOWN: TypeError: "):
        await agent.do("request", topic=f"{topic}.babble", data=None)


async def test_nobody_serves(agent: AgentProcess, client: Client, topic: str) -> None:
    """Who only listens is nobody, and hears nothing of it."""
    async with client.subscribe(topic) as events:
        with pytest.raises(HubError, match="UNAVAILABLE: nobody answers"):
            await client.request(topic, 1)
        with pytest.raises(AgentFailed, match="NoRespondersError: UNAVAILABLE"):
            await agent.do("request", topic=topic, data=1)
        await client.publish(topic, 2)
        assert (await anext(events))["data"] == 2


async def test_at_its_deadline_both_sides_give_up(agent: AgentProcess, client: Client) -> None:
    asking = asyncio.create_task(client.request("json.wait", None, timeout=1))
    await agent.noted("waiting")
    with pytest.raises(HubError, match="DEADLINE_EXCEEDED"):
        await asking
    await agent.noted("cancelled")


async def test_at_the_deadline_of_an_agent_both_sides_give_up(
    agent: AgentProcess, client: Client, topic: str
) -> None:
    handler = Waiting()
    await client.serve(topic, handler)
    with pytest.raises(AgentFailed, match="DeadlineExceededError"):
        await agent.do("request", topic=topic, data=None, timeout="1s")
    await handler.cancelled.wait()


async def test_what_it_does_not_want_any_more_is_cancelled(
    agent: AgentProcess, client: Client
) -> None:
    asking = asyncio.create_task(client.request("json.wait", None))
    await agent.noted("waiting")
    asking.cancel()
    await agent.noted("cancelled")


async def test_what_an_agent_does_not_want_any_more_is_cancelled(
    agent: AgentProcess, client: Client, topic: str
) -> None:
    handler = Waiting()
    await client.serve(topic, handler)
    asking = asyncio.create_task(agent.do("request", topic=topic, data=None))
    await handler.begun.wait()
    asking.cancel()
    await handler.cancelled.wait()


async def test_a_request_that_was_cancelled_before_is_not_begun(
    hub: HubProcess, client: Client, topic: str
) -> None:
    begun: list[str] = []

    async def note(request: Event) -> None:
        begun.append(request["data"])

    await client.serve(topic, note)
    async with Client(hub.place.url) as caller:
        request = new_event(caller.source, topic, "cancelled", expirytime=in_a_minute())
        caller.control("cancel", request["id"])
        async with caller.asking(request):
            await caller.request(topic, "wanted")
    assert begun == ["wanted"]


async def test_an_agent_that_dies_ends_its_handler(
    hub: HubProcess, client: Client, topic: str
) -> None:
    """The hub says that nobody is at the reply address any more."""
    handler = Waiting()
    await client.serve(topic, handler)
    with running_agent(hub.url, "json") as agent:
        asking = asyncio.create_task(agent.do("request", topic=topic, data=None))
        await handler.begun.wait()
    await handler.cancelled.wait()
    asking.cancel()


async def test_what_it_has_not_answered_fails_when_it_leaves(
    hub: HubProcess, agent: AgentProcess, topic: str
) -> None:
    handler = Waiting()
    async with Client(hub.place.url) as leaving:
        await leaving.serve(topic, handler)
        asking = asyncio.create_task(agent.do("request", topic=topic, data=None))
        await handler.begun.wait()
    with pytest.raises(AgentFailed, match="UNAVAILABLE: the agent was closed"):
        await asking


# -- streams -----------------------------------------------------------------------------------


async def read_stream(client: Client, topic: str, data: Any, credit: int) -> AsyncGenerator[Any]:
    """Yield the items of a stream, as spec/requests.md says."""
    request = new_event(client.source, topic, data, credit=credit, expirytime=in_a_minute())
    async with client.asking(request) as replies:
        items: dict[int, Any] = {}
        number, end, control = 0, math.inf, "$control"
        try:
            while number < end:
                reply = await anext(replies)
                control = reply.reply_to or control
                sequence = int(reply.get("sequence", "0"))
                if reply["type"] == "hms.bus.end.v1":
                    end = sequence
                else:
                    items[sequence] = reply["data"]
                while number in items:
                    yield items.pop(number)
                    number += 1
                    client.control("credit", request["id"], control, credit=1)
        except GeneratorExit:
            client.control("cancel", request["id"], control)
            raise


async def test_it_reads_a_stream(agent: AgentProcess, client: Client) -> None:
    async with aclosing(read_stream(client, "json.count", 100, credit=4)) as items:
        assert [item async for item in items] == list(range(100))


async def test_a_stream_that_it_leaves_ends(agent: AgentProcess, client: Client) -> None:
    async with aclosing(read_stream(client, "json.count", 10**9, credit=4)) as items:
        assert [await anext(items) for _ in range(10)] == list(range(10))
    await agent.noted("left")


async def test_a_stream_may_fail(agent: AgentProcess, client: Client) -> None:
    async with aclosing(read_stream(client, "json.stumble", None, credit=4)) as items:
        assert await anext(items) == 0
        with pytest.raises(HubError, match="DATA_LOSS: the rest is gone"):
            await anext(items)


async def test_without_credit_there_is_no_stream(agent: AgentProcess, client: Client) -> None:
    with pytest.raises(HubError, match="FAILED_PRECONDITION"):
        await client.request("json.count", 3)


async def test_its_answer_to_who_wants_a_stream_is_one_item(
    agent: AgentProcess, client: Client, topic: str
) -> None:
    await client.serve(topic, add)
    assert await agent.do("stream", topic=topic, data=[3, 4]) == [7]
