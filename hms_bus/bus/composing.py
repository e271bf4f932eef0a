"""Building envelopes: identity, time, and what a message inherits from the one that caused it."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from hms_bus import attributes
from hms_bus.bus import context
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope, ExtensionValue
from hms_bus.errors import DecodeError, EncodeError, HopLimitError
from hms_bus.ids import format_time, stamp
from hms_bus.payload import DESCRIPTIONS, describe

current_cause = context.cause.get


class PublishOptions(TypedDict, total=False):
    """Attributes of a message that the publisher may set; the rest follows by itself.

    `type` defaults to the payload's class name, or the topic for builtins. `ttl` is how long the
    message may wait to be handled. Messages with one `partitionkey` stay in order under
    concurrency. `priority` is 0 to 9, 9 first, 4 without. `id` makes publishing idempotent on a
    logged topic: the same (`source`, `id`) is kept once.
    """

    id: str
    type: str
    time: str
    subject: str
    datacontenttype: str
    dataschema: str
    correlationid: str
    causationid: str
    partitionkey: str
    priority: int
    ttl: Duration
    expirytime: str
    traceparent: str
    tracestate: str
    dataref: str
    authtype: str
    authid: str
    severitynumber: int
    extensions: Mapping[str, ExtensionValue]


class SendOptions(PublishOptions, total=False):
    """The options of a message that may be sent later.

    `delay`, or `at` (aware datetime or RFC 3339 text), lets the log keep the message until then,
    see `Bus.schedule`.
    """

    delay: Duration
    at: datetime | str


class Composer:
    """Builds the envelopes of one sender. Does not check the topic; its caller routes by it."""

    def __init__(self, *, source: str, max_hops: int) -> None:
        self.source = source
        self._max_hops = max_hops

    def plain(
        self, topic: str, data: object, expirytime: str | None = None, credit: int | None = None
    ) -> Envelope:
        """Return a new envelope without options: the hot path of `publish` (500 ns)."""
        content_type, type_name, schema = DESCRIPTIONS.get(type(data)) or describe(data)
        new_id, now = stamp()
        cause = current_cause()
        if cause is None:
            return Envelope(
                id=new_id,
                source=self.source,
                type=type_name or topic,
                topic=topic,
                time=now,
                datacontenttype=content_type,
                dataschema=schema,
                correlationid=new_id,
                expirytime=expirytime,
                credit=credit,
                data=data,
            )
        return Envelope(
            id=new_id,
            source=self.source,
            type=type_name or topic,
            topic=topic,
            time=now,
            datacontenttype=content_type,
            dataschema=schema,
            correlationid=cause.correlationid or cause.id,
            causationid=cause.id,
            expirytime=expirytime,
            traceparent=cause.traceparent,
            tracestate=cause.tracestate,
            credit=credit,
            hops=self._next_hop(cause, topic),
            data=data,
        )

    def _next_hop(self, cause: Envelope, topic: str) -> int:
        hops = (cause.hops or 0) + 1
        if hops > self._max_hops:
            raise HopLimitError(topic=topic, hops=hops, limit=self._max_hops)
        return hops

    def with_options(self, topic: str, data: Any, options: PublishOptions) -> Envelope:
        """Return a new envelope with `options`: attributes by name, `ttl` and `extensions`.

        Raises `EncodeError` that names the option which is no attribute or breaks its rules.
        """
        changes: dict[str, Any] = {
            name: value for name, value in options.items() if value is not None
        }
        ttl: Duration | None = changes.pop("ttl", None)
        if ttl is not None:
            changes["expirytime"] = expiry_after(parse_duration(ttl))
        extensions: Mapping[str, ExtensionValue] | None = changes.pop("extensions", None)
        try:
            for name, value in changes.items():
                if name not in _SETTABLE:
                    known = ", ".join(sorted({*_SETTABLE, "extensions", "ttl"}))
                    raise EncodeError(f"{name!r} is no option; known: {known}", field=name)
                attributes.check_attribute(name, value)
                if not value and name in attributes.REQUIRED:
                    raise EncodeError(f"{name} is empty", field=name)
            for name, value in (extensions or {}).items():
                attributes.check_extension(name, value)
        except DecodeError as error:
            raise EncodeError(error.message, field=error.field) from error
        if extensions:
            if len(extensions) > attributes.MAX_EXTENSIONS:
                raise EncodeError(f"more than {attributes.MAX_EXTENSIONS} extensions")
            changes["extensions"] = dict(extensions)
        envelope = self.plain(topic, data)
        if "id" in changes and envelope.causationid is None:
            # A conversation is named after its first message.
            changes.setdefault("correlationid", changes["id"])
        return envelope.replace(**changes)

    def forward(self, envelope: Envelope) -> Envelope:
        """Return `envelope` one hop further, and further than what is being handled.

        It stands in no other relation to the cause, which need not be its own. Raises
        `HopLimitError`.
        """
        cause = current_cause() or envelope
        further = max(cause, envelope, key=lambda each: each.hops or 0)
        return envelope.replace(hops=self._next_hop(further, envelope.topic))

    def reply(
        self,
        request: Envelope,
        topic: str,
        data: object,
        kind: str | None = None,
        sequence: str | None = None,
        *,
        credit: int | None = None,
    ) -> Envelope:
        """Return an answer to `request`: caused by it, in its conversation, no hop further."""
        content_type, type_name, schema = DESCRIPTIONS.get(type(data)) or describe(data)
        new_id, now = stamp()
        return Envelope(
            id=new_id,
            source=self.source,
            type=kind or type_name or topic,
            topic=topic,
            time=now,
            datacontenttype=content_type,
            dataschema=schema,
            correlationid=request.correlationid or request.id,
            causationid=request.id,
            sequence=sequence,
            traceparent=request.traceparent,
            tracestate=request.tracestate,
            hops=request.hops,
            credit=credit,
            data=data,
        )


_SETTABLE = frozenset(attributes.ATTRIBUTES) - {"topic", "source", "hops", "credit", "sequence"}


def expiry_after(seconds: float) -> str:
    """Return the `expirytime` that is `seconds` from now, in whole microseconds."""
    return format_time((time.time_ns() // 1000 + round(seconds * 1e6)) * 1000)
