"""From an envelope to its subscribers: the publisher's middleware, the log, the transport."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from hms_bus.abc import EventLog, Expect, Receipt
from hms_bus.bus.middleware import Publish, PublishMiddleware, compose
from hms_bus.bus.routing import Route, Router
from hms_bus.envelope import Envelope
from hms_bus.errors import QueueFullError, UnsupportedError

InBackground = Callable[[Awaitable[Any], str], None]
"""Lets work finish on its own; the second argument is the topic that it is about."""


class Asked(Protocol):
    """Who waits for replies to what is sent."""

    @property
    def reply_to(self) -> str:
        """The address that the replies go to."""
        ...

    def watch(self, room: Awaitable[None]) -> None:
        """Take note when sending fails."""
        ...


_last_step: ContextVar[Publish] = ContextVar("hms_bus.last_step")
"""What the middleware of the current call ends in; the chain itself is made once."""


class Publisher:
    """Sends what one bus publishes and asks, unless nothing but a transport is in its way.

    What a log has taken is delivered, whatever becomes of the caller: when a call is cancelled
    while the log works, the rest is done in the background.
    """

    def __init__(
        self,
        router: Router,
        middleware: Sequence[PublishMiddleware],
        in_background: InBackground,
    ) -> None:
        self.published = 0
        self.known = 0
        """The last position of the log that this bus has heard of."""
        self.under_way = 0
        """How many calls are between their beginning and their last delivery."""
        self._finished: list[asyncio.Future[None]] = []
        self._router = router
        self._middleware = middleware
        self._in_background = in_background
        self._chain: Publish = _pass_on
        self._chained = 0

    async def send(
        self, envelope: Envelope, *, expect: Expect = "any", asked: Asked | None = None
    ) -> Receipt:
        """Pass the publisher's middleware, append if the topic is logged, then deliver.

        Waits for room, or leaves that to who `asked` and waits for replies.
        """
        self.under_way += 1
        try:
            if not self._middleware:
                return await self._deliver(envelope, expect, asked)
            return await self.through_middleware(
                envelope, lambda changed: self._deliver(changed, expect, asked)
            )
        finally:
            self._end_one()

    async def through_middleware(self, envelope: Envelope, last_step: Publish) -> Receipt:
        """Call the middleware around `last_step`. Each is asked to wrap once, not for each call."""
        if self._chained != len(self._middleware):
            self._chained = len(self._middleware)
            self._chain = compose(self._middleware, _pass_on)
        token = _last_step.set(last_step)
        try:
            return await self._chain(envelope)
        finally:
            _last_step.reset(token)

    async def send_batch(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Append all that are logged or none, then deliver in order.

        Each envelope passes the publisher's middleware by itself, one after the other, before any
        of them is sent; the receipt that it is given there has no position yet. What a middleware
        keeps back is not sent, and when one fails, none is. Raises `UnsupportedError` when several
        logs would have to agree.
        """
        self.under_way += 1
        try:
            if not self._middleware:
                return await self._deliver_batch(envelopes, expect)
            return await self._send_passed(envelopes, expect)
        finally:
            self._end_one()

    async def _send_passed(self, envelopes: Sequence[Envelope], expect: Expect) -> list[Receipt]:
        passed: dict[int, Envelope] = {}

        async def note(place: int, envelope: Envelope) -> Receipt:
            passed[place] = envelope
            return Receipt(envelope.id)

        receipts = [
            await self.through_middleware(envelope, partial(note, place))
            for place, envelope in enumerate(envelopes)
        ]
        sent = await self._deliver_batch(list(passed.values()), expect)
        for place, receipt in zip(passed, sent, strict=True):
            receipts[place] = receipt
        return receipts

    async def finished(self) -> None:
        """Return when no call is under way."""
        while self.under_way:
            waiter = asyncio.get_running_loop().create_future()
            self._finished.append(waiter)
            await waiter

    def _end_one(self) -> None:
        self.under_way -= 1
        if self._finished and not self.under_way:
            for waiter in self._finished:
                if not waiter.done():
                    waiter.set_result(None)
            self._finished.clear()

    async def _deliver(self, envelope: Envelope, expect: Expect, asked: Asked | None) -> Receipt:
        route = self._router.route(envelope.topic)
        if route.log is None:
            if expect != "any":
                raise UnsupportedError("expect=", f"topic {envelope.topic!r}", "no log keeps it")
            receipt = Receipt(envelope.id)
        else:
            receipt = await self._append_one(route.log, envelope, expect, asked)
        if asked is None:
            self.published += 1
        # A request that is asked again wants its answer, although the log has it already.
        if not _is_delivered(route, receipt) or (asked is not None and receipt.duplicate):
            room = _offer(route, envelope, receipt, None if asked is None else asked.reply_to)
            if room is not None and asked is not None:
                asked.watch(room)
            elif room is not None:
                await room
        return receipt

    async def _append_one(
        self, log: EventLog, envelope: Envelope, expect: Expect, asked: Asked | None
    ) -> Receipt:
        known = self.known
        try:
            [receipt] = await log.append([envelope], expect=expect)
        except asyncio.CancelledError:
            if asked is None:
                self._finish_later([envelope], expect, known)
            raise
        self.known = max(self.known, receipt.position or 0)
        return receipt

    async def _deliver_batch(
        self, envelopes: Sequence[Envelope], expect: Expect, *, known: int | None = None
    ) -> list[Receipt]:
        """Append and deliver without middleware.

        `known` says that this was tried before, when the log was known up to that position: what it
        holds behind that is ours, and not delivered yet. Raises the first `QueueFullError` once
        everything was delivered.
        """
        routes = [self._router.route(envelope.topic) for envelope in envelopes]
        log = _one_log(routes, expect)
        tried_at = self.known if known is None else known
        try:
            receipts = await _append(log, envelopes, routes, expect)
        except asyncio.CancelledError:
            self._finish_later(envelopes, expect, tried_at)
            raise
        self.known = max([self.known, *(receipt.position or 0 for receipt in receipts)])
        refusal: QueueFullError | None = None
        for place, (route, receipt) in enumerate(zip(routes, receipts, strict=True)):
            self.published += 1
            is_ours = known is not None and (receipt.position or 0) > known
            if _is_delivered(route, receipt) and not (receipt.duplicate and is_ours):
                continue
            try:
                room = _offer(route, envelopes[place], receipt, None)
                if room is not None:
                    await room
            except QueueFullError as error:
                refusal = refusal or error
            except asyncio.CancelledError:
                if log is not None:
                    _offer_without_waiting(routes[place + 1 :], envelopes[place + 1 :])
                raise
        if refusal is not None:
            raise refusal
        return receipts

    def _finish_later(self, envelopes: Sequence[Envelope], expect: Expect, known: int) -> None:
        # Appending again is safe: the log tells what it holds already, whatever is expected.
        work = self._deliver_batch(envelopes, expect, known=known)
        self._in_background(work, envelopes[0].topic)


