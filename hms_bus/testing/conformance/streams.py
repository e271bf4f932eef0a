"""Checks: one question, many numbered answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from msgspec import Struct

from hms_bus.errors import (
    BusError,
    DeadlineExceededError,
    NoRespondersError,
    RemoteError,
    StatusError,
)
from hms_bus.testing.conformance.probes import SHORT_S, Gate, Seen, equal, raises, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

T = TypeVar("T")

check = checks_of("transport")


class Line(Struct, frozen=True):
    """An item of a stream."""

    number: int
    text: str


@check("groups", survives={"delay", "duplicate", "reorder"})
async def items_come_in_order_and_end(subject: Subject) -> None:
    """A stream has the items that the handler yields, typed, in order, and then it ends."""
    server = subject.bus()

    @server.serve(subject.topic("lines"))
    async def answer(count: int) -> AsyncIterator[Line]:
        for number in range(count):
            yield Line(number, f"line {number}")

    async with server, subject.publisher() as caller:
        for count in (0, 1, 20):
            asked = caller.request_stream(subject.topic("lines"), count, returns=Line)
            async with asked as items:
                found = await within(_all(items), "the end of the stream")
            equal(found, [Line(n, f"line {n}") for n in range(count)], f"{count} items")


async def _all(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


@check("groups", survives={"delay", "reorder"})
async def a_long_stream_needs_little_credit(subject: Subject) -> None:
    """Credit is granted anew as items are consumed: a stream may be longer than its credit."""
    server = subject.bus()

    @server.serve(subject.topic("numbers"))
    async def answer(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async with server, subject.publisher() as caller:
        for credit in (1, 2, 7):
            asked = caller.request_stream(subject.topic("numbers"), 50, credit=credit)
            async with asked as items:
                found = await within(_all(items), f"50 items with a credit of {credit}")
            equal(found, list(range(50)), f"items with a credit of {credit}")


@check("groups", survives={"delay"})
async def credit_bounds_what_is_under_way(subject: Subject) -> None:
    """The handler is never further ahead of the caller than the credit, and the item it holds."""
    server, yielded = subject.bus(), Seen[int]()

    @server.serve(subject.topic("numbers"))
    async def answer() -> AsyncIterator[int]:
        for number in range(40):
            yielded.add(number)
            yield number

    async with server, subject.publisher() as caller:
        asked = caller.request_stream(subject.topic("numbers"), credit=4, returns=int)
        async with asked as items:
            await yielded.reach(4, "the first items")
            for _ in range(40):
                number = await within(anext(items), "the next item")
                ahead = len(yielded.items) - (number + 1)
                that(ahead <= 4 + 1, f"{ahead} items ahead of the caller")


@check("groups", survives={"delay"})
async def an_error_ends_a_stream_after_its_items(subject: Subject) -> None:
    """The items before an error arrive, then the error does."""
    server = subject.bus()

    @server.serve(subject.topic("numbers"))
    async def answer() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise StatusError("DATA_LOSS", "the rest is gone", details={"after": 2})

    found: list[int] = []
    async with server, subject.publisher() as caller:
        with raises(RemoteError, "a stream whose handler raises") as caught:
            async with caller.request_stream(subject.topic("numbers"), returns=int) as items:
                async for item in items:
                    found.append(item)  # noqa: PERF401 - it must hold what came before the error
    equal(found, [1, 2], "items before the error")
    equal((caught.error.code, caught.error.details), ("DATA_LOSS", {"after": 2}), "error")


@check("groups", survives={"delay"})
async def leaving_a_stream_early_ends_its_handler(subject: Subject) -> None:
    """When the caller leaves, the generator is closed, also while it waits for credit."""
    server, closed = subject.bus(), Seen[str]()

    @server.serve(subject.topic("endless"))
    async def answer(name: str) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.add(name)

    async with server, subject.publisher() as caller:
        for taken in (1, 2, 3):
            name = f"left after {taken}"
            async with caller.request_stream(subject.topic("endless"), name, credit=4) as items:
                for number in range(taken):
                    equal(await within(anext(items), "an item"), number, "item")
            equal((await closed.reach(taken, "generators closed"))[-1], name, "what was closed")


@check("groups", survives={"delay"})
async def a_stream_that_falls_silent_is_given_up(subject: Subject) -> None:
    """When no item comes for `idle_timeout`, the caller gets DeadlineExceededError."""
    server, began, closed = subject.bus(), Seen[int](), asyncio.Event()

    @server.serve(subject.topic("silent"))
    async def answer() -> AsyncIterator[int]:
        began.add(1)
        try:
            yield 1
            await Gate().passing()
        finally:
            closed.set()

    async with server, subject.publisher() as caller:
        for timeout_s in SHORT_S:
            with raises(DeadlineExceededError, "waiting for an item that does not come"):
                asked = caller.request_stream(subject.topic("silent"), idle_timeout=timeout_s)
                async with asked as items:
                    equal(await anext(items), 1, "first item")
                    await anext(items)
            if began.items:
                break
        await within(closed.wait(), "the handler goes on")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_single_answer_is_a_stream_of_one(subject: Subject) -> None:
    """What returns a value can be asked for a stream: it has that one item."""
    server = subject.bus()

    @server.serve(subject.topic("single"))
    async def answer() -> str:
        return "only"

    async with (
        server,
        subject.publisher() as caller,
        caller.request_stream(subject.topic("single"), returns=str) as items,
    ):
        equal(await within(_all(items), "the end of the stream"), ["only"], "items")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_stream_is_no_single_answer(subject: Subject) -> None:
    """Asking for one answer where a stream is served fails with FAILED_PRECONDITION."""
    server = subject.bus()

    @server.serve(subject.topic("numbers"))
    async def answer() -> AsyncIterator[int]:
        yield 1

    async with server, subject.publisher() as caller:
        with raises(RemoteError, "one answer from a stream") as caught:
            await caller.request(subject.topic("numbers"))
    equal(caught.error.code, "FAILED_PRECONDITION", "code")


@check("groups", survives={"delay", "reorder"})
async def streams_do_not_mix(subject: Subject) -> None:
    """Streams that are under way at once each get their own items."""
    server = subject.bus()

    @server.serve(subject.topic("times"))
    async def answer(factor: int) -> AsyncIterator[int]:
        for number in range(20):
            await asyncio.sleep(0)
            yield number * factor

    async with server, subject.publisher() as caller:

        async def ask(factor: int) -> list[int]:
            asked = caller.request_stream(subject.topic("times"), factor, returns=int, credit=3)
            async with asked as items:
                return await _all(items)

        found = await within(asyncio.gather(*map(ask, range(5))), "the streams")
    equal(found, [[n * factor for n in range(20)] for factor in range(5)], "items")


@check("groups", "no-responders")
async def nobody_streaming_is_known_at_once(subject: Subject) -> None:
    """Asking for a stream that nobody serves raises NoRespondersError."""
    async with subject.publisher() as caller:
        with raises(NoRespondersError, "asking nobody for a stream"):
            async with caller.request_stream(subject.topic("nobody"), idle_timeout="1h") as items:
                await within(anext(items), "the error")


@check("groups", survives={"delay"})
async def a_stream_can_be_given_a_deadline(subject: Subject) -> None:
    """`timeout` ends a stream as a whole, however lively it is."""
    server, began, closed = subject.bus(), Seen[int](), asyncio.Event()

    @server.serve(subject.topic("endless"))
    async def answer() -> AsyncIterator[int]:
        began.add(1)
        try:
            while True:
                await asyncio.sleep(0.001)
                yield 1
        finally:
            closed.set()

    async with server, subject.publisher() as caller:
        for timeout_s in SHORT_S:
            with raises(BusError, "an endless stream with a deadline") as caught:
                asked = caller.request_stream(subject.topic("endless"), timeout=timeout_s)
                async with asked as items:
                    await within(_all(items), "the deadline")
            equal(caught.error.code, "DEADLINE_EXCEEDED", "code")
            if began.items:
                break
        await within(closed.wait(), "the handler goes on")
