"""The server's side of request and reply: calls under way, replies, streams, cancellation."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from math import inf
from types import AsyncGeneratorType
from typing import Any, Protocol, cast

from hms_bus.abc import Overflow
from hms_bus.bus import context
from hms_bus.bus.deadlines import Deadlines
from hms_bus.bus.protocol import CANCEL, CREDIT
from hms_bus.bus.subscription import EXPIRED, is_expired
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, NoRespondersError, RemoteError, StatusError
from hms_bus.ids import parse_time

Invoke = Callable[[Envelope, str | None], Awaitable[Any]]
"""Calls the handler (with its middleware) and returns its value or async generator."""


class Replies(Protocol):
    """How a service answers. Each returns `None`, or an awaitable to wait for before the next."""

    def item(
        self, request: Envelope, reply_to: str, data: Any, number: int | None
    ) -> Awaitable[object] | None:
        """Send a reply, or item `number` (from 0) of a stream.

        May raise `NoRespondersError` for an item whose caller has gone.
        """
        ...

    def end(self, request: Envelope, reply_to: str, total: int) -> Awaitable[object] | None:
        """End a stream that had `total` items."""
        ...

    def error(
        self, request: Envelope, reply_to: str, error: BaseException
    ) -> Awaitable[object] | None:
        """End the request or stream with an error."""
        ...


class ServedCall:
    """One request while its handler runs. Cancelled by its deadline or by the caller."""

    __slots__ = ("cancelled", "credit", "due", "ended", "more", "reply_to", "task")

    def __init__(self, task: asyncio.Task[Any], credit: int, reply_to: str) -> None:
        self.task = task
        self.credit = credit
        self.reply_to = reply_to
        self.due = inf
        self.more: asyncio.Future[None] | None = None
        self.cancelled = False
        self.ended = False

    def expire(self) -> None:
        """Cancel the handler, once."""
        if not self.cancelled and not self.ended:
            self.cancelled = True
            self.task.cancel()

    def grant(self, credit: int) -> None:
        """Allow `credit` more items."""
        self.credit += credit
        if self.more is not None and not self.more.done():
            self.more.set_result(None)

    async def spend(self) -> None:
        """Take one item's credit; wait for it."""
        while self.credit <= 0:
            self.more = asyncio.get_running_loop().create_future()
            await self.more
        self.credit -= 1


