"""Checks: what becomes of a request that is not answered as its caller hoped."""

import asyncio

from hms_bus.envelope import Envelope
from hms_bus.errors import (
    DeadlineExceededError,
    DecodeError,
    NoRespondersError,
    RemoteError,
    StatusError,
)
from hms_bus.testing.conformance.probes import (
    SHORT_S,
    Gate,
    Seen,
    equal,
    raises,
    take,
    that,
    within,
)
from hms_bus.testing.conformance.requests import Answer, Query
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


@check("groups", "no-responders")
async def nobody_serving_is_known_at_once(subject: Subject) -> None:
    """A request that nobody serves raises NoRespondersError long before its deadline."""
    topic, server = subject.topic("nobody"), subject.bus()

    @server.serve(topic)
    async def answer() -> str:
        return "here"

    async with subject.publisher() as caller:
        with raises(NoRespondersError, "asking nobody") as caught:
            await within(caller.request(topic, timeout=3600), "the error")
        equal(caught.error.topic, topic, "topic of the error")
        async with server:
            equal(await caller.request(topic), "here", "answer")
        with raises(NoRespondersError, "asking when the server has left"):
            await within(caller.request(topic, timeout=3600), "the error")


@check("groups", "no-servers")
async def a_listener_is_no_server(subject: Subject) -> None:
    """A request on a topic that is only listened to raises NoRespondersError, and is not heard."""
    topic, server = subject.topic("overheard"), subject.bus()

    @server.serve(topic)
    async def answer() -> str:
        return "here"

    async with (
        subject.bus() as listener,
        subject.publisher() as caller,
        listener.subscribe(topic) as messages,
    ):
        with raises(NoRespondersError, "asking who only listens"):
            await within(caller.request(topic, "lost", timeout=3600), "the error")
        async with server:
            equal(await caller.request(topic, "asked"), "here", "answer")
        equal((await take(messages, 1))[0].data, "asked", "what the listener heard first")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_status_reaches_the_caller(subject: Subject) -> None:
    """A StatusError arrives as RemoteError with code, message, details, retryable and source."""
    topic, server = subject.topic("fails"), subject.bus(source=subject.source)

    @server.serve(topic)
    async def answer() -> None:
        details = {"id": 7, "why": ["a", None]}
        raise StatusError("NOT_FOUND", "no order 7 – sorry", details=details, retryable=True)

    async with server, subject.publisher() as caller:
        with raises(RemoteError, "a request whose handler raises") as caught:
            await caller.request(topic)
    error = caught.error
    equal(error.code, "NOT_FOUND", "code")
    equal(error.message, "no order 7 – sorry", "message")
    equal(dict(error.details), {"id": 7, "why": ["a", None]}, "details")
    equal((error.retryable, error.topic), (True, topic), "retryable and topic")
    equal((error.source, error.remote_traceback), (subject.source, None), "source, traceback")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def any_exception_reaches_the_caller_as_unknown(subject: Subject) -> None:
    """Any other exception arrives as UNKNOWN with its class and text, and without a traceback."""
    server = subject.bus()

    @server.serve(subject.topic("fails"))
    async def answer() -> None:
        raise ZeroDivisionError("by zero")

    async with server, subject.publisher() as caller:
        with raises(RemoteError, "a request whose handler raises") as caught:
            await caller.request(subject.topic("fails"))
    error = caught.error
    equal((error.code, error.retryable), ("UNKNOWN", False), "code and retryable")
    that("ZeroDivisionError: by zero" in error.message, f"the message is {error.message!r}")
    equal(error.remote_traceback, None, "traceback")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_traceback_comes_when_the_server_exposes_it(subject: Subject) -> None:
    """With `expose_tracebacks` the caller gets the handler's traceback."""
    server = subject.bus(expose_tracebacks=True)

    @server.serve(subject.topic("fails"))
    async def answer() -> None:
        raise ZeroDivisionError("by zero")

    async with server, subject.publisher() as caller:
        with raises(RemoteError, "a request whose handler raises") as caught:
            await caller.request(subject.topic("fails"))
    trace = caught.error.remote_traceback or ""
    that("in answer" in trace, f"the traceback is {trace!r}")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_request_that_does_not_fit_is_told_to_the_caller(subject: Subject) -> None:
    """A payload that the handler does not take comes back as INVALID_ARGUMENT with its field."""
    topic, server = subject.topic("ask"), subject.bus()

    @server.serve(topic)
    async def answer(query: Query) -> str:
        return query.text

    async with server, subject.publisher() as caller:
        with raises(RemoteError, "a request with a wrong payload") as caught:
            await caller.request(topic, {"text": "a", "limit": "many"}, type="Wrong")
        error = caught.error
        equal(error.code, "INVALID_ARGUMENT", "code")
        equal(error.details.get("field"), "$.limit", "field")
        that(topic in error.message, f"the message does not name the topic: {error.message!r}")
        that("Wrong" in error.message, f"the message does not name the type: {error.message!r}")
        equal(await caller.request(topic, Query("next")), "next", "the next answer")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def an_answer_that_does_not_fit_is_a_decode_error(subject: Subject) -> None:
    """An answer that is not what the caller asked for raises DecodeError with its field."""
    server = subject.bus()

    @server.serve(subject.topic("ask"))
    async def answer() -> dict[str, str]:
        return {"text": "a", "score": "high"}

    async with server, subject.publisher() as caller:
        with raises(DecodeError, "an answer of another type") as caught:
            await caller.request(subject.topic("ask"), returns=Answer)
    equal((caught.error.reason, caught.error.field), ("payload", "$.score"), "reason and field")


