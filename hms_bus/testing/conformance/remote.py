"""A publisher that lives in the other process, as far as checks make use of one."""

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, NoReturn, Self, TypeVar

from msgspec.structs import replace

from hms_bus.abc import Capability, Head, Receipt, Record, Selector, Verification
from hms_bus.bus import Bus, Message, Reply
from hms_bus.envelope import Envelope
from hms_bus.errors import StateError, UnsupportedError, UsageError
from hms_bus.testing.conformance import calls
from hms_bus.testing.conformance.apart import Line

T = TypeVar("T")


class LocalBus(Bus):
    """A bus that knows whether it was given code: handlers, middleware or error hooks."""

    @property
    def has_code(self) -> bool:
        """Whether this process is part of what the bus does."""
        hooks = self._hooks
        return bool(
            self._declarations.made or hooks.middleware or hooks.publish_middleware or hooks.errors
        )


class Publisher:
    """A bus that moves to the other process when it is opened, unless it was given code before.

    Code cannot be sent: a bus that has some stays in this process for good, and one that has moved
    refuses it with `UsageError`.
    """

    def __init__(self, bus: LocalBus, line: Line) -> None:
        self._bus = bus
        self._line = line
        self._place: LocalBus | RemoteBus = bus

    async def __aenter__(self) -> Self:
        if self._place is self._bus and not self._bus.has_code:
            self._place = RemoteBus(self._bus, self._line)
        await self._place.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._place.__aexit__(*exc_info)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)