class Service:
    """Answers the requests of one bus; also the sink of its control messages."""

    load = 0
    answers = False
    overflow: Overflow = "drop_newest"
    room: int | None = None

    def __init__(self, deadlines: Deadlines, replies: Replies) -> None:
        self._deadlines = deadlines
        self._replies = replies
        self._calls: dict[Invoke, dict[str, ServedCall]] = {}
        self._unwanted: dict[str, None] = {}

    def offer(self, envelope: Envelope, reply_to: str | None) -> None:
        """Take a control message: credit or cancellation for a call under way."""
        del reply_to
        request_id = envelope.causationid or ""
        found = [calls[request_id] for calls in self._calls.values() if request_id in calls]
        if envelope.type == CREDIT:
            for call in found:
                call.grant(envelope.credit or 0)
        elif envelope.type == CANCEL:
            for call in found:
                call.expire()
            if not found:
                self._remember_unwanted(request_id)

    def on_idle(self, notify: Callable[[], None]) -> None:
        """Never call it: there is no load here that could become 0."""

    def on_room(self, notify: Callable[[], None]) -> None:
        """Do nothing: it is never full."""
        del notify

    def interrupt(self, address: str | None) -> None:
        """Cancel the calls of who asked from `address`, as if the caller had.

        When the line was cut (`None`) callers may be there still: those that are not are named
        later, one by one.
        """
        if address is not None:
            for calls in self._calls.values():
                for call in calls.values():
                    if call.reply_to == address:
                        call.expire()

    def fail(self, error: BusError) -> None:
        """Go on: what is under way ends by itself, or when its caller has gone."""

    def _remember_unwanted(self, request_id: str) -> None:
        """Note a request that may still wait in a queue here, so that it is not begun."""
        if len(self._unwanted) >= _MAX_UNWANTED:
            del self._unwanted[next(iter(self._unwanted))]
        self._unwanted[request_id] = None

    def _is_unwanted(self, request_id: str) -> bool:
        """Return whether a request was cancelled before it was begun, and forget it."""
        return bool(self._unwanted) and self._unwanted.pop(request_id, _NOT_THERE) is None

    def answering(self, invoke: Invoke) -> Invoke:
        """Return what answers the requests of one subscription by calling `invoke`.

        Each has calls of its own: with `group=None` a bus may serve one request more than once.
        """
        calls: dict[str, ServedCall] = {}
        answer = partial(self._answer, calls, invoke)
        self._calls[answer] = calls
        return answer

    def forget(self, answer: Invoke) -> None:
        """Forget what `answering` returned, if it did: its subscription has ended."""
        self._calls.pop(answer, None)

    async def _answer(
        self,
        calls: dict[str, ServedCall],
        invoke: Invoke,
        request: Envelope,
        reply_to: str | None,
    ) -> object:
        """Call the handler and reply with what it returns, yields or raises.

        Without `reply_to` the value is dropped. The handler is cancelled at the request's
        `expirytime`, and when the caller says that it has gone; then there is no reply and this
        returns `EXPIRED`. A request that was cancelled before is not begun, nor is one that the
        transport repeats while it is being served. A `StatusError` is an answer like another. Any
        other exception is raised again after the reply, so that it is counted and reported.
        """
        if reply_to is None:
            return await _run_unasked(invoke, request)
        remaining_s = _remaining_s(request)
        if remaining_s <= 0 or request.id in calls or self._is_unwanted(request.id):
            return EXPIRED
        call = calls[request.id] = ServedCall(context.lane.get(), request.credit or 0, reply_to)
        self._arm(call, remaining_s)
        try:
            result = await invoke(request, reply_to)
            if call.credit or type(result) is AsyncGeneratorType:
                if not await self._stream(_as_stream(result), call, request, reply_to):
                    return EXPIRED
            elif (sent := self._replies.item(request, reply_to, result, None)) is not None:
                await sent
        except BaseException as error:
            if call.cancelled and call.task.cancelling() == 1 and _is_cancellation(error):
                return EXPIRED
            await self._tell_caller(call, request, reply_to, error)
            if not _is_answer(error):
                raise
        finally:
            call.ended = True
            del calls[request.id]
            if call.cancelled:
                call.task.uncancel()
        return None

    async def _tell_caller(
        self, call: ServedCall, request: Envelope, reply_to: str, error: BaseException
    ) -> None:
        """Reply with how the handler ended, unless the caller has gone or the program ends."""
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            return
        if _is_cancellation(error):
            if call.cancelled:
                return
            error = _CLOSED if call.task.cancelling() else _CANCELLED
        call.ended = True
        if (sent := self._replies.error(request, reply_to, error)) is not None:
            await sent

    def _arm(self, call: ServedCall, remaining_s: float) -> None:
        if remaining_s == inf:
            context.deadline.set(None)
            return
        call.due = self._deadlines.loop.time() + remaining_s
        context.deadline.set(call)
        self._deadlines.at(call.due, call)

    async def _stream(
        self,
        items: AsyncGenerator[Any, None],
        call: ServedCall,
        request: Envelope,
        reply_to: str,
    ) -> bool:
        """Send the items as credit allows; return whether the caller was there to the end."""
        if not request.credit:
            await items.aclose()
            raise StatusError(
                "FAILED_PRECONDITION",
                f"{request.topic!r} answers with a stream: call it with request_stream",
            )
        number = 0
        try:
            async for item in items:
                await call.spend()
                try:
                    if (sent := self._replies.item(request, reply_to, item, number)) is not None:
                        await sent
                except NoRespondersError:
                    return False
                number += 1
        finally:
            await items.aclose()
        if (sent := self._replies.end(request, reply_to, number)) is not None:
            await sent
        return True


_MAX_UNWANTED = 4096
_NOT_THERE = object()
_CLOSED = StatusError("UNAVAILABLE", "the agent was closed before it could answer")
_CANCELLED = StatusError("CANCELLED", "the handler awaited something that was cancelled")


def _remaining_s(request: Envelope) -> float:
    """Return the seconds until the request's deadline, infinity without one."""
    if request.expirytime is None:
        return inf
    return (parse_time(request.expirytime) - time.time_ns()) / 1e9


def _is_answer(error: BaseException) -> bool:
    """Whether a handler meant to answer with `error`; that of another agent just passed through."""
    return isinstance(error, StatusError) and not isinstance(error, RemoteError)


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError)


async def _run_unasked(invoke: Invoke, request: Envelope) -> object:
    """Handle an event that was published where requests are served."""
    if request.expirytime is not None and is_expired(request):
        return EXPIRED
    context.deadline.set(None)
    result = await invoke(request, None)
    if type(result) is AsyncGeneratorType:
        await result.aclose()
    return None


def _as_stream(result: Any) -> AsyncGenerator[Any, None]:
    """Return a generator's items, or a single value as a stream of one item."""
    if type(result) is AsyncGeneratorType:
        return cast("AsyncGenerator[Any, None]", result)

    async def single() -> AsyncGenerator[Any, None]:
        yield result

    return single()