async def _pass_on(envelope: Envelope) -> Receipt:
    return await _last_step.get()(envelope)


def _is_delivered(route: Route, receipt: Receipt) -> bool:
    return route.log is not None and (receipt.duplicate or route.log.delivers)


def _one_log(routes: Sequence[Route], expect: Expect) -> EventLog | None:
    """Return the log that keeps (some of) the topics of a batch."""
    logs = [route.log for route in routes if route.log is not None]
    if any(log is not logs[0] for log in logs):
        raise UnsupportedError(
            "publish_many", "topics of more than one log", "publish each log's by themselves"
        )
    if expect != "any" and len(logs) < len(routes):
        raise UnsupportedError("expect=", "a batch with topics that no log keeps")
    return logs[0] if logs else None


async def _append(
    log: EventLog | None, envelopes: Sequence[Envelope], routes: Sequence[Route], expect: Expect
) -> list[Receipt]:
    if log is None:
        return [Receipt(envelope.id) for envelope in envelopes]
    kept = [
        envelope for envelope, route in zip(envelopes, routes, strict=True) if route.log is not None
    ]
    appended = iter(await log.append(kept, expect=expect))
    return [
        Receipt(envelope.id) if route.log is None else next(appended)
        for envelope, route in zip(envelopes, routes, strict=True)
    ]


def _offer(
    route: Route, envelope: Envelope, receipt: Receipt, reply_to: str | None
) -> Awaitable[None] | None:
    """Hand over to the transport; a refusal tells where the log has the message all the same."""
    try:
        room: Awaitable[None] | None = route.publish(envelope, reply_to=reply_to)
    except QueueFullError as error:
        if receipt.position is not None:
            error.keep_at(receipt.position)
        raise
    return room


def _offer_without_waiting(routes: Sequence[Route], envelopes: Sequence[Envelope]) -> None:
    for route, envelope in zip(routes, envelopes, strict=True):
        with contextlib.suppress(QueueFullError):
            room: Awaitable[None] | None = route.publish(envelope)
            if room is not None:
                asyncio.ensure_future(room).cancel()
