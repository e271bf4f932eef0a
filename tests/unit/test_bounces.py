"""What a transport sends back, and what the caller makes of it."""

import pytest

from hms_bus.bounces import ERROR, NO_RESPONDERS, ErrorBody, returned
from hms_bus.bus.protocol import error_of
from hms_bus.errors import (
    BusError,
    DecodeError,
    NoRespondersError,
    QueueFullError,
    RemoteError,
)
from hms_bus.plugins import get_codec
from tests.support.events import event

REQUEST = event("quotes.get", 1, correlationid="talk", hops=3, traceparent="00-a-b-01")


def test_it_answers_the_request_in_its_conversation() -> None:
    reply = returned(REQUEST, NoRespondersError("quotes.get"), source="/hub")
    assert (reply.type, reply.topic, reply.source) == (ERROR, "$reply.quotes.get", "/hub")
    assert (reply.causationid, reply.correlationid) == (REQUEST.id, "talk")
    assert (reply.hops, reply.traceparent) == (3, "00-a-b-01")
    assert reply.id != REQUEST.id
    assert returned(event("a"), NoRespondersError("a"), source="/hub").correlationid


def test_a_topic_that_leaves_no_space_for_a_prefix_is_answered_all_the_same() -> None:
    longest = "a" * 256
    reply = returned(event("a").replace(topic=longest), NoRespondersError(longest), source="/hub")
    assert reply.topic == f"$reply.{longest}"


@pytest.mark.parametrize("codec", ["json", "cbor", "protobuf"])
def test_nobody_there_is_the_same_error_through_every_codec(codec: str) -> None:
    reply = returned(REQUEST, NoRespondersError("quotes.get"), source="/hub")
    read = get_codec(codec).decode(get_codec(codec).encode(reply))
    body = read.decode(ErrorBody)
    assert (body.code, body.retryable) == ("UNAVAILABLE", True)
    assert body.details == {"reason": NO_RESPONDERS}
    error = error_of(read, "quotes.get")
    assert type(error) is NoRespondersError
    assert error.topic == "quotes.get"


@pytest.mark.parametrize(
    "error",
    [
        QueueFullError(queue="full", limit=3),
        DecodeError("no int", reason="payload", field="$.n"),
    ],
)
def test_any_other_error_comes_from_who_carried_the_request(error: BusError) -> None:
    told = error_of(returned(REQUEST, error, source="/hub"), "quotes.get")
    assert isinstance(told, RemoteError)
    assert (told.code, told.message, told.source) == (error.code, str(error), "/hub")
    assert told.retryable == error.retryable


@pytest.mark.parametrize(
    "body",
    [
        ErrorBody(code="NOT_FOUND", message="m", details={"reason": NO_RESPONDERS}),
        ErrorBody(code="UNAVAILABLE", message="m", details={"reason": "tired"}),
        ErrorBody(code="UNAVAILABLE", message="m"),
    ],
)
def test_what_only_resembles_it_is_an_answer(body: ErrorBody) -> None:
    assert isinstance(error_of(event("$reply.a", body, type=ERROR), "a"), RemoteError)
