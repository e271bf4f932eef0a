"""Sending replies: items, ends and errors of requests, logged like anything else that is said."""

import logging
from collections.abc import Awaitable
from typing import Any

from hms_bus.abc import DeliveringLog, EventLog
from hms_bus.bounces import ERROR, reply_topic
from hms_bus.bus import protocol
from hms_bus.bus.composing import Composer
from hms_bus.bus.routing import MAX_CACHED_TOPICS, Route, Router
from hms_bus.envelope import Envelope
from hms_bus.errors import LogError

logger = logging.getLogger("hms_bus")


_Way = tuple[str, Route, EventLog | None, DeliveringLog | None]
"""A topic of replies, the route of its requests, its log, and that again if it delivers."""


class ReplySender:
    """Answers requests over the link that they are routed by; see `serving.Replies`."""

    def __init__(self, router: Router, composer: Composer, *, expose_tracebacks: bool) -> None:
        self._router = router
        self._composer = composer
        self._expose_tracebacks = expose_tracebacks
        self._known: dict[str, _Way] = {}

    def item(
        self, request: Envelope, reply_to: str, data: Any, number: int | None
    ) -> Awaitable[object] | None:
        """Send a reply, or item `number` (from 0) of a stream."""
        if number is None:
            return self._send(request, reply_to, data, None, None)
        return self._send(request, reply_to, data, None, f"{number:010d}", takes_control=True)

    def end(self, request: Envelope, reply_to: str, total: int) -> Awaitable[object] | None:
        """End a stream that had `total` items."""
        return self._send(request, reply_to, None, protocol.END, f"{total:010d}")

    def error(
        self, request: Envelope, reply_to: str, error: BaseException
    ) -> Awaitable[object] | None:
        """End the request or stream with an error."""
        body = protocol.error_body(error, expose_traceback=self._expose_tracebacks)
        return self._send(request, reply_to, protocol.encodable(body), ERROR, None)

    def _send(
        self,
        request: Envelope,
        reply_to: str,
        data: Any,
        kind: str | None,
        sequence: str | None,
        *,
        takes_control: bool = False,
    ) -> Awaitable[object] | None:
        topic, route, log, delivering = self._known.get(request.topic) or self._learn(request.topic)
        envelope = self._composer.reply(request, topic, data, kind, sequence)
        control = route.link.control_address if takes_control else None
        if log is not None:
            if delivering is not None:
                return _send_through(delivering, route, envelope, reply_to, control)
            return _append_and_send(log, route, envelope, reply_to, control)
        return route.publish(envelope, to=reply_to, reply_to=control)

    def _learn(self, request_topic: str) -> _Way:
        if len(self._known) >= MAX_CACHED_TOPICS:
            self._known.clear()
        topic = reply_topic(request_topic)
        route = self._router.route(request_topic)
        log = self._router.log_of(topic, route.link)
        self._known[request_topic] = known = (topic, route, log, self._router.delivering(log))
        return known


async def _append_and_send(
    log: EventLog, route: Route, envelope: Envelope, reply_to: str, control: str | None
) -> None:
    try:
        await log.append([envelope])
    except LogError as error:
        _check_goes_on(envelope, error)
    await _publish(route, envelope, reply_to, control)


async def _send_through(
    log: DeliveringLog, route: Route, envelope: Envelope, reply_to: str, control: str | None
) -> None:
    try:
        await log.send(envelope, to=reply_to, reply_to=control)
    except LogError as error:
        _check_goes_on(envelope, error)
        await _publish(route, envelope, reply_to, control)


def _check_goes_on(envelope: Envelope, error: LogError) -> None:
    """Raise `error`, unless it keeps an error reply from being logged.

    The caller must hear that it failed, also when nothing can be kept any more.
    """
    if envelope.type != ERROR:
        raise error
    logger.warning("an error reply could not be logged: %s", error)


async def _publish(route: Route, envelope: Envelope, reply_to: str, control: str | None) -> None:
    room: Awaitable[None] | None = route.publish(envelope, to=reply_to, reply_to=control)
    if room is not None:
        await room
