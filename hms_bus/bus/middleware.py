"""Middleware: functions from handler to handler, and their twins for publishers.

    @bus.middleware
    def timed(handler):
        async def call(message):
            with histogram.time():
                return await handler(message)
        return call

The first one added is the outermost. A handler's return value is the reply to a request.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from hms_bus.abc import Receipt
from hms_bus.bus.message import Message
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, ConfigError

Handler = Callable[[Message], Awaitable[Any]]
Middleware = Callable[[Handler], Handler]

Publish = Callable[[Envelope], Awaitable[Receipt]]
PublishMiddleware = Callable[[Publish], Publish]

F = TypeVar("F")
M = TypeVar("M", Middleware, PublishMiddleware)


def compose(middleware: Iterable[Callable[[F], F]], innermost: F) -> F:
    """Wrap `innermost`; the first of `middleware` becomes the outermost."""
    chain = innermost
    for wrap in reversed(list(middleware)):
        chain = wrap(chain)
    return chain


def retry(
    attempts: int = 3,
    *,
    backoff_s: float = 0.1,
    factor: float = 2.0,
    max_backoff_s: float = 30.0,
    jitter: float = 0.2,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Middleware:
    """Call the handler again when it raises one of `on`, up to `attempts` calls in all.

    Waits `backoff_s` before the second call, `factor` times as long before each further one, at
    most `max_backoff_s`, varied at random by the share `jitter`. A `BusError` that is not
    `retryable` is not tried again. The last error is raised as it came. Retries hold up the lane,
    so later messages keep their order.
    """
    if attempts < 1:
        raise ConfigError(f"retry needs at least 1 attempt, not {attempts}")

    def middleware(handler: Handler) -> Handler:
        async def call(message: Message) -> Any:
            wait_s = backoff_s
            for _ in range(attempts - 1):
                try:
                    return await handler(message)
                except on as error:
                    if not _may_succeed_later(error):
                        raise
                spread = random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - no secret
                await asyncio.sleep(wait_s * spread)
                wait_s = min(wait_s * factor, max_backoff_s)
            return await handler(message)

        return call

    return middleware


def _may_succeed_later(error: Exception) -> bool:
    return error.retryable if isinstance(error, BusError) else True


def timeout(limit: Duration) -> Middleware:
    """Cancel a handler that takes longer than `limit`; it then fails with `TimeoutError`.

    Raises `ConfigError` for what is no duration, or one that is over at once.
    """
    seconds = parse_duration(limit)
    if seconds <= 0:
        raise ConfigError(f"timeout({limit!r}) would cancel every handler at once")

    def middleware(handler: Handler) -> Handler:
        async def call(message: Message) -> Any:
            async with asyncio.timeout(seconds):
                return await handler(message)

        return call

    return middleware


def check_middleware(middleware: Iterable[M]) -> list[M]:
    """Return `middleware` as a list. Raises `ConfigError` for what cannot wrap a handler."""
    if callable(middleware):
        raise ConfigError(f"middleware={middleware!r}: give a list, [retry()] and not retry")
    given = list(middleware)
    for each in given:
        if not callable(each):
            raise ConfigError(
                f"{each!r} is no middleware: a function that takes a handler and returns one"
            )
    return given