class RemoteBus:
    """A bus in the other process. Contract: `hms_bus.Bus`, but for what is said here.

    It takes no code and tells no `stats`. It does not know what is being handled in this process:
    what it publishes names no cause. What goes wrong with an `emit` is raised when the bus is left:
    to tell it at once, `emit` would have to wait. Arguments are checked when the call is awaited,
    or the scope entered.
    """

    def __init__(self, bus: Bus, line: Line) -> None:
        self.config = replace(bus.config, source=bus.source)
        self.source = bus.source
        self.is_open = False
        self._line = line
        self._number = line.keep()
        self._is_made = False
        self._log: RemoteLog | UnsupportedError | None = None
        self._failures: list[BaseException] = []

    # -- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if not self._is_made:
            await self._line.call(calls.WORKER, "make", self.config, keep=self._number)
            self._is_made = True
        await self._line.call(self._number, "__aenter__", keep=self._number)
        self._line.worker.opened += 1
        self._log = await self._find_log()
        self.is_open = True
        return self

    async def _find_log(self) -> "RemoteLog | UnsupportedError":
        try:
            claims = await self._line.call(calls.WORKER, "look", self._number, "log.capabilities")
        except UnsupportedError as error:
            return error
        return RemoteLog(self._line, self._number, claims)

    async def __aexit__(self, *exc_info: object) -> None:
        await self._call("__aexit__", None, None, None)
        self.is_open = False
        if self._failures and exc_info[0] is None:
            raise self._failures[0]

    @property
    def log(self) -> "RemoteLog":
        """The open log. Raises `UnsupportedError` when the bus has none."""
        self._check_open()
        if isinstance(self._log, RemoteLog):
            return self._log
        raise self._log or StateError("the bus has not been opened yet")

    # -- publishing and asking -----------------------------------------------------------------

    async def publish(self, *args: Any, **options: Any) -> Receipt:
        """Publish one message."""
        return await self._call("publish", *args, **options)

    async def publish_many(
        self, messages: Sequence[tuple[str, Any]], **options: Any
    ) -> list[Receipt]:
        """Publish several messages."""
        return await self._call("publish_many", messages, **options)

    def emit(self, *args: Any, **options: Any) -> None:
        """Publish without waiting."""
        self._check_open()
        self._line.start(self._number, "emit", *args, **options).add_done_callback(self._note)

    async def forward(self, envelope: Envelope) -> Receipt:
        """Publish an envelope as it is."""
        return await self._call("forward", envelope)

    async def request(self, *args: Any, **options: Any) -> Any:
        """Ask one agent."""
        return await self._call("request", *args, **options)

    async def request_many(self, *args: Any, **options: Any) -> list[Reply[Any]]:
        """Ask several agents."""
        return await self._call("request_many", *args, **options)

    def request_stream(self, *args: Any, **options: Any) -> "RemoteScope":
        """Ask one agent for a stream of items."""
        return RemoteScope(self._line, self._number, "request_stream", args, options)

    # -- listening -----------------------------------------------------------------------------

    def subscribe(self, *args: Any, **options: Any) -> "RemoteScope":
        """Return a scope with a stream of messages."""
        return RemoteScope(self._line, self._number, "subscribe", args, options)

    def replay(self, *args: Any, **options: Any) -> "RemoteIterator[Message]":
        """Yield what the log holds."""
        return _iterate(self._line, self._number, "replay", args, options)

    # -- what stays in this process --------------------------------------------------------------

    def serve(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a handler."""
        _refuse_code()

    def middleware(self, _: Any) -> NoReturn:
        """Refuse middleware."""
        _refuse_code()

    def publish_middleware(self, _: Any) -> NoReturn:
        """Refuse middleware."""
        _refuse_code()

    def on_error(self, _: Any) -> NoReturn:
        """Refuse a hook."""
        _refuse_code()

    def stats(self) -> NoReturn:
        """Refuse: an answer takes a while, and the method has none to wait in."""
        raise UnsupportedError("stats", "a bus in another process", "ask a bus of this process")

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        return self._line.call(self._number, method, *args, **options)

    def _check_open(self) -> None:
        if not self.is_open:
            raise StateError("the bus is not open: use it inside 'async with bus:'")

    def _note(self, emitted: asyncio.Future[Any]) -> None:
        if not emitted.cancelled() and (error := emitted.exception()) is not None:
            self._failures.append(error)


def _refuse_code() -> NoReturn:
    raise UsageError(
        "code cannot be sent to another process: declare handlers and middleware before the "
        "publisher is opened, and it stays in this one; or take subject.bus()"
    )


class RemoteScope:
    """A subscription, or the items that answer a request, of a bus in the other process."""

    def __init__(
        self, line: Line, bus: int, method: str, args: Sequence[Any], options: dict[str, Any]
    ) -> None:
        self._line = line
        self._bus = bus
        self._method = method
        self._args = args
        self._options = options
        self._number = line.keep()

    def __call__(self, _: Any) -> NoReturn:
        """Refuse a handler."""
        _refuse_code()

    async def __aenter__(self) -> "RemoteIterator[Any]":
        call, items = self._line.call, self._line.keep()
        await call(self._bus, self._method, *self._args, keep=self._number, **self._options)
        await call(self._number, "__aenter__", keep=items)
        return RemoteIterator(self._line, items)

    async def __aexit__(self, *exc_info: object) -> None:
        await self._line.call(self._number, "__aexit__", None, None, None)


class RemoteIterator(Generic[T]):
    """An async iterator in the other process; each item is asked for by itself.

    `made` is the call that makes it there, if that is still under way.
    """

    def __init__(self, line: Line, number: int, made: asyncio.Future[Any] | None = None) -> None:
        self._line = line
        self._number = number
        self._made = made

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._made is not None:
            await asyncio.wait([self._made])
            self._made.result()
        return await self._line.call(self._number, "__anext__")


def _iterate(
    line: Line, target: int, method: str, args: Sequence[Any], options: dict[str, Any]
) -> RemoteIterator[Any]:
    number = line.keep()
    return RemoteIterator(line, number, line.start(target, method, *args, keep=number, **options))


class RemoteLog:
    """The log of a bus in the other process. Contract: `hms_bus.abc.EventLog`.

    What is wrong with a selector is raised when the first record is asked for.
    """

    def __init__(self, line: Line, bus: int, capabilities: frozenset[Capability]) -> None:
        self.capabilities = capabilities
        self._line = line
        self._bus = bus

    async def append(self, envelopes: Sequence[Envelope], **options: Any) -> list[Receipt]:
        """Append all or none."""
        return await self._line.call(self._bus, "log.append", list(envelopes), **options)

    def read(self, selector: Selector, **options: Any) -> RemoteIterator[Record]:
        """Yield the selected records."""
        return _iterate(self._line, self._bus, "log.read", [selector], options)

    async def head(self) -> Head:
        """Return the end of what is durable."""
        return await self._line.call(self._bus, "log.head")

    async def verify(self, **options: Any) -> Verification:
        """Read everything and check it; without `progress`, which is code."""
        return await self._line.call(self._bus, "log.verify", **options)
