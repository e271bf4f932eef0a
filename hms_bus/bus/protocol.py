"""The envelopes that requests and replies are made of (spec/requests.md).

A request is an envelope that travels with a reply address. Its replies have its `id` as their
`causationid`; their topic is the request's behind `$reply.`, so that a log can hold both. What is
not a plain reply is told by its `type`. Errors, which transports send too, are `hms_bus.bounces`.
"""

import traceback

import msgspec

from hms_bus.bounces import NO_RESPONDERS, ErrorBody, text_of
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    STATUS_CODES,
    BusError,
    DecodeError,
    NoRespondersError,
    RemoteError,
    StatusCode,
    StatusError,
    UsageError,
)

END = "hms.bus.end.v1"
"""A stream is complete; `sequence` is the number of items that it had."""

CREDIT = "hms.bus.credit.v1"
"""From the caller of a stream: `credit` more items may be sent."""

CANCEL = "hms.bus.cancel.v1"
"""From the caller of any request: it does not wait any more."""

CONTROL_TOPIC = "$control"
"""Where cancellations go while the caller does not know who is serving."""

INBOX_PREFIX = "$inbox."


def error_body(error: BaseException, *, expose_traceback: bool) -> ErrorBody:
    """Return what a caller may know of a handler's exception.

    A `StatusError` goes over as it is, a `BusError` by its code, any other exception as `UNKNOWN`
    with its class name and text. A `UsageError` is the handler's bug, not the caller's: `INTERNAL`.
    The traceback only goes along when it is asked for.
    """
    trace = "".join(traceback.format_exception(error)) if expose_traceback else None
    if isinstance(error, StatusError):
        return ErrorBody(
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            details=dict(error.details),
            traceback=trace,
        )
    if isinstance(error, BusError):
        details = {"field": error.field} if isinstance(error, DecodeError) and error.field else {}
        return ErrorBody(
            code="INTERNAL" if isinstance(error, UsageError) else error.code,
            message=str(error),
            retryable=error.retryable,
            details=details,
            traceback=trace,
        )
    return ErrorBody(code="UNKNOWN", message=text_of(error), traceback=trace)


def error_of(reply: Envelope, topic: str) -> RemoteError | NoRespondersError:
    """Return the error that an `ERROR` envelope tells of a request on `topic`.

    One that cannot be read is `UNKNOWN`.
    """
    try:
        body = reply.decode(ErrorBody)
    except DecodeError as error:
        body = ErrorBody(code="UNKNOWN", message=f"the error itself could not be read: {error}")
    if body.code == "UNAVAILABLE" and body.details.get("reason") == NO_RESPONDERS:
        return NoRespondersError(topic)
    code: StatusCode = body.code if body.code in STATUS_CODES else "UNKNOWN"  # pyright: ignore[reportAssignmentType]
    return RemoteError(
        code,
        body.message,
        topic=topic,
        source=reply.source,
        details=body.details,
        retryable=body.retryable,
        remote_traceback=body.traceback,
    )


def encodable(body: ErrorBody) -> ErrorBody:
    """Return `body`, with its details as text where they have no JSON form."""
    try:
        msgspec.json.encode(body)
    except Exception:  # noqa: BLE001 - details are the user's objects and may raise anything
        return msgspec.structs.replace(body, details={"repr": repr(body.details)})
    return body
