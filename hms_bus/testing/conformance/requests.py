"""Checks: one question, one answer, and all that can happen to it."""

import asyncio
from typing import Any

from msgspec import Struct

from hms_bus.bus import Message
from hms_bus.testing.conformance.probes import (
    Gate,
    Seen,
    equal,
    take,
    that,
    within,
)
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


class Query(Struct, frozen=True):
    """A question."""

    text: str
    limit: int = 10


class Answer(Struct, frozen=True):
    """Its answer."""

    text: str
    score: float


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_request_gets_its_answer(subject: Subject) -> None:
    """A request returns what the handler returned, in the type that the caller names."""
    server = subject.bus()

    @server.serve(subject.topic("quotes.{kind}"))
    async def answer(query: Query, kind: str) -> Answer:
        return Answer(f"{kind}: {query.text} {query.limit}", 0.5)

    async with server, subject.publisher() as caller:
        typed = await caller.request(subject.topic("quotes.get"), Query("a"), returns=Answer)
        equal(typed, Answer("get: a 10", 0.5), "answer")
        query = {"text": "b", "limit": 2}
        plain = await caller.request(subject.topic("quotes.new"), query, returns=dict[str, object])
        equal(plain, {"text": "new: b 2", "score": 0.5}, "answer as builtins")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def answers_may_be_of_every_kind(subject: Subject) -> None:
    """Text, octets, numbers, None and lists come back as they were returned."""
    server = subject.bus()

    @server.serve(subject.topic("echo"))
    async def answer(value: object) -> object:
        return value

    async with server, subject.publisher() as caller:
        values: list[Any] = [None, "", "text", b"", b"\x00\xff", 0, 2**63 - 1, [], {"a": [1]}]
        for value in values:
            found = await caller.request(subject.topic("echo"), value)
            equal(found, value, "answer")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def each_caller_gets_its_own_answer(subject: Subject) -> None:
    """Requests that are under way at once get their own answers, in whatever order they come."""
    server = subject.bus()

    @server.serve(subject.topic("square"))
    async def answer(number: int) -> int:
        for _ in range(number % 5):
            await asyncio.sleep(0)
        return number * number

    async with server, subject.publisher() as one, subject.bus() as other:
        asked = [
            (one, other)[n % 2].request(subject.topic("square"), n, returns=int) for n in range(50)
        ]
        found = await within(asyncio.gather(*asked), "answers")
    equal(found, [n * n for n in range(50)], "answers")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def an_answer_names_its_request(subject: Subject) -> None:
    """A request carries id, reply address and deadline; its handler's messages name it as cause."""
    server = subject.bus()

    @server.serve(subject.topic("ask"))
    async def answer(message: Message) -> str:
        await server.publish(subject.topic("told"), message.reply_to)
        that(message.envelope.expirytime, "the request has no deadline")
        return message.id

    async with (
        server,
        subject.publisher() as caller,
        caller.subscribe(subject.topic("told")) as told,
    ):
        request_id = await caller.request(subject.topic("ask"), returns=str)
        [message] = await take(told, 1)
    equal(message.envelope.causationid, request_id, "causationid of what the handler published")
    that(message.data, "the request has no reply address")


@check("groups", survives={"delay"})
async def members_of_a_service_share_its_requests(subject: Subject) -> None:
    """Each request is handled by one of the agents that serve its topic."""
    topic, seen = subject.topic("work"), Seen[int]()
    buses = [subject.bus(), subject.bus()]
    for bus in buses:

        @bus.serve(topic)
        async def answer(number: int) -> int:
            seen.add(number)
            return number

    async with buses[0], buses[1], subject.publisher() as caller:
        for number in range(10):
            await caller.request(topic, number)
    equal(seen.items, list(range(10)), "requests that were handled")


@check("groups", survives={"delay", "reorder"})
async def an_onlooker_sees_requests(subject: Subject) -> None:
    """Who subscribes to a topic sees its requests, and the answer is the server's all the same."""
    topic, server = subject.topic("ask"), subject.bus()

    @server.serve(topic)
    async def answer(number: int) -> int:
        return number + 1

    async with (
        server,
        subject.bus() as onlooker,
        subject.publisher() as caller,
        onlooker.subscribe(topic) as seen,
    ):
        equal(await caller.request(topic, 1), 2, "answer")
        equal([message.data for message in await take(seen, 1)], [1], "what the onlooker saw")


@check("groups", survives={"delay", "reorder"})
async def an_event_on_a_served_topic_is_handled(subject: Subject) -> None:
    """What is published on a served topic is handled like a request that wants no answer."""
    server, seen = subject.bus(), Seen[int]()

    @server.serve(subject.topic("work"))
    async def answer(number: int) -> int:
        seen.add(number)
        return number

    async with server, subject.publisher() as sender:
        await sender.publish(subject.topic("work"), 1)
        equal(await seen.reach(1), [1], "what was handled")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def requests_are_served_at_once(subject: Subject) -> None:
    """A handler that waits keeps no other request waiting, unless `concurrency` says so."""
    server, gate = subject.bus(), Gate()

    @server.serve(subject.topic("ask"))
    async def answer(number: int) -> int:
        if number == 0:
            await gate.passing()
        return number

    async with server, subject.publisher() as caller:
        slow = asyncio.create_task(caller.request(subject.topic("ask"), 0))
        await gate.entered()
        equal(await caller.request(subject.topic("ask"), 1), 1, "the second answer")
        gate.open()
        equal(await within(slow, "the first answer"), 0, "the first answer")
