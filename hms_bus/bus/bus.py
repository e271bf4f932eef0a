"""`Bus`: what an agent holds to publish, subscribe, ask, serve and replay."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack, overload

from msgspec import UNSET

from hms_bus.abc import Durable, Ending, EventLog, Expect, Overflow, Receipt, Selector
from hms_bus.bus import asking
from hms_bus.bus.composing import PublishOptions, SendOptions
from hms_bus.bus.declarations import (
    SERVICE_GROUP,
    Declarations,
    DurableSettings,
    make_durable,
    make_options,
)
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import Middleware, PublishMiddleware, check_middleware
from hms_bus.bus.opening import check_plugins, open_runtime
from hms_bus.bus.redelivery import Redelivery
from hms_bus.bus.requests import Reply, ReplyStream
from hms_bus.bus.running import run_until_signal
from hms_bus.bus.runtime import ErrorHook, Hooks, Runtime
from hms_bus.bus.stats import BusStats
from hms_bus.bus.subscribing import Subscribing
from hms_bus.bus.subscription import Options
from hms_bus.bus.waits import without_waiting
from hms_bus.config import BusConfig, load_config
from hms_bus.durations import Duration, Moment, parse_moment
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, StateError, UnsupportedError, UsageError
from hms_bus.topics import parse_pattern

T = TypeVar("T")
A = TypeVar("A")


class Bus:
    """One agent's access to the bus.

        bus = Bus("direct://", log="sqlite:events.db")

        @bus.subscribe("orders.{region}.created", group="billing")
        async def bill(order: Order, region: str) -> None: ...

        async with bus:
            await bus.publish("orders.eu.created", Order(...))

    Handlers are declared at any time; they run while the bus is open. Making a `Bus` does no I/O.
    Leaving the scope drains: nothing new is taken in (only handlers still publish and ask),
    handlers finish what was accepted, replies go out, then transport and log close. A bus may be
    opened again. All methods must be called on the event loop that opened it.

    Every method that sends raises `StateError` when the bus is not open, `TopicError` for what is
    no topic, `EncodeError` for an option or payload that has no form, `HopLimitError` when messages
    cause each other in a loop, and `QueueFullError` when a subscriber's policy is to refuse.
    """

    @overload
    def __init__(self, *, config: BusConfig) -> None: ...
    @overload
    def __init__(
        self,
        url: str = ...,
        *,
        codec: str = ...,
        log: str | None = ...,
        source: str | None = ...,
        logged: Iterable[str] = ...,
        routes: Mapping[str, str] = ...,
        request_timeout_s: float = ...,
        drain_timeout_s: float = ...,
        max_hops: int = ...,
        max_queue: int = ...,
        max_emits: int = ...,
        expose_tracebacks: bool = ...,
    ) -> None: ...
    def __init__(
        self, url: str | None = None, *, config: BusConfig | None = None, **settings: Any
    ) -> None:
        """Make a bus from settings or a whole `BusConfig`. Raises `ConfigError`; does no I/O."""
        given = settings if url is None else {"url": url, **settings}
        if config is None:
            config = load_config(given, environment={})
        elif given:
            raise ConfigError(
                f"config= and {', '.join(given)} were given: put all into the configuration, or "
                "use Bus.from_config(…)"
            )
        check_plugins(config)
        self.config = config
        self.source = config.source or _default_source()
        self._hooks = Hooks()
        self._declarations = Declarations(self)
        self._runtime: Runtime | None = None
        self._scope: AbstractAsyncContextManager[Runtime] | None = None

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        /,
        *,
        environment: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """Make a bus from a TOML file or a mapping, the environment, and overrides.

        Precedence and keys stand in `hms_bus.config`. Raises `ConfigError`.
        """
        return cls(config=load_config(source, environment=environment, **overrides))

    # -- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._scope is not None:
            is_closing = self._runtime is not None and self._runtime.draining
            state = "still being closed" if is_closing else "open already"
            raise StateError(f"the bus is {state}: one 'async with' at a time")
        self._scope = open_runtime(self.config, self.source, self._hooks, self._declarations.made)
        try:
            self._runtime = await self._scope.__aenter__()
            self._runtime.begin()
        except BaseException:
            self._scope = None
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._scope is None or self._runtime is None or self._runtime.draining:
            return
        try:
            await self._scope.__aexit__(None, None, None)
        finally:  # not before: a bus that is being drained must not be opened
            self._scope = self._runtime = None

    def run(self, main: Callable[[], Awaitable[object]] | None = None) -> None:
        """Open the bus and run `main()`, or serve until SIGINT or SIGTERM; then drain.

        For an agent's entry point: `bus.run()` for one that only answers, `bus.run(main)` for one
        that starts something itself. A signal cancels `main`. On `replay://` one without `main`
        ends with the replay. Raises what `main` raises, why a replay ended before its end, and
        `StateError` inside a running event loop.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - the public one raises
            raise StateError("an event loop is running already: use 'async with bus:' in it")

        asyncio.run(run_until_signal(self, main or self._until_over))

    async def _until_over(self) -> None:
        """Wait until nothing more will come (a replay is over), else for ever. Raises why."""
        ends = [
            link.transport.over
            for link in self._opened().links
            if isinstance(link.transport, Ending) and link.transport.over is not None
        ]
        if not ends:
            await asyncio.get_running_loop().create_future()
        await asyncio.gather(*map(asyncio.shield, ends))

    @property
    def is_open(self) -> bool:
        """Whether the bus is between the start and the end of its scope."""
        return self._runtime is not None

    @property
    def log(self) -> EventLog:
        """The open log. Raises `UnsupportedError` when the bus has none."""
        log = self._opened().log
        if log is None:
            raise UnsupportedError("a log", f"Bus({self.config.url!r})", "pass log='sqlite:run.db'")
        return log

    def stats(self) -> BusStats:
        """Return what the bus and its subscriptions have done since it was opened."""
        return self._opened().stats()

    def _opened(self) -> Runtime:
        if self._runtime is None:
            raise StateError("the bus is not open: use it inside 'async with bus:'")
        return self._runtime

    def _sending(self) -> Runtime:
        """Return the runtime, if what is sent now is still taken in."""
        runtime = self._opened()
        if runtime.draining:
            runtime.check_intake()
        return runtime

    # -- publishing ----------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        data: Any = UNSET,
        *,
        expect: Expect = "any",
        **options: Unpack[SendOptions],
    ) -> Receipt:
        """Publish one message; return once every subscriber has room for it.

        On a logged topic the message is durable first, and delivered after. `expect` then makes
        the append conditional (`ConflictError`). With `delay` or `at` the log keeps the message and
        it is sent then, see `schedule`. Handlers have not run yet when this returns. A
        cancelled call may or may not have published.
        """
        runtime = self._runtime or self._opened()
        send = runtime.quick.get(topic)
        if send is None or options or expect != "any":
            return await runtime.publish(topic, data, expect, options)
        envelope = runtime.compose(topic, data)
        runtime.published += 1
        room = send(envelope)
        if room is not None:
            await room
        return Receipt(envelope.id)

    async def publish_many(
        self, messages: Iterable[tuple[str, Any]], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Publish pairs of topic and payload in order; a log appends all or none, as neighbours."""
        if isinstance(messages, Mapping):
            raise UsageError("publish_many takes pairs of topic and payload: pass .items()")
        runtime = self._sending()
        await runtime.settle()
        envelopes = [runtime.composer.plain(topic, data) for topic, data in messages]
        return await runtime.send_batch(envelopes, expect=expect)

    async def schedule(
        self,
        name: str,
        topic: str,
        data: Any = UNSET,
        *,
        cron: str | None = None,
        timezone: str = "UTC",
        **options: Unpack[SendOptions],
    ) -> Receipt:
        """Publish one message later: once (`at`, or `delay` from now), or as often as `cron` says.

        The log keeps the schedule, so it outlives this process: the hub that keeps the log, else a
        bus that has it open, sends the message when it is due, late if there was none. A message is
        kept once, however often sending it is tried; of the times of `cron`
        (minute, hour, day, month, weekday in `timezone`) that nobody was there for, it is sent for
        the last. A schedule replaces the one of the same `name`, a topic's token. The receipt has
        the position of the schedule, and the message's id where there is one message.

        Raises `UnsupportedError` without a log, `ConfigError` for a name or time that is none.
        """
        runtime = self._sending()
        await runtime.settle()
        when = {"at": options.pop("at", None), "delay": options.pop("delay", None)}
        return await runtime.schedule(
            name, topic, data, options, cron=cron, timezone=timezone, **when
        )

    async def unschedule(self, name: str) -> None:
        """End the schedule of that name; one that is not there (any more) ends nothing."""
        runtime = self._sending()
        await runtime.settle()
        await runtime.unschedule(name)

    def emit(self, topic: str, data: Any = UNSET, **options: Unpack[PublishOptions]) -> None:
        """Publish without waiting: neither for the log nor for subscribers that are busy.

        Emitted messages keep their order; one that still waits may be overtaken by what is
        published after it. What fails later is logged, not raised; leaving the bus waits for it.
        Raises `QueueFullError` when `max_emits` messages already wait.
        """
        runtime = self._sending()
        envelope = runtime.compose_with(topic, data, options)
        send = runtime.quick.get(topic) or runtime.learn_quick(topic)
        if send is None or runtime.emits:
            runtime.emits.add(envelope, hold_back=bool(runtime.opening))
            return
        if runtime.background:
            runtime.background.check_room(topic)
        runtime.published += 1
        room = without_waiting(send, envelope)
        if room is not None:
            runtime.in_background(room, topic)

    async def forward(self, envelope: Envelope) -> Receipt:
        """Publish an envelope with its own id, source, time and causes: for bridges and tools.

        Only its `hops` are one more, and more than those of the message that is being handled: else
        two bridges that are connected to each other would forward for ever.
        """
        if not isinstance(envelope, Envelope):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"forward takes an Envelope, not {type(envelope).__name__}")
        runtime = self._sending()
        await runtime.settle()
        return await runtime.send(runtime.composer.forward(envelope))

    # -- asking --------------------------------------------------------------------------------

    @overload
    async def request(
        self,
        topic: str,
        data: Any = ...,
        *,
        timeout: Duration | None = ...,
        **options: Unpack[PublishOptions],
    ) -> Any: ...
    @overload
    async def request(
        self,
        topic: str,
        data: Any = ...,
        *,
        returns: type[A],
        timeout: Duration | None = ...,
        **options: Unpack[PublishOptions],
    ) -> A: ...
    def request(
        self,
        topic: str,
        data: Any = UNSET,
        *,
        returns: Any = Any,
        timeout: Duration | None = None,
        **options: Unpack[PublishOptions],
    ) -> Coroutine[Any, Any, Any]:
        """Ask one agent and return its answer as `returns` (builtins without).

        The deadline is `timeout`, by default `request_timeout_s`, and never later than that of the
        request which is being handled; it travels along, and the agent is cancelled at it. Raises
        `NoRespondersError` at once when nobody serves the topic, `DeadlineExceededError`,
        `RemoteError` with the agent's status, `DecodeError` for an answer that is no `returns`,
        `DisconnectedError` when the connection is lost: then the outcome is unknown. When this call
        is cancelled, the agent's handler is.

        Takes the options of `publish`, but `timeout` in place of `ttl` and `expirytime`
        (`EncodeError`), and no `id` of a request that still waits for its answer (`UsageError`).
        """
        return asking.request(self._sending(), topic, data, returns, timeout, options)

    async def request_many(
        self,
        topic: str,
        data: Any = UNSET,
        *,
        returns: Any = Any,
        count: int | None = None,
        timeout: Duration | None = None,
        **options: Unpack[PublishOptions],
    ) -> list[Reply[Any]]:
        """Ask all agents that serve the topic in no group, and one of each group; return replies.

        Returns after `count` replies, or at the deadline with those that came, in order of arrival;
        never raises `DeadlineExceededError`. An agent's error is a `Reply` with `error`.
        """
        return await asking.request_many(
            self._sending(), topic, data, returns, count, timeout, options
        )

    @overload
    def request_stream(
        self,
        topic: str,
        data: Any = ...,
        *,
        credit: int = ...,
        idle_timeout: Duration | None = ...,
        timeout: Duration | None = ...,
        **options: Unpack[PublishOptions],
    ) -> ReplyStream[Any]: ...
    @overload
    def request_stream(
        self,
        topic: str,
        data: Any = ...,
        *,
        returns: type[A],
        credit: int = ...,
        idle_timeout: Duration | None = ...,
        timeout: Duration | None = ...,
        **options: Unpack[PublishOptions],
    ) -> ReplyStream[A]: ...
    def request_stream(
        self,
        topic: str,
        data: Any = UNSET,
        *,
        returns: Any = Any,
        credit: int = 64,
        idle_timeout: Duration | None = None,
        timeout: Duration | None = None,
        **options: Unpack[PublishOptions],
    ) -> ReplyStream[Any]:
        """Ask one agent for a stream of items: `async with bus.request_stream(…) as items`.

        At most `credit` items are under way. `idle_timeout` bounds the wait for each item (by
        default `request_timeout_s`), `timeout` the whole stream (by default: unbounded).
        """
        return asking.request_stream(
            self._sending(), topic, data, returns, credit, idle_timeout, timeout, options
        )

    # -- listening -----------------------------------------------------------------------------

    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        concurrency: int = 1,
        max_queue: int | None = None,
        overflow: Overflow = "block",
        middleware: Iterable[Middleware] = (),
        durable: str | None = None,
        **delivery: Unpack[DurableSettings],
    ) -> Subscribing:
        """Handle messages that match `pattern`: a decorator, or a scope with a stream.

        With `group`, one of all its members gets each message. `concurrency` messages are handled
        at once, those with one `partitionkey` in order. A queue that holds `max_queue` messages
        makes publishers wait, or does what `overflow` says. What a handler raises is logged and
        given to `on_error`; it ends nothing else.

        With `durable`, a name, the messages come from the log, at least once, whatever ends
        meanwhile (docs/guide/durable.md): from where the durable stands, or from `start` when it is
        new. A message is settled when the handler returns, or by itself with `ack="manual"`; one
        whose handler raises comes again, see `DurableSettings`. Opening raises `UnsupportedError`
        without a log, `UsageError` for a durable that exists with another pattern or group.

        A stream has one reader: `concurrency`, `middleware` and `durable` are for handlers
        (`ConfigError`).
        """
        options = self._options(group, concurrency, max_queue, overflow)
        for name in delivery.keys() - DurableSettings.__annotations__.keys():
            raise TypeError(f"subscribe() got an unexpected keyword argument {name!r}")
        if durable is None and delivery:
            raise ConfigError(f"{', '.join(delivery)}: for durable subscriptions, name a durable=")
        named = None if durable is None else make_durable(durable, pattern, group, delivery)
        return self._subscribing(pattern, options, middleware, serves=False, durable=named)

    def serve(
        self,
        pattern: str,
        *,
        group: str | None = SERVICE_GROUP,
        concurrency: int = 64,
        max_queue: int | None = None,
        overflow: Overflow = "error",
        middleware: Iterable[Middleware] = (),
    ) -> Callable[[T], T]:
        """Answer requests that match `pattern` with what the decorated function returns.

        An async generator answers a `request_stream` with its items. Members of one `group` share
        the requests; with `group=None` each gets every request (`request_many`). A `StatusError`
        answers with its status, any other exception as `UNKNOWN`.
        """
        options = self._options(group, concurrency, max_queue, overflow)
        # Of the two uses of what this returns only the decorator is offered.
        return self._subscribing(pattern, options, middleware, serves=True)  # pyright: ignore[reportReturnType]

    def _options(
        self, group: str | None, concurrency: int, max_queue: int | None, overflow: Overflow
    ) -> Options:
        limit = self.config.max_queue if max_queue is None else max_queue
        return make_options(
            group=group, concurrency=concurrency, max_queue=limit, overflow=overflow
        )

    def _subscribing(
        self,
        pattern: str,
        options: Options,
        middleware: Iterable[Middleware],
        *,
        serves: bool,
        durable: tuple[Durable, Redelivery] | None = None,
    ) -> Subscribing:
        return Subscribing(
            pattern,
            options,
            check_middleware(middleware),
            serves=serves,
            durable=durable,
            declare=self._declare,
            runtime=self._opened,
        )

    def _declare(self, pattern: str, handler: Callable[..., Any], **how: Any) -> None:
        declaration = self._declarations.declare(pattern, handler, **how)
        if self._runtime is not None:
            self._runtime.open_handler_soon(declaration)

    async def unsubscribe(self, handler: Callable[..., Any]) -> None:
        """End every subscription of a handler that `subscribe` or `serve` has declared.

        Nothing more is taken in for it, and the bus does not subscribe it again when it is opened
        anew. Returns when it has finished what it had accepted; at once when it is the handler
        itself that calls this. When the call is cancelled, the handler ends all the same.

        Raises `UsageError` when the handler is not declared (any more).
        """
        declarations = self._declarations.forget(handler)
        if self._runtime is not None:
            await self._runtime.settle()
            for declaration in declarations:
                await self._runtime.close_handler(declaration)

    def middleware(self, middleware: Middleware) -> Middleware:
        """Wrap every handler that is opened from now on; the first one added is the outermost."""
        self._hooks.middleware += check_middleware([middleware])
        return middleware

    def publish_middleware(self, middleware: PublishMiddleware) -> PublishMiddleware:
        """Wrap every publish and request; the first one added is the outermost."""
        self._hooks.publish_middleware += check_middleware([middleware])
        if self._runtime is not None:
            self._runtime.quick.clear()
        return middleware

    def on_error(self, hook: ErrorHook) -> ErrorHook:
        """Call `hook(error, message)` for every exception of a handler; it may be async."""
        self._hooks.errors.append(hook)
        return hook

    # -- the past ------------------------------------------------------------------------------

    async def replay(
        self,
        pattern: str = ">",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        after: int = 0,
        types: str | Iterable[str] = (),
        correlation: str | None = None,
        source: str | None = None,
        backwards: bool = False,
        limit: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Message]:
        """Yield what the log holds on matching topics, in order, each with its position.

        `since` and `until` are moments (aware datetime, RFC 3339 text, or a duration before now),
        `after` a position to start behind. `follow` goes on with what is appended, without gap or
        duplicate. Raises `UnsupportedError` when the bus has no log.
        """
        selector = Selector(
            pattern=pattern,
            first=after + 1,
            since_ns=None if since is None else parse_moment(since),
            until_ns=None if until is None else parse_moment(until),
            types=frozenset([types] if isinstance(types, str) else types),
            correlation=correlation,
            source=source,
            backwards=backwards,
            limit=limit,
        )
        matcher = parse_pattern(pattern)
        async for record in self.log.read(selector, follow=follow):
            envelope = record.envelope
            yield Message(
                envelope,
                captures=matcher.capture(envelope.topic) if matcher.captures else None,
                position=record.position,
                recorded_ns=record.recorded_ns,
            )


def _default_source() -> str:
    program = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] not in {"", "-c"} else "python"
    return f"/agents/{program or 'python'}/{os.urandom(4).hex()}"
