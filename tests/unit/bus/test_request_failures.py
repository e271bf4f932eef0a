"""Asking: what becomes of what a handler raises."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hms_bus import Bus, Envelope, RemoteError, ReplyStream, StatusError
from hms_bus.errors import (
    DecodeError,
    HopLimitError,
    NoRespondersError,
)
from tests.support.asking import Query, serving_bus
from tests.support.turns import turns

URLS = ["direct://", "direct://?codec=json"]


@pytest.mark.parametrize("url", URLS)
async def test_any_exception_is_an_unknown_error_without_its_traceback(url: str) -> None:
    async with serving_bus(url=url, source="/agents/bank") as bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail")
    error = caught.value
    assert (error.code, error.message) == ("UNKNOWN", "ValueError: no luck")
    assert (error.topic, error.source) == ("fail", "/agents/bank")
    assert (error.retryable, error.details, error.remote_traceback) == (False, {}, None)


async def test_the_traceback_goes_along_when_it_is_asked_for() -> None:
    async with serving_bus(expose_tracebacks=True) as bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail")
    assert 'raise ValueError("no luck")' in (caught.value.remote_traceback or "")


class Unprintable(Exception):  # noqa: N818 - it is nothing but trouble
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    ("raised", "code", "message", "retryable", "details"),
    [
        (StatusError("NOT_FOUND", "no such"), "NOT_FOUND", "no such", False, {}),
        (
            StatusError("ABORTED", "again", details={"id": 5}, retryable=False),
            "ABORTED",
            "again",
            False,
            {"id": 5},
        ),
        (
            StatusError("NOT_FOUND", "why", details={"odd": object}),
            "NOT_FOUND",
            "why",
            False,
            {"repr": "{'odd': <class 'object'>}"},
        ),
        (
            DecodeError("no int", reason="payload", field="$.n"),
            "INVALID_ARGUMENT",
            "no int (field $.n)",
            False,
            {"field": "$.n"},
        ),
        (
            HopLimitError(topic="x", hops=5, limit=4),
            "ABORTED",
            str(HopLimitError(topic="x", hops=5, limit=4)),
            False,
            {},
        ),
        (
            NoRespondersError("x"),
            "UNAVAILABLE",
            str(NoRespondersError("x")),
            True,
            {},
        ),
        (KeyError(), "UNKNOWN", "KeyError", False, {}),
        (Unprintable(), "UNKNOWN", "Unprintable", False, {}),
        (
            asyncio.CancelledError(),
            "CANCELLED",
            "the handler awaited something that was cancelled",
            False,
            {},
        ),
    ],
)
async def test_an_error_crosses_with_its_status(
    url: str,
    raised: BaseException,
    code: str,
    message: str,
    details: dict[str, Any],
    *,
    retryable: bool,
) -> None:
    bus = Bus(url)

    @bus.serve("fail")
    async def fail() -> None:
        raise raised

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("fail", timeout=30)
        assert (await bus.request_many("fail", count=1))[0].error is not None
    error = caught.value
    assert (error.code, error.message, error.retryable) == (code, message, retryable)
    assert error.details == details


async def test_an_error_passes_through_an_agent_that_asks_another() -> None:
    bus = serving_bus()

    @bus.serve("ask")
    async def ask() -> None:
        await bus.request("inner")

    @bus.serve("inner")
    async def inner() -> None:
        raise StatusError("NOT_FOUND", "no such", details={"id": 5})

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("ask")
    assert (caught.value.code, caught.value.details) == ("NOT_FOUND", {"id": 5})


async def test_a_payload_that_does_not_fit_goes_back_to_the_caller_and_to_the_hook() -> None:
    bus, seen = serving_bus(), list[BaseException]()
    bus.on_error(lambda error, _: seen.append(error))
    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("double", {"n": "many"})
        await turns()
    assert (caught.value.code, caught.value.details) == ("INVALID_ARGUMENT", {"field": "$.n"})
    [error] = seen
    assert isinstance(error, DecodeError)
    assert error.topic == "double"


async def test_a_value_that_has_no_form_is_an_error_of_the_agent() -> None:
    bus = Bus("direct://?codec=json")

    @bus.serve("odd")
    async def odd() -> object:
        return object()

    async with bus:
        with pytest.raises(RemoteError) as caught:
            await bus.request("odd", timeout=30)
    assert caught.value.code == "INTERNAL"
    assert "is no payload" in caught.value.message


async def test_an_error_that_cannot_be_read_is_unknown() -> None:
    async with serving_bus() as bus:

        def garble(envelope: Envelope) -> Envelope:
            return envelope.replace(data=[1, 2]) if envelope.topic == "$reply.fail" else envelope

        with _rewriting(bus, garble), pytest.raises(RemoteError, match="could not be read"):
            await bus.request("fail")


@pytest.mark.parametrize("middleware", [False, True])
async def test_a_transport_that_learns_later_that_sending_failed_is_heard(
    *, middleware: bool
) -> None:
    bus = serving_bus()
    if middleware:
        bus.publish_middleware(lambda publish: publish)
    async with bus:
        [link] = bus._opened().links

        async def fail_later(envelope: Envelope, **_: Any) -> None:
            await turns()
            raise NoRespondersError(envelope.topic)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link.transport, "publish", fail_later)
            with pytest.raises(NoRespondersError):
                await bus.request("double", Query(1), timeout=3600)
            with pytest.raises(NoRespondersError):
                await bus.request_many("double", Query(1), timeout=3600)
            with pytest.raises(NoRespondersError):
                await _first_of(bus.request_stream("double", Query(1), idle_timeout=3600))
            bus._opened().routes.clear()
        await turns(20)


async def _first_of(stream: ReplyStream[Any]) -> Any:
    async with stream as items:
        return await anext(items)


async def test_an_answer_may_come_before_the_transport_has_room() -> None:
    """The queue moves on only when the answer has been read: waiting for room would be for ever."""
    bus, got = Bus(), list[int]()

    @bus.serve("items", concurrency=1, max_queue=1, overflow="block")
    async def items(n: int) -> AsyncIterator[int]:
        for item in range(100):
            yield item

    async def read(n: int) -> None:
        async with bus.request_stream("items", n, credit=1) as stream:
            got.append(sum([item async for item in stream]))

    async with bus:
        await asyncio.gather(*(read(n) for n in range(5)))
    assert got == [4950] * 5


def _rewriting(bus: Bus, change: Any) -> Any:
    """Let `change` have each envelope before the transport does."""
    runtime = bus._opened()
    [link] = runtime.links
    publish = link.transport.publish
    patch = pytest.MonkeyPatch()

    def rewritten(envelope: Envelope, **addresses: Any) -> Any:
        return publish(change(envelope), **addresses)

    patch.setattr(link.transport, "publish", rewritten)
    runtime.routes.clear()
    return _Undo(patch)


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
