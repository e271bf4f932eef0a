"""Messages that come back: the error envelope with which a transport returns a request.

What carries a request and learns that nobody gets it tells so the address that waits for the answer
(spec/requests.md, "Errors"). A server's errors have the same form; `hms_bus.bus.protocol` makes and
reads those.
"""

from typing import Any

from msgspec import Struct

from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, NoRespondersError
from hms_bus.ids import stamp
from hms_bus.payload import describe

ERROR = "hms.bus.error.v1"
"""The type of an envelope that ends a request or stream; the payload is an `ErrorBody`."""

REPLY_PREFIX = "$reply."

NO_RESPONDERS = "no-responders"
"""The `details.reason` of an error which says that nobody serves the topic."""


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of an `ERROR` envelope."""

    code: str
    message: str
    retryable: bool = False
    details: dict[str, Any] = {}
    traceback: str | None = None


def reply_topic(topic: str) -> str:
    """Return the topic of replies to requests on `topic`; `$` only opens a topic, so it goes."""
    return REPLY_PREFIX + topic.removeprefix("$")


def returned(request: Envelope, error: BusError, *, source: str) -> Envelope:
    """Return the envelope that tells the caller of `request` why it was not delivered.

    It goes to the reply address. `source` is who carried the request: `/hub`. A
    `NoRespondersError` is one for the caller, too; any other error reaches it as a `RemoteError`.
    """
    nobody = isinstance(error, NoRespondersError)
    body = ErrorBody(
        code=error.code,
        message=str(error),
        retryable=error.retryable,
        details={"reason": NO_RESPONDERS} if nobody else {},
    )
    content_type, _, schema = describe(body)
    new_id, now = stamp()
    return Envelope(
        id=new_id,
        source=source,
        type=ERROR,
        topic=reply_topic(request.topic),
        time=now,
        datacontenttype=content_type,
        dataschema=schema,
        correlationid=request.correlationid or request.id,
        causationid=request.id,
        traceparent=request.traceparent,
        tracestate=request.tracestate,
        hops=request.hops,
        data=body,
    )


def text_of(error: BaseException) -> str:
    """Return the class name of an exception and its text, if it has one."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the text of a user's error is a user's code
        return name
    return f"{name}: {text}" if text else name
