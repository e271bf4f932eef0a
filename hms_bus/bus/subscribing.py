"""What `bus.subscribe` returns: a decorator for a handler, or a scope with a stream of messages."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, NoReturn, TypeVar

from hms_bus.abc import Durable
from hms_bus.bus import context
from hms_bus.bus.injection import local_names
from hms_bus.bus.middleware import Middleware
from hms_bus.bus.redelivery import Redelivery
from hms_bus.bus.runtime import Runtime
from hms_bus.bus.streams import MessageStream
from hms_bus.bus.subscription import Options
from hms_bus.errors import ConfigError, StateError
from hms_bus.topics import parse_pattern

H = TypeVar("H", bound=Callable[..., Any])


class Subscribing:
    """A decorator or a scope, by how it is used.

        @bus.subscribe("orders.*")              # a handler, for as long as the bus is open
        async def bill(order: Order): ...

        async with bus.subscribe("orders.*") as messages:   # a stream, for as long as the scope
            async for message in messages: ...

    The decorator returns the function unchanged, so it can still be called and tested by itself.
    """

    def __init__(
        self,
        pattern: str,
        options: Options,
        middleware: Sequence[Middleware],
        *,
        serves: bool,
        durable: tuple[Durable, Redelivery] | None,
        declare: Callable[..., None],
        runtime: Callable[[], Runtime],
    ) -> None:
        if callable(pattern):  # a decorator without parentheses, which would do nothing at all
            word = "serve" if serves else "subscribe"
            raise ConfigError(f"the pattern is missing: write @bus.{word}('orders.*')")
        self._pattern = pattern
        self._options = options
        self._middleware = middleware
        self._serves = serves
        self._durable = durable
        self._declare = declare
        self._runtime = runtime
        self._scope = AsyncExitStack()

    def __call__(self, handler: H) -> H:
        """Declare `handler`. Raises `ConfigError` when its signature cannot be filled."""
        self._declare(
            self._pattern,
            handler,
            options=self._options,
            middleware=self._middleware,
            serves=self._serves,
            local=local_names(1),
            durable=self._durable,
        )
        return handler

    def __aiter__(self) -> NoReturn:
        raise StateError(
            f"use the stream in its scope: async with bus.subscribe({self._pattern!r}) as messages"
        )

    async def __aenter__(self) -> MessageStream:
        self._check_stream()
        runtime = self._runtime()
        await runtime.settle()
        pattern = parse_pattern(self._pattern)
        stream = MessageStream(pattern, self._options, runtime.loop)
        cause = context.cause.get()
        self._scope.callback(context.cause.set, cause)
        self._scope.callback(stream.close)
        self._scope.push_async_callback(runtime.close_stream, stream)
        try:
            await runtime.open_stream(stream, self._options.group)
        except BaseException:
            await self._scope.aclose()
            raise
        return stream

    async def __aexit__(self, *exc_info: object) -> None:
        await self._scope.aclose()

    def _check_stream(self) -> None:
        if self._serves:
            raise ConfigError("bus.serve needs a handler: a stream does not serve, it only reads")
        if self._durable is not None:
            raise ConfigError(
                "a durable subscription needs a handler, whose end says what was handled: decorate "
                "one, or read the log with `async for … in bus.replay(…, follow=True)`"
            )
        for name, is_given in (
            ("middleware", bool(self._middleware)),
            (f"concurrency={self._options.concurrency}", self._options.concurrency != 1),
        ):
            if is_given:
                raise ConfigError(f"a stream has one reader and no handler: leave out {name}")
