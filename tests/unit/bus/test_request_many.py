"""Asking many agents at once."""

import asyncio
from typing import Any

import pytest

from hms_bus import Bus, Envelope, Message, RemoteError, StatusError
from hms_bus.errors import (
    DecodeError,
    EncodeError,
    UsageError,
)
from tests.support.asking import Answer, Query, serving_bus
from tests.support.turns import turns


def chorus(count: int) -> Bus:
    """A bus on which `count` agents answer each request with their number."""
    bus = Bus()

    def serve(number: int) -> None:
        @bus.serve("who", group=None)
        async def who() -> int:
            await turns(number)
            if number == 2:
                raise StatusError("NOT_FOUND", "not me")
            return number

    for number in range(count):
        serve(number)
    return bus


async def test_all_answer_and_errors_are_answers() -> None:
    async with chorus(4) as bus:
        replies = await bus.request_many("who", count=4)
        [stats, *_] = bus.stats().subscriptions
    assert [reply.value for reply in replies] == [0, 1, None, 3]
    error = replies[2].error
    assert isinstance(error, RemoteError)
    assert error.code == "NOT_FOUND"
    assert replies[0].result() == 0
    with pytest.raises(RemoteError):
        replies[2].result()
    assert {reply.source for reply in replies} == {bus.source}
    assert stats.failed == 0


async def test_the_deadline_ends_the_collection_without_an_error() -> None:
    async with chorus(3) as bus:
        replies = await bus.request_many("who", timeout=0.05)
        assert len(replies) == 3
        assert await bus.request_many("who", timeout=0) == []


async def test_a_count_ends_the_collection() -> None:
    async with chorus(4) as bus:
        assert len(await bus.request_many("who", count=2)) == 2
        assert await bus.request_many("who", count=0) == []


async def test_one_of_each_group_answers() -> None:
    bus = Bus()

    def serve(group: str | None, name: str) -> None:
        @bus.serve("who", group=group)
        async def who() -> str:
            return name

    for group, name in [("a", "a1"), ("a", "a2"), ("b", "b1"), (None, "none")]:
        serve(group, name)
    async with bus:
        replies = await bus.request_many("who", timeout=0.05)
    names = [reply.value for reply in replies]
    assert sorted(name[0] for name in names if name) == ["a", "b", "n"]


async def test_one_wrong_answer_does_not_spoil_the_others() -> None:
    bus = Bus()

    @bus.serve("who", group=None)
    async def number() -> int:
        return 1

    @bus.serve("who", group=None)
    async def text() -> str:
        return "one"

    async with bus:
        replies = await bus.request_many("who", returns=int, count=2)
    assert sorted(str(reply.value) for reply in replies) == ["1", "None"]
    [error] = [reply.error for reply in replies if reply.error]
    assert isinstance(error, DecodeError)


async def test_cancelling_reaches_every_agent_that_is_asked() -> None:
    bus, began, ended = Bus(), list[int](), list[int]()

    def serve(number: int) -> None:
        @bus.serve("slow", group=None)
        async def slow() -> None:
            began.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

    for number in range(3):
        serve(number)
    async with bus:
        asking = asyncio.ensure_future(bus.request_many("slow"))
        await turns()
        assert began == [0, 1, 2]
        asking.cancel()
        await turns()
        assert ended == [0, 1, 2]


async def test_a_request_that_is_repeated_is_served_once_at_a_time() -> None:
    bus, gate, calls = Bus(), asyncio.Event(), list[str]()

    @bus.serve("slow")
    async def slow(msg: Message) -> str:
        calls.append(msg.id)
        await gate.wait()
        return msg.id

    async with bus:
        [link] = bus._opened().links
        asking = asyncio.ensure_future(bus.request("slow", id="once"))
        await turns()
        again = Envelope(id="once", source=bus.source, type="slow", topic="slow")
        link.transport.publish(again, reply_to=link.inbox.address)
        await turns()
        gate.set()
        assert await asking == "once"
        await turns()
        assert link.inbox.late == 0
    assert calls == ["once"]


@pytest.mark.parametrize("way", ["request", "request_many", "request_stream"])
async def test_an_id_that_waits_for_its_answer_is_refused_to_another_request(way: str) -> None:
    bus, gate = Bus(), asyncio.Event()

    @bus.serve("echo")
    async def echo(n: int) -> int:
        await gate.wait()
        return n

    async def ask_again() -> Any:
        if way == "request_stream":
            async with bus.request_stream("echo", 2, id="same") as items:
                return [item async for item in items]
        return await getattr(bus, way)("echo", 2, id="same")

    async with bus:
        first = asyncio.ensure_future(bus.request("echo", 1, id="same"))
        await turns()
        with pytest.raises(UsageError, match="'same' is waiting for its answer"):
            await ask_again()
        gate.set()
        assert await first == 1
        assert await bus.request("echo", 3, id="same") == 3


@pytest.mark.parametrize(
    ("name", "value"), [("ttl", 60), ("expirytime", "2100-01-01T00:00:00Z"), ("ttl", 0)]
)
async def test_a_request_has_a_timeout_and_no_other_expiry(name: str, value: Any) -> None:
    option: dict[str, Any] = {name: value}
    async with serving_bus() as bus:
        for ask in (
            lambda: bus.request("double", Query(1), **option),
            lambda: bus.request_many("double", Query(1), count=1, **option),
            lambda: bus.request_stream("double", Query(1), **option).__aenter__(),
        ):
            with pytest.raises(EncodeError, match="use timeout=") as caught:
                await ask()
            assert caught.value.field == name
        assert await bus.request("double", Query(1), ttl=None, returns=Answer) == Answer(2)  # pyright: ignore[reportArgumentType]
