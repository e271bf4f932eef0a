"""What stands between a bus and the delivery of what it sends: the publisher's middleware."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial

from hms_bus.abc import Expect, Receipt
from hms_bus.bus.delivering import Asked, Delivery
from hms_bus.bus.middleware import Publish, PublishMiddleware, compose
from hms_bus.envelope import Envelope

_last_step: ContextVar[Publish] = ContextVar("hms_bus.last_step")
"""What the middleware of the current call ends in; the chain itself is made once."""


class Publisher:
    """Sends what one bus publishes and asks, unless nothing but a transport is in its way."""

    def __init__(self, delivery: Delivery, middleware: Sequence[PublishMiddleware]) -> None:
        self.under_way = 0
        """How many calls are between their beginning and their last delivery."""
        self._finished: list[asyncio.Future[None]] = []
        self._delivery = delivery
        self._middleware = middleware
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
                return await self._delivery.one(envelope, expect, asked)
            return await self.through_middleware(
                envelope, lambda changed: self._delivery.one(changed, expect, asked)
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

        A log that delivers what it keeps does so first, in the order of the batch; what no log
        keeps follows, in its own order, when the log is done.
        """
        self.under_way += 1
        try:
            if not self._middleware:
                return await self._delivery.many(envelopes, expect)
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
        sent = await self._delivery.many(list(passed.values()), expect)
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


async def _pass_on(envelope: Envelope) -> Receipt:
    return await _last_step.get()(envelope)
