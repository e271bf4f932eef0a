"""Requests as a caller makes them: one answer, many, or a stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

from hms_bus.bounces import ERROR
from hms_bus.bus import context
from hms_bus.bus.composing import PublishOptions, expiry_after
from hms_bus.bus.protocol import CANCEL, CONTROL_TOPIC, error_of
from hms_bus.bus.requests import Pending, Reply, ReplyStream
from hms_bus.bus.routing import Link
from hms_bus.bus.runtime import Runtime
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    ConfigError,
    DeadlineExceededError,
    DecodeError,
    DisconnectedError,
    EncodeError,
    NoRespondersError,
)


async def request(  # noqa: PLR0917 - the caller's arguments, passed on
    runtime: Runtime,
    topic: str,
    data: Any,
    returns: Any,
    timeout: Duration | None,
    options: PublishOptions,
) -> Any:
    """Ask one agent; the contract is `Bus.request`."""
    if runtime.opening:
        await runtime.settle()
    timeout_s, due = _deadline(runtime, timeout)
    envelope = _compose(runtime, topic, data, options, timeout_s)
    route = runtime.routes.get(topic) or runtime.router.route(topic)
    inbox = route.link.inbox
    runtime.requests += 1
    with Pending(inbox, envelope.id, runtime.deadlines) as replies:
        try:
            if route.log is not None or runtime.publish_middleware:
                async with asyncio.timeout_at(due):
                    await runtime.send(envelope, asked=replies)
            elif (room := route.publish(envelope, reply_to=inbox.address)) is not None:
                replies.watch(room)
            if not replies.arrived:
                await replies.expect(due)
        except TimeoutError:
            raise DeadlineExceededError(topic=topic, timeout_s=timeout_s) from None
        except (asyncio.CancelledError, DisconnectedError):
            runtime.control(route.link, envelope, CANCEL, CONTROL_TOPIC, None)
            raise
    reply = replies.arrived[0][0]
    if reply.type == ERROR:
        raise error_of(reply, topic)
    return reply.data if type(reply.data) is returns else reply.decode(returns)


def _deadline(runtime: Runtime, timeout: Duration | None) -> tuple[float, float]:
    """Return the seconds that are left, and when they end on the loop's clock."""
    now = runtime.loop.time()
    timeout_s = runtime.config.request_timeout_s if timeout is None else parse_duration(timeout)
    due = now + timeout_s
    outer = context.deadline.get()
    if outer is not None and not outer.ended and outer.due < due:
        return max(outer.due - now, 0.0), outer.due
    return timeout_s, due


def _stream_deadline(
    runtime: Runtime, timeout: Duration | None
) -> tuple[float | None, float | None]:
    """As `_deadline`, but nothing bounds a stream unless `timeout` or an outer request does."""
    if timeout is not None:
        return _deadline(runtime, timeout)
    outer = context.deadline.get()
    if outer is None or outer.ended:
        return None, None
    return max(outer.due - runtime.loop.time(), 0.0), outer.due


def _compose(  # noqa: PLR0917 - the caller's arguments, passed on
    runtime: Runtime,
    topic: str,
    data: Any,
    options: PublishOptions,
    timeout_s: float | None,
    credit: int | None = None,
) -> Envelope:
    expirytime = None if timeout_s is None else expiry_after(timeout_s)
    if not options:
        return runtime.compose(topic, data, expirytime, credit)
    for name in _EXPIRY:
        if options.get(name) is not None:
            raise EncodeError(
                f"{name!r} is no option of a request: its deadline is; use timeout=", field=name
            )
    envelope = runtime.composer.with_options(topic, data, options)
    return envelope.replace(expirytime=expirytime, credit=credit)


_EXPIRY = ("ttl", "expirytime")


async def request_many(  # noqa: PLR0917 - the caller's arguments, passed on
    runtime: Runtime,
    topic: str,
    data: Any,
    returns: Any,
    count: int | None,
    timeout: Duration | None,
    options: PublishOptions,
) -> list[Reply[Any]]:
    """Ask several agents; the contract is `Bus.request_many`."""
    await runtime.settle()
    timeout_s, due = _deadline(runtime, timeout)
    envelope = _compose(runtime, topic, data, options, timeout_s)
    link = runtime.router.route(topic).link
    runtime.requests += 1
    answers: list[Reply[Any]] = []
    with (
        Pending(link.inbox, envelope.id, runtime.deadlines) as replies,
        _cancelling(runtime, link, envelope),
        contextlib.suppress(TimeoutError),
    ):
        async with asyncio.timeout_at(due):
            await runtime.send(envelope, asked=replies)
        while count is None or len(answers) < count:
            reply, _ = await replies.next(due)
            answers.append(_read(reply, topic, returns))
    return answers


@contextlib.contextmanager
def _cancelling(runtime: Runtime, link: Link, request: Envelope) -> Generator[None]:
    """Tell who may be serving `request` when its caller is cancelled, or its bus closed."""
    try:
        yield
    except (asyncio.CancelledError, DisconnectedError):
        runtime.control(link, request, CANCEL, CONTROL_TOPIC, None)
        raise


def _read(reply: Envelope, topic: str, returns: Any) -> Reply[Any]:
    """Return one of the replies. Raises `NoRespondersError` where there is nobody to reply."""
    if reply.type == ERROR:
        error = error_of(reply, topic)
        if isinstance(error, NoRespondersError):
            raise error
        return Reply(source=reply.source, error=error)
    try:
        return Reply(source=reply.source, value=reply.decode(returns))
    except DecodeError as error:
        return Reply(source=reply.source, error=error)


def request_stream(  # noqa: PLR0917 - the caller's arguments, passed on
    runtime: Runtime,
    topic: str,
    data: Any,
    returns: Any,
    credit: int,
    idle_timeout: Duration | None,
    timeout: Duration | None,
    options: PublishOptions,
) -> ReplyStream[Any]:
    """Ask one agent for a stream; the contract is `Bus.request_stream`."""
    if credit < 1:
        raise ConfigError(f"credit is {credit}, at least 1 item must be under way")
    timeout_s, due = _stream_deadline(runtime, timeout)
    idle_timeout_s = (
        runtime.config.request_timeout_s if idle_timeout is None else parse_duration(idle_timeout)
    )
    patience_s = idle_timeout_s if timeout_s is None else min(timeout_s, idle_timeout_s)
    envelope = _compose(runtime, topic, data, options, timeout_s, credit)
    link = runtime.router.route(topic).link

    @asynccontextmanager
    async def open_stream() -> AsyncGenerator[Pending]:
        await runtime.settle()
        runtime.requests += 1
        with Pending(link.inbox, envelope.id, runtime.deadlines) as replies:
            with _cancelling(runtime, link, envelope):
                try:
                    async with asyncio.timeout(patience_s):
                        await runtime.send(envelope, asked=replies)
                except TimeoutError:
                    control(CANCEL, CONTROL_TOPIC, None)
                    raise DeadlineExceededError(topic=topic, timeout_s=patience_s) from None
            yield replies

    def control(kind: str, to: str, more: int | None) -> None:
        runtime.control(link, envelope, kind, to, more)

    return ReplyStream(
        open_stream,
        control,
        topic=topic,
        returns=returns,
        credit=credit,
        idle_timeout_s=idle_timeout_s,
        due=due,
    )
