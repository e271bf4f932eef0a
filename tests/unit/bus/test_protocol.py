"""spec/requests.md by its own tables: what travels when one asks and another answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hms_bus import Bus, Envelope, StatusError
from hms_bus.bounces import ERROR, NO_RESPONDERS, REPLY_PREFIX, ErrorBody, reply_topic
from hms_bus.bus import protocol
from hms_bus.bus.protocol import encodable, error_body, error_of
from hms_bus.errors import STATUS_CODES, DecodeError, RemoteError
from hms_bus.transports.direct import DirectTransport
from tests.support.events import event
from tests.support.turns import turns

SPEC = (Path(__file__).parents[3] / "spec" / "requests.md").read_text(encoding="utf-8")


def rows(first_head: str) -> dict[str, list[str]]:
    """The rows of the spec's table with this first head, by their first cells."""
    lines = iter(SPEC.splitlines())
    next(line for line in lines if line.startswith(f"| {first_head} |"))
    next(lines)
    cells = [re.split(r" *\| *", line.strip("| ")) for line in _until_blank(lines)]
    return {row[0].strip("`"): row[1:] for row in cells}


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


class Wire:
    """A bus whose transport notes what is published, with its addresses."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.sent: list[tuple[Envelope, str | None, str | None]] = []

        @self.bus.serve("quotes.get")
        async def answer(n: int) -> int:
            if n < 0:
                raise StatusError("OUT_OF_RANGE", "too low")
            return n

        @self.bus.serve("numbers")
        async def numbers(n: int) -> AsyncIterator[int]:
            for item in range(n):
                yield item

        @self.bus.serve("wait")
        async def wait() -> None:
            await asyncio.Event().wait()

    def tap(self) -> str:
        """Begin to note; return the address of the inbox."""
        runtime = self.bus._opened()
        [link] = runtime.links
        transport = link.transport
        assert isinstance(transport, DirectTransport)
        publish = transport.publish

        def noting(
            envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
        ) -> Any:
            self.sent.append((envelope, to, reply_to))
            return publish(envelope, to=to, reply_to=reply_to)

        transport.publish = noting  # pyright: ignore[reportAttributeAccessIssue]
        runtime.routes.clear()
        return link.inbox.address


MESSAGES = rows("message")


def test_the_types_are_those_of_the_code() -> None:
    types = {name: MESSAGES[name][0].strip("`") for name in ("end", "error", "credit", "cancel")}
    assert types == {
        "end": protocol.END,
        "error": ERROR,
        "credit": protocol.CREDIT,
        "cancel": protocol.CANCEL,
    }
    topics = {name: row[1].strip("`") for name, row in MESSAGES.items()}
    assert topics["reply"] == f"{REPLY_PREFIX}<topic>"
    assert topics["cancel"] == topics["credit"] == protocol.CONTROL_TOPIC
    assert f"`{protocol.INBOX_PREFIX}<unique>`" in SPEC
    assert f"`details.reason` `{NO_RESPONDERS}`" in SPEC


@pytest.mark.parametrize(
    ("request_topic", "topic"),
    [("quotes.get", "$reply.quotes.get"), ("$SRV.PING", "$reply.SRV.PING")],
)
def test_the_topic_of_a_reply(request_topic: str, topic: str) -> None:
    assert reply_topic(request_topic) == topic


async def test_a_request_and_its_reply() -> None:
    wire = Wire()
    async with wire.bus as bus:
        inbox = wire.tap()
        await bus.request("quotes.get", 1, correlationid="talk")
    [(request, to, reply_to), (reply, back_to, none)] = wire.sent
    assert (request.topic, to, reply_to) == ("quotes.get", None, inbox)
    assert request.expirytime is not None
    assert (request.credit, request.sequence) == (None, None)
    assert (reply.topic, back_to, none) == ("$reply.quotes.get", inbox, None)
    assert (reply.causationid, reply.correlationid) == (request.id, "talk")
    assert (reply.sequence, reply.credit, reply.expirytime) == (None, None, None)


async def test_a_request_and_its_error() -> None:
    wire = Wire()
    async with wire.bus as bus:
        inbox = wire.tap()
        assert (await bus.request_many("quotes.get", -1, count=1))[0].error is not None
    [(request, *_), (error, to, none)] = wire.sent
    assert (error.type, error.topic, to, none) == (
        ERROR,
        "$reply.quotes.get",
        inbox,
        None,
    )
    assert error.causationid == request.id
    assert error.decode(ErrorBody) == ErrorBody(code="OUT_OF_RANGE", message="too low")


async def test_a_request_that_is_cancelled() -> None:
    wire = Wire()
    async with wire.bus as bus:
        wire.tap()
        asking = asyncio.ensure_future(bus.request("wait"))
        await turns()
        asking.cancel()
        await turns()
    [(request, *_), (cancel, to, none)] = wire.sent
    assert (cancel.type, cancel.topic, to, none) == (
        protocol.CANCEL,
        "$control",
        "$control",
        None,
    )
    assert (cancel.causationid, cancel.decode()) == (request.id, None)


async def test_a_stream_of_five_with_a_credit_of_four() -> None:
    """The diagram of the spec, message by message."""
    wire = Wire()
    async with wire.bus as bus:
        inbox = wire.tap()
        async with bus.request_stream("numbers", 5, credit=4) as items:
            assert [item async for item in items] == [0, 1, 2, 3, 4]
    request, *rest = wire.sent
    assert (request[0].credit, request[2]) == (4, inbox)
    control = f"{inbox}.control"
    answers = [(e.type, e.sequence, to, reply_to) for e, to, reply_to in rest if to == inbox]
    assert answers == [
        *(("$reply.numbers", f"{n:010d}", inbox, control) for n in range(5)),
        (protocol.END, f"{5:010d}", inbox, None),
    ]
    controls = [(e.type, e.credit, to) for e, to, _ in rest if to == control]
    assert controls == [(protocol.CREDIT, 2, control)] * 2
    assert {e.causationid for e, *_ in rest} == {request[0].id}


async def test_a_stream_that_is_left() -> None:
    wire = Wire()
    async with wire.bus as bus:
        inbox = wire.tap()
        async with bus.request_stream("numbers", 100, credit=2) as items:
            assert await anext(items) == 0
    cancel, to, _ = wire.sent[-1]
    assert (cancel.type, to) == (protocol.CANCEL, f"{inbox}.control")


# -- errors ----------------------------------------------------------------------------------------


def test_the_members_of_an_error_are_those_of_the_spec() -> None:
    assert list(rows("member")) == list(ErrorBody.__struct_fields__)


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        (b'{"code":"NOT_FOUND","message":"m"}', "NOT_FOUND", "m"),
        (b'{"code":"NOT_FOUND","message":"m","colour":"red"}', "NOT_FOUND", "m"),
        (b'{"code":"TEAPOT","message":"m"}', "UNKNOWN", "m"),
        (b'{"code":5,"message":"m"}', "UNKNOWN", "could not be read"),
        (b'{"message":"m"}', "UNKNOWN", "could not be read"),
        (b"[]", "UNKNOWN", "could not be read"),
    ],
)
def test_an_error_is_read_whatever_it_is(document: bytes, code: str, message: str) -> None:
    reply = event("$reply.a", msgspec.Raw(document), source="/agents/bank", type=ERROR)
    error = error_of(reply, "a")
    assert isinstance(error, RemoteError)
    assert (error.code, error.topic, error.source) == (code, "a", "/agents/bank")
    assert message in error.message
    assert (error.retryable, error.details) == (False, {})


@pytest.mark.parametrize("code", sorted(STATUS_CODES))
def test_every_status_code_crosses(code: Any) -> None:
    body = error_body(StatusError(code, "m", details={"a": 1}), expose_traceback=False)
    error = error_of(event("$reply.a", body, type=ERROR), "a")
    assert isinstance(error, RemoteError)
    assert (error.code, error.message, error.details) == (code, "m", {"a": 1})
    assert error.retryable == StatusError(code, "m").retryable


def test_a_payload_that_does_not_fit_says_where() -> None:
    error = DecodeError("no int", reason="payload", field="$.n", topic="a")
    body = error_body(error, expose_traceback=False)
    assert (body.code, body.details) == ("INVALID_ARGUMENT", {"field": "$.n"})


def test_details_without_a_form_become_text() -> None:
    body = ErrorBody(code="UNKNOWN", message="m", details={"odd": object})
    assert encodable(body).details == {"repr": "{'odd': <class 'object'>}"}
    fine = ErrorBody(code="UNKNOWN", message="m", details={"n": [1]})
    assert encodable(fine) is fine