@check("groups", survives={"delay", "duplicate"})
async def a_deadline_ends_the_wait_and_the_work(subject: Subject) -> None:
    """Without an answer in time the caller gets DeadlineExceededError, the handler is cancelled."""
    topic, server = subject.topic("slow"), subject.bus()
    began, cancelled = Seen[int](), asyncio.Event()

    @server.serve(topic)
    async def answer() -> None:
        began.add(1)
        try:
            await Gate().passing()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with server, subject.publisher() as caller:
        for timeout_s in SHORT_S:
            with raises(DeadlineExceededError, "a request to a slow handler") as caught:
                await caller.request(topic, timeout=timeout_s)
            error = caught.error
            facts = (error.topic, error.timeout_s, error.code)
            equal(facts, (topic, timeout_s, "DEADLINE_EXCEEDED"), "facts of the error")
            if began.items:
                break
        await within(cancelled.wait(), "the handler was not cancelled")


@check("groups", survives={"delay", "duplicate", "reorder"})
async def a_deadline_shrinks_at_each_hop(subject: Subject) -> None:
    """A request that a handler makes is due no later than the one that it handles."""
    front, back = subject.bus(), subject.bus()

    @back.serve(subject.topic("back"))
    async def inner(envelope: Envelope) -> int | None:
        return envelope.expires_ns

    @front.serve(subject.topic("front"))
    async def outer(envelope: Envelope) -> list[int | None]:
        due = await front.request(subject.topic("back"), returns=int, timeout="2h")
        return [envelope.expires_ns, due]

    async with front, back, subject.publisher() as caller:
        outer_due, inner_due = await caller.request(
            subject.topic("front"), returns=list[int], timeout="1h"
        )
    slack_ns = 50_000_000  # a deadline becomes a monotonic one and back
    that(inner_due <= outer_due + slack_ns, f"due at {inner_due}, after {outer_due}")


@check("groups", survives={"delay", "duplicate"})
async def a_caller_that_leaves_cancels_the_handler(subject: Subject) -> None:
    """When the call is cancelled, the handler is."""
    server, gate, cancelled = subject.bus(), Gate(), asyncio.Event()

    @server.serve(subject.topic("slow"))
    async def answer() -> None:
        try:
            await gate.passing()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with server, subject.publisher() as caller:
        asking = asyncio.create_task(caller.request(subject.topic("slow"), timeout="1h"))
        await gate.entered()
        asking.cancel()
        await within(cancelled.wait(), "the handler was not cancelled")
