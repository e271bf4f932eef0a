"""The caller's side of request and reply: one inbox, and what waits for answers in it."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, Self, TypeVar

from msgspec import Struct

from hms_bus.abc import Overflow
from hms_bus.bounces import ERROR
from hms_bus.bus.deadlines import Deadlines
from hms_bus.bus.protocol import CANCEL, CONTROL_TOPIC, CREDIT, END, error_of
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    DeadlineExceededError,
    DecodeError,
    DisconnectedError,
    RemoteError,
    StateError,
    UsageError,
)

T = TypeVar("T")

Arrival = tuple[Envelope, str | None]
"""A reply and the address that its sender takes messages at."""


class Reply(Struct, Generic[T], frozen=True, kw_only=True):
    """One answer to a scatter-gather request: a value, or why there is none.

    `error` is what the agent raised, or a `DecodeError` for an answer of the wrong type.
    """

    source: str
    value: T | None = None
    error: RemoteError | DecodeError | None = None

    def result(self) -> T | None:
        """Return the value. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value


class Inbox:
    """The sink of one bus's replies on one transport: it finds who waits by `causationid`.

    Nothing queues here; a reply wakes its waiter at once, one that nobody waits for is counted.
    """

    load = 0
    answers = True
    overflow: Overflow = "drop_newest"
    room: int | None = None

    def __init__(self, address: str) -> None:
        self.address = address
        self.late = 0
        self.on_stray: Callable[[Envelope, str], None] | None = None
        """Told of late items of a stream, and of the address that their sender takes control at."""
        self.waiting: dict[str | None, Pending] = {}

    def close(self) -> None:
        """Fail whoever still waits with `DisconnectedError`: no reply can come any more."""
        for pending in self.waiting.values():
            pending.fail(DisconnectedError("the bus was closed while a request was under way"))

    def on_idle(self, notify: Callable[[], None]) -> None:
        """Never call it: there is no load here that could become 0."""

    def on_room(self, notify: Callable[[], None]) -> None:
        """Do nothing: it is never full."""
        del notify

    def interrupt(self, address: str | None) -> None:
        """Fail who waits for more from `address`, `None`: everybody, since the line was cut."""
        what = "the connection was lost" if address is None else "the agent that answered has gone"
        for pending in self.waiting.values():
            if address is None or pending.is_answered_from(address):
                pending.fail(
                    DisconnectedError(
                        f"{what} while a request was under way: the outcome is unknown"
                    )
                )

    def fail(self, error: BusError) -> None:
        """Fail whoever waits: no reply can come any more."""
        for pending in self.waiting.values():
            pending.fail(error)

    def offer(self, envelope: Envelope, reply_to: str | None) -> None:
        """Hand a reply to its waiter."""
        pending = self.waiting.get(envelope.causationid)
        if pending is None:
            self.late += 1
            if reply_to is not None and self.on_stray is not None:
                self.on_stray(envelope, reply_to)
            return
        pending.arrived.append((envelope, reply_to))
        waiter = pending.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Pending:
    """The replies to one request, from before it is sent until the scope ends.

    Entering it raises `UsageError` when another request with the same id waits.

    with Pending(inbox, request.id, runtime.deadlines) as replies:
        ...                              # send the request
        reply, reply_to = await replies.next(due)
    """

    __slots__ = (
        "_deadlines",
        "_due",
        "_failure",
        "_inbox",
        "_request_id",
        "_room",
        "_server",
        "arrived",
        "ended",
        "waiter",
    )

    def __init__(self, inbox: Inbox, request_id: str, deadlines: Deadlines) -> None:
        self._inbox = inbox
        self._request_id = request_id
        self._deadlines = deadlines
        self._due: float | None = None
        self.arrived: list[Arrival] = []
        self.waiter: asyncio.Future[None] | None = None
        self.ended = False
        self._failure: BaseException | None = None
        self._room: asyncio.Future[Any] | None = None
        self._server: str | None = None

    def __enter__(self) -> Self:
        if self._inbox.waiting.setdefault(self._request_id, self) is not self:
            raise UsageError(
                f"a request with the id {self._request_id!r} is waiting for its answer: "
                "replies are told apart by it, so each request needs its own"
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ended = True
        if self._room is not None:
            self._room.cancel()
        del self._inbox.waiting[self._request_id]

    def expect(self, due: float) -> asyncio.Future[None]:
        """Return a future that is done when a reply has arrived, or fails with `TimeoutError`.

        `due` is in seconds of the loop's clock; it may become later from call to call.
        """
        waiter = self._wait()
        if self._due is None:
            self._deadlines.at(due, self)
        self._due = due
        return waiter

    def _wait(self) -> asyncio.Future[None]:
        """Return a future that is done when a reply has arrived, or fails when this does."""
        self.waiter = waiter = self._deadlines.loop.create_future()
        if self._failure is not None:
            waiter.set_exception(self._failure)
        return waiter

    async def next(self, due: float) -> Arrival:
        """Return the next reply and its reply address.

        Raises `TimeoutError` when `due` has come, and whatever this failed with.
        """
        if not self.arrived:
            await self.expect(due)
        arrival = self.arrived.pop(0)
        self._server = arrival[1] or self._server
        return arrival

    def is_answered_from(self, address: str) -> bool:
        """Whether who answers takes messages at `address`."""
        return self._server == address or any(server == address for _, server in self.arrived)

    @property
    def reply_to(self) -> str:
        """The address that the replies go to."""
        return self._inbox.address

    def watch(self, room: Awaitable[Any]) -> None:
        """Fail when sending the request fails, but do not wait for it.

        Who asks waits for the answer. To wait for room before would be a deadlock: a full queue may
        move on only when the asker reads the stream that answers it.
        """
        self._room = asyncio.ensure_future(room)
        self._room.add_done_callback(self._sent)

    async def sent(self, sending: Coroutine[Any, Any, T]) -> T | None:
        """Watch `sending` and return what it does, `None` when an answer comes before.

        Raises what it raises.
        """
        task = self._deadlines.loop.create_task(sending)
        self.watch(task)
        waiter = self._wait()
        task.add_done_callback(lambda _: waiter.done() or waiter.set_result(None))
        await waiter
        return task.result() if task.done() else None

    def _sent(self, room: asyncio.Future[Any]) -> None:
        if not room.cancelled() and (error := room.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Let the one who waits fail, or will wait."""
        self._failure = error
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def expire(self) -> None:
        """Let the waiter time out, or wait on when the deadline has moved since."""
        due, self._due = self._due, None
        if due is None or self.waiter is None or self.waiter.done():
            return
        if due > self._deadlines.loop.time():
            self._due = due
            self._deadlines.at(due, self)
        else:
            self.waiter.set_exception(TimeoutError())


class ReplyStream(Generic[T]):
    """The items that answer one request, in order; made by `Bus.request_stream`.

    An async context manager and iterator. Leaving the scope early cancels the handler. At most
    `credit` items are under way at a time; each half that is consumed is granted anew. Items that a
    transport repeats are dropped, those that overtake wait for their turn.

    Iterating raises `RemoteError` when the handler failed, `DeadlineExceededError` when the next
    item does not come in time, `DecodeError` for an item that is no `returns`,
    `DisconnectedError` when the connection is lost, the agent has gone, or the bus is closed
    meanwhile. `NoRespondersError` comes when entering, from some transports with the first item.
    """

    def __init__(
        self,
        open_stream: Callable[[], AbstractAsyncContextManager[Pending]],
        control: Callable[[str, str, int | None], None],
        *,
        topic: str,
        returns: Any,
        credit: int,
        idle_timeout_s: float,
        due: float | None,
    ) -> None:
        self._open_stream = open_stream
        self._control = control
        self._topic = topic
        self._returns = returns
        self._credit = credit
        self._idle_timeout_s = idle_timeout_s
        self._due = due
        self._scope = AsyncExitStack()
        self._pending: Pending | None = None
        self._server = CONTROL_TOPIC
        self._early: dict[int, Envelope] = {}
        self._next = 0
        self._total: int | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        if self._pending is not None:
            raise StateError("a stream is read once: ask again with bus.request_stream(...)")
        self._pending = await self._scope.enter_async_context(self._open_stream())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._ended:
            self._control(CANCEL, self._server, None)
        await self._scope.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._pending is None:
            raise StateError("use the stream inside 'async with bus.request_stream(...) as items'")
        while self._next not in self._early:
            if self._ended or (self._total is not None and self._next >= self._total):
                self._ended = True
                raise StopAsyncIteration
            self._take(*await self._arrival(self._pending))
        item = self._early.pop(self._next)
        self._next += 1
        if self._next % max(1, self._credit // 2) == 0:
            self._control(CREDIT, self._server, max(1, self._credit // 2))
        return item.decode(self._returns)

    async def _arrival(self, pending: Pending) -> Arrival:
        due = asyncio.get_running_loop().time() + self._idle_timeout_s
        try:
            return await pending.next(due if self._due is None else min(due, self._due))
        except TimeoutError as error:
            raise DeadlineExceededError(
                topic=self._topic, timeout_s=self._idle_timeout_s
            ) from error

    def _take(self, reply: Envelope, reply_to: str | None) -> None:
        if reply_to is not None:
            self._server = reply_to
        if reply.type == ERROR:
            self._ended = True
            raise error_of(reply, self._topic)
        number = _number_of(reply)
        if reply.type == END:
            self._total = number
        elif number >= self._next:
            self._early[number] = reply


def _number_of(reply: Envelope) -> int:
    """Return the number in a stream; a plain reply is item 0 (spec/requests.md)."""
    if reply.sequence is None:
        return 0
    if not re.fullmatch("[0-9]{1,18}", reply.sequence):
        raise DecodeError(
            f"{reply.sequence!r} is no number of an item",
            reason="bad-attribute-value",
            field="sequence",
            topic=reply.topic,
            type=reply.type,
        )
    return int(reply.sequence)
