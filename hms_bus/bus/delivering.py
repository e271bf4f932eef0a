"""From an envelope to its subscribers: over its log, if one keeps it, and its transport."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from hms_bus.abc import DeliveringLog, EventLog, Expect, Receipt
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

    async def sent(self, sending: Coroutine[Any, Any, Receipt]) -> Receipt | None:
        """Watch `sending` and return what it does, `None` when an answer comes before."""
        ...


_Sending = tuple[Route, Envelope, Receipt]


class Delivery:
    """Appends what is logged, then delivers it.

    What a log has taken is delivered, whatever becomes of the caller: when a call is cancelled
    while the log works, the rest is done in the background. A `DeliveringLog` sees to that itself.
    """

    def __init__(self, router: Router, in_background: InBackground) -> None:
        self.published = 0
        self.known = 0
        """The last position of the log that this bus has heard of."""
        self._router = router
        self._in_background = in_background

    async def one(self, envelope: Envelope, expect: Expect, asked: Asked | None) -> Receipt:
        """Append and deliver an event, or the request of who `asked`; wait for room for an event.

        A request that the log has already is delivered all the same: who asks again wants its
        answer. Raises `UnsupportedError` for an `expect` on a topic that no log keeps.
        """
        route = self._router.route(envelope.topic)
        if route.delivering is not None:
            return await self._send_through(route, route.delivering, envelope, expect, asked)
        if route.log is None:
            if expect != "any":
                raise UnsupportedError("expect=", f"topic {envelope.topic!r}", "no log keeps it")
            receipt = Receipt(envelope.id)
        else:
            receipt = await self._append_one(route.log, envelope, expect, asked)
        if asked is None:
            self.published += 1
        if asked is not None:
            room = _offer(route, envelope, receipt, asked.reply_to)
            if room is not None:
                asked.watch(room)
        elif not receipt.duplicate:
            room = _offer(route, envelope, receipt, None)
            if room is not None:
                await _room(room, receipt)
        return receipt

    async def _send_through(
        self,
        route: Route,
        log: DeliveringLog,
        envelope: Envelope,
        expect: Expect,
        asked: Asked | None,
    ) -> Receipt:
        """Leave appending and delivering to the log; it does both, although the call is cancelled.

        A request may be answered before the log says where it keeps it: then the receipt has no
        position.
        """
        if asked is not None:
            sending = _ask_through(route, log, envelope, expect, asked.reply_to)
            return await asked.sent(sending) or Receipt(envelope.id)
        receipt = await log.send(envelope, expect=expect)
        self.published += 1
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

    async def many(
        self, envelopes: Sequence[Envelope], expect: Expect, *, known: int | None = None
    ) -> list[Receipt]:
        """Append all that are logged or none, then deliver in order; see `Publisher.send_batch`.

        `known` says that this was tried before, when the log was known up to that position: what it
        holds behind that is ours, and not delivered yet. Raises the first `QueueFullError` once
        everything was delivered.
        """
        routes = [self._router.route(envelope.topic) for envelope in envelopes]
        log = _one_log(routes, expect)
        delivering = next((route.delivering for route in routes if route.log is not None), None)
        if delivering is not None:
            return await self._send_batch_through(delivering, routes, envelopes, expect)
        tried_at = self.known if known is None else known
        try:
            receipts = await _append(log, envelopes, routes, expect)
        except asyncio.CancelledError:
            self._finish_later(envelopes, expect, tried_at)
            raise
        self.known = max([self.known, *(receipt.position or 0 for receipt in receipts)])
        self.published += len(envelopes)
        left = [
            sending
            for sending in zip(routes, envelopes, receipts, strict=True)
            if not _is_delivered(sending[2], known)
        ]
        await _deliver_all(left, to_the_end=log is not None)
        return receipts

    async def _send_batch_through(
        self,
        log: DeliveringLog,
        routes: Sequence[Route],
        envelopes: Sequence[Envelope],
        expect: Expect,
    ) -> list[Receipt]:
        """Let the log deliver what it keeps; then deliver, in order, what no log does."""
        refusal: QueueFullError | None = None
        receipts = [Receipt(envelope.id) for envelope in envelopes]
        try:
            receipts = await _append(log, envelopes, routes, expect)
        except QueueFullError as error:
            if error.position is None:
                raise
            refusal = error
        self.published += len(envelopes)
        sendings = zip(routes, envelopes, receipts, strict=True)
        left = [sending for sending in sendings if sending[0].log is None]
        await _deliver_all(left, to_the_end=False)
        if refusal is not None:
            raise refusal
        return receipts

    def _finish_later(self, envelopes: Sequence[Envelope], expect: Expect, known: int) -> None:
        # Appending again is safe: the log tells what it holds already, whatever is expected.
        work = self.many(envelopes, expect, known=known)
        self._in_background(work, envelopes[0].topic)


async def _ask_through(
    route: Route, log: DeliveringLog, envelope: Envelope, expect: Expect, reply_to: str
) -> Receipt:
    receipt = await log.send(envelope, expect=expect, reply_to=reply_to)
    if receipt.duplicate:
        room = _offer(route, envelope, receipt, reply_to)
        if room is not None:
            await _room(room, receipt)
    return receipt


def _is_delivered(receipt: Receipt, known: int | None) -> bool:
    """Whether the log had the message before; not so when it is ours, behind position `known`."""
    is_ours = known is not None and (receipt.position or 0) > known
    return receipt.duplicate and not is_ours


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
        _note_place(error, receipt)
        raise
    return room


def _note_place(error: QueueFullError, receipt: Receipt) -> None:
    if receipt.position is not None and error.position is None:
        error.keep_at(receipt.position)


async def _room(room: Awaitable[None], receipt: Receipt) -> None:
    """Wait for room; some transports learn of a refusal only then."""
    try:
        await room
    except QueueFullError as error:
        _note_place(error, receipt)
        raise


async def _deliver_all(sendings: Sequence[_Sending], *, to_the_end: bool) -> None:
    """Hand over in order, waiting for room; `to_the_end`: all of it, also when cancelled.

    Raises the first refusal when all was offered.
    """
    refusal: QueueFullError | None = None
    for place, sending in enumerate(sendings):
        try:
            room = _offer(*sending, None)
            if room is not None:
                await _room(room, sending[2])
        except QueueFullError as error:
            refusal = refusal or error
        except asyncio.CancelledError:
            if to_the_end:
                _offer_without_waiting(sendings[place + 1 :])
            raise
    if refusal is not None:
        raise refusal


def _offer_without_waiting(sendings: Sequence[_Sending]) -> None:
    for route, envelope, _ in sendings:
        with contextlib.suppress(QueueFullError):
            room: Awaitable[None] | None = route.publish(envelope)
            if room is not None:
                asyncio.ensure_future(room).cancel()
