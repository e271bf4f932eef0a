"""Checks: one question to all agents that serve a topic."""

import asyncio

from hms_bus.errors import RemoteError, StatusError
from hms_bus.testing.conformance.probes import Gate, equal, eventually, raises, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


@check(survives={"delay", "reorder"})
async def all_servers_in_no_group_answer(subject: Subject) -> None:
    """`request_many` returns the answer of each server in no group, and ends at `count`."""
    topic = subject.topic("census")
    one, two = subject.bus(source="/one"), subject.bus(source="/two")
    for bus in (one, two):

        @bus.serve(topic, group=None)
        async def answer(number: int) -> int:
            return number + 1

    async with one, two, subject.publisher() as caller:
        asked = caller.request_many(topic, 1, returns=int, count=2, timeout="1h")
        replies = await within(asked, "two replies")
    equal({reply.source: reply.result() for reply in replies}, {"/one": 2, "/two": 2}, "replies")


@check(survives={"delay", "reorder"})
async def two_servers_on_one_bus_both_answer(subject: Subject) -> None:
    """Two handlers of one bus that serve a topic in no group both answer."""
    topic, server, both_here = subject.topic("census"), subject.bus(), asyncio.Barrier(2)

    @server.serve(topic, group=None)
    async def first() -> str:
        await both_here.wait()
        return "first"

    @server.serve(topic, group=None)
    async def second() -> str:
        await both_here.wait()
        return "second"

    async with server, subject.publisher() as caller:
        asked = caller.request_many(topic, returns=str, count=2, timeout="1h")
        replies = await within(asked, "two replies")
        equal(sorted(str(reply.value) for reply in replies), ["first", "second"], "replies")
        stats = server.stats
        await eventually(lambda: stats().handled == 2, "both handlers ended well")


@check("groups", survives={"delay", "reorder"})
async def one_of_each_group_answers(subject: Subject) -> None:
    """Of the servers in a group one answers."""
    topic, server = subject.topic("census"), subject.bus()
    for group in ("red", "red", "blue"):

        @server.serve(topic, group=group)
        async def answer() -> str:
            return "here"

    async with server, subject.publisher() as caller:
        asked = caller.request_many(topic, count=2, timeout="1h")
        equal(len(await within(asked, "two replies")), 2, "replies")
        late = await caller.request_many(topic, count=3, timeout=0.1)
        that(len(late) <= 2, f"{len(late)} replies from two groups")


@check(survives={"delay", "reorder"})
async def the_deadline_ends_the_wait_for_more(subject: Subject) -> None:
    """At the deadline `request_many` returns what came, and raises nothing."""
    topic, quick, slow, gate = subject.topic("census"), subject.bus(), subject.bus(), Gate()

    @quick.serve(topic, group=None)
    async def answer() -> str:
        return "quick"

    @slow.serve(topic, group=None)
    async def never() -> str:
        await gate.passing()
        return "slow"

    async with quick, slow, subject.publisher() as caller:
        replies = await within(caller.request_many(topic, count=2, timeout=0.2), "the deadline")
    that([reply.value for reply in replies] in ([], ["quick"]), f"the replies are {replies}")


@check(survives={"delay", "reorder"})
async def an_error_is_one_of_the_replies(subject: Subject) -> None:
    """The error of one server is its reply, and keeps no other from being returned."""
    topic, server = subject.topic("census"), subject.bus()

    @server.serve(topic, group=None)
    async def well() -> str:
        return "well"

    @server.serve(topic, group=None)
    async def ill() -> str:
        raise StatusError("UNAVAILABLE", "ill")

    async with server, subject.publisher() as caller:
        asked = caller.request_many(topic, returns=str, count=2, timeout="1h")
        replies = await within(asked, "two replies")
    equal([reply.value for reply in replies if reply.error is None], ["well"], "values")
    [failed] = [reply for reply in replies if reply.error is not None]
    with raises(RemoteError, "the result of the failed reply") as caught:
        failed.result()
    equal(caught.error.code, "UNAVAILABLE", "code")
