"""An open bus: everything that lives from `async with bus` to its end.

Close order: no new messages are taken in, handlers finish, replies and background sends go out,
then the transports close and last the log.
"""

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from hms_bus.abc import EventLog, Expect, Receipt, Sink, Transport, Unsubscribe
from hms_bus.attributes import check_attribute
from hms_bus.bus import context, protocol
from hms_bus.bus.composing import Composer, PublishOptions
from hms_bus.bus.deadlines import Deadlines
from hms_bus.bus.declarations import Declaration
from hms_bus.bus.injection import Signature
from hms_bus.bus.mailbox import Item
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import Handler, Middleware, PublishMiddleware, compose
from hms_bus.bus.publishing import Publisher
from hms_bus.bus.replying import ReplySender
from hms_bus.bus.requests import Inbox
from hms_bus.bus.routing import MAX_CACHED_TOPICS, Link, Router
from hms_bus.bus.serving import Service
from hms_bus.bus.sharing import shared_log
from hms_bus.bus.stats import BusStats
from hms_bus.bus.streams import MessageStream
from hms_bus.bus.subscription import Subscription, Work
from hms_bus.config import BusConfig
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    ConfigError,
    DecodeError,
    QueueFullError,
    StateError,
    StatusError,
    TopicError,
)
from hms_bus.ids import stamp
from hms_bus.plugins import get_codec, open_log, open_transport
from hms_bus.topics import Pattern, parse_pattern

logger = logging.getLogger("hms_bus")

ErrorHook = Callable[[BaseException, Message], Awaitable[None] | None]


class Hooks:
    """What the user added around handlers and publishers, before or while the bus runs."""

    def __init__(self) -> None:
        self.middleware: list[Middleware] = []
        self.publish_middleware: list[PublishMiddleware] = []
        self.errors: list[ErrorHook] = []


def check_plugins(config: BusConfig) -> None:
    """Find (and import) everything that `config` names. Raises `ConfigError`; opens nothing."""
    if config.source is not None:
        try:
            check_attribute("source", config.source)
        except DecodeError as error:
            raise ConfigError(f"source: {error}") from error
    codec = get_codec(config.codec)
    for url in (config.url, *config.routes.values()):
        open_transport(url, codec=codec)
    for pattern in (*config.routes, *config.logged):
        try:
            parse_pattern(pattern)
        except TopicError as error:
            raise ConfigError(f"routes or logged: {error}") from error
    if config.log is not None:
        open_log(config.log)


@asynccontextmanager
async def open_runtime(
    config: BusConfig, source: str, hooks: Hooks, declarations: Sequence[Declaration]
) -> AsyncGenerator["Runtime"]:
    """Open the log and the transports, subscribe, and close all in order when the scope ends."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(shared_log(config.log)) if config.log else None
        links = await _open_links(stack, config)
        runtime = Runtime(config, source, hooks, links, log)
        stack.callback(runtime.deadlines.close)
        try:
            await runtime.start(declarations)
            yield runtime
        finally:
            await runtime.stop()


async def _open_links(stack: AsyncExitStack, config: BusConfig) -> list[Link]:
    """Open each transport once, also when several routes lead to it; the default comes last."""
    codec = get_codec(config.codec)
    opened: dict[str, tuple[Transport, Inbox]] = {}
    for url in (*config.routes.values(), config.url):
        if url not in opened:
            transport = await stack.enter_async_context(open_transport(url, codec=codec))
            opened[url] = transport, Inbox(f"{protocol.INBOX_PREFIX}{stamp()[0]}")
    return [
        Link(
            url=url,
            transport=opened[url][0],
            inbox=opened[url][1],
            pattern=None if pattern is None else parse_pattern(pattern),
        )
        for pattern, url in [*config.routes.items(), (None, config.url)]
    ]


class Runtime:
    """The state of an open bus; made by `open_runtime`, used by `Bus`."""

    def __init__(
        self,
        config: BusConfig,
        source: str,
        hooks: Hooks,
        links: Sequence[Link],
        log: EventLog | None,
    ) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.links = list({link.url: link for link in links}.values())
        """One of those that share a transport and an inbox."""
        self.log = log or next((link.transport.log for link in links if link.transport.log), None)
        self.router = Router(links, log=log, logged=config.logged)
        self.composer = Composer(source=source, max_hops=config.max_hops)
        # The hot path's short cuts to the two above, and the topics whose messages need nothing but
        # their transport: no log, no middleware, and no subscription that is still being opened.
        self.quick: dict[str, Callable[[Envelope], Awaitable[None] | None]] = {}
        self.routes = self.router.routes
        self.compose = self.composer.plain
        self.deadlines = Deadlines(self.loop)
        self.published = 0
        self.requests = 0
        self.emits = 0
        self.opening: set[asyncio.Task[Subscription]] = set()
        self.publish_middleware = hooks.publish_middleware
        self._hooks = hooks
        self.base_context = contextvars.copy_context()
        self.publisher = Publisher(self.router, hooks.publish_middleware, self.in_background)
        self.send = self.publisher.send
        self.send_batch = self.publisher.send_batch
        self._replies = ReplySender(
            self.router, self.composer, expose_tracebacks=config.expose_tracebacks
        )
        self._service = Service(self.deadlines, self._replies)
        self.draining = False
        self._closed = False
        self._serves = False
        self._subscriptions: dict[Subscription, list[Unsubscribe]] = {}
        self._servers: set[Subscription] = set()
        self._streams: dict[MessageStream, list[Unsubscribe]] = {}
        self._system: list[Unsubscribe] = []
        self.background: set[asyncio.Future[Any]] = set()
        self._held_back: deque[Envelope] = deque()

    # -- life ----------------------------------------------------------------------------------

    async def start(self, declarations: Sequence[Declaration]) -> None:
        """Subscribe the inboxes and every declared handler."""
        for link in self.links:
            inbox = link.inbox
            inbox.on_stray = partial(self._cancel_stray, link)
            self._system.append(await link.transport.subscribe(inbox.address, inbox))
        for declaration in declarations:
            await self.open_handler(declaration)

    async def stop(self) -> None:
        """Drain, at most `drain_timeout_s`, then end what still runs; also when cancelled."""
        self.draining = True
        self.quick.clear()
        try:
            async with asyncio.timeout(self.config.drain_timeout_s):
                await self._drain()
        except TimeoutError:
            logger.warning(
                "gave up draining after %g s: %s",
                self.config.drain_timeout_s,
                "; ".join(self._unfinished()) or "background work did not end",
            )
        finally:
            await self._end()

    def check_intake(self) -> None:
        """Raise `StateError` unless it is a handler that still sends while the bus is drained."""
        if self._closed or context.cause.get() is None:
            raise StateError("the bus is being closed: it takes in nothing new")

    async def _drain(self) -> None:
        await self.settle()
        if all("private" in link.transport.capabilities for link in self.links):
            # Only our own handlers can still publish: what they start is ours to finish, too.
            await self._quiesce(self._subscriptions)
            self._closed = True
        # Those that serve stay a little longer: handlers that finish may still ask them.
        events = self._subscriptions.keys() - self._servers
        await self._stop_intake(events)
        await self._quiesce(events)
        await self._stop_intake(self._subscriptions)
        await self._quiesce(self._subscriptions)

    async def _quiesce(self, subscriptions: Iterable[Subscription]) -> None:
        while (
            self.background
            or self.publisher.under_way
            or any(subscription.load for subscription in subscriptions)
        ):
            for subscription in list(subscriptions):
                await subscription.drained()
            await self.publisher.finished()
            if self.background:
                await asyncio.wait(self.background)

    async def _stop_intake(self, subscriptions: Iterable[Subscription]) -> None:
        for subscription in list(subscriptions):
            for unsubscribe in self._subscriptions[subscription]:
                await unsubscribe()

    async def _end(self) -> None:
        """End everything at once. Requests that wait for us, and those that we wait for, fail."""
        self._closed = True
        await self._stop_intake(self._subscriptions)
        for stream, ends in list(self._streams.items()):
            for unsubscribe in ends:
                await unsubscribe()
            stream.end()
        for subscription in list(self._subscriptions):
            await self._refuse(await subscription.close())
        for task in self.background:
            task.cancel()
        if self.background:
            await asyncio.wait(self.background)
        for link in self.links:
            link.inbox.close()
        await asyncio.sleep(0)  # those who waited tell their agents to stop, now
        for unsubscribe in self._system:
            await unsubscribe()

    async def _refuse(self, left: Sequence[Item]) -> None:
        """Tell the callers of requests that were not begun."""
        closed = StatusError("UNAVAILABLE", "the agent was closed before it could answer")
        for envelope, reply_to in left:
            if reply_to is not None:
                with suppress(BusError):
                    sent = self._replies.error(envelope, reply_to, closed)
                    if sent is not None:
                        await sent

    def _unfinished(self) -> list[str]:
        return [
            f"{subscription.load} messages left on {subscription.title}"
            for subscription in self._subscriptions
            if subscription.load
        ]

    async def settle(self) -> None:
        """Wait for subscriptions that were declared while the bus was open."""
        while self.opening:
            # Not gather: when whoever waits here is cancelled, the subscriptions must not be.
            await asyncio.wait(self.opening)

    # -- subscribing ---------------------------------------------------------------------------

    def open_handler_soon(self, declaration: Declaration) -> None:
        """Subscribe a handler in the background; `settle` waits for it."""
        task = self.loop.create_task(self.open_handler(declaration))
        self.opening.add(task)
        self.quick.clear()
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[Subscription]) -> None:
        self.opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a subscription could not be opened: %s", error, exc_info=error)

    async def open_handler(self, declaration: Declaration) -> Subscription:
        """Subscribe a handler on every link that its pattern can be reached by."""
        subscription = Subscription(
            declaration.pattern,
            declaration.signature.name,
            declaration.options,
            work=self._work(declaration),
            checks_expiry=not declaration.serves,
            keeper=self,
        )
        if declaration.serves:
            self._servers.add(subscription)
            await self._listen_for_control()
        ends = await self.listen(declaration.pattern, subscription, declaration.options.group)
        self._subscriptions[subscription] = ends
        return subscription

    async def close_handler(self, subscription: Subscription) -> None:
        """Unsubscribe, let the handler finish what was accepted, and end its lanes."""
        for unsubscribe in self._subscriptions.get(subscription, []):
            await unsubscribe()
        await subscription.drained()
        await subscription.close()
        self._subscriptions.pop(subscription, None)

    async def listen(self, pattern: Pattern, sink: Sink, group: str | None) -> list[Unsubscribe]:
        """Subscribe `sink` on every link over which `pattern` can be reached."""
        links = self.router.listening(pattern)
        if len(links) == 1:
            return [await links[0].transport.subscribe(pattern.plain, sink, group=group)]
        async with AsyncExitStack() as ends:
            for link in links:
                end = await link.transport.subscribe(pattern.plain, sink, group=group)
                ends.push_async_callback(end)
            return [ends.pop_all().aclose]

    async def open_stream(self, stream: MessageStream, group: str | None) -> None:
        """Subscribe a stream; it ends with the bus, once it has been read to the end."""
        self._streams[stream] = []
        self._streams[stream] = await self.listen(stream.pattern, stream, group)

    async def close_stream(self, stream: MessageStream) -> None:
        """Unsubscribe a stream."""
        for unsubscribe in self._streams.pop(stream, []):
            await unsubscribe()

    async def _listen_for_control(self) -> None:
        if self._serves:
            return
        self._serves = True
        for link in self.links:
            subscribe = link.transport.subscribe
            self._system.append(await subscribe(protocol.CONTROL_TOPIC, self._service))
            self._system.append(await subscribe(link.control_address, self._service))

    def _work(self, declaration: Declaration) -> Work:
        invoke = self._invoke(declaration)
        if not declaration.serves:
            return invoke
        return self._service.answering(invoke)

    def _invoke(self, declaration: Declaration) -> Work:
        """Return the shortest way from an envelope to the handler."""
        signature, pattern = declaration.signature, declaration.pattern
        middleware = [*self._hooks.middleware, *declaration.middleware]
        if signature.call_payload is not None and not middleware and signature.payload is not Any:
            call = _payload_call(signature.call_payload, signature.payload)
            return _as_value(call) if signature.streams else call
        return _message_call(compose(middleware, _signature_call(signature)), pattern)

    # -- publishing ----------------------------------------------------------------------------

    async def publish(
        self, topic: str, data: Any, expect: Expect, options: PublishOptions
    ) -> Receipt:
        """Publish with every check; learn whether the next one on `topic` can be `quick`."""
        if self.draining:
            self.check_intake()
        await self.settle()
        envelope = self.compose_with(topic, data, options)
        self.learn_quick(topic)
        return await self.send(envelope, expect=expect)

    def compose_with(self, topic: str, data: Any, options: PublishOptions) -> Envelope:
        """Return a new envelope, with options if there are any."""
        if options:
            return self.composer.with_options(topic, data, options)
        return self.compose(topic, data)

    def learn_quick(self, topic: str) -> Callable[[Envelope], Awaitable[None] | None] | None:
        """Return how to send on `topic` at once, or `None` when that takes more steps."""
        route = self.router.route(topic)
        if route.log is not None or self.publish_middleware or self.opening or self.draining:
            return None
        if len(self.quick) >= MAX_CACHED_TOPICS:
            self.quick.clear()
        self.quick[topic] = route.publish
        return route.publish

    def emit_later(self, envelope: Envelope) -> None:
        """Send in the background; whatever is emitted meanwhile queues up behind it."""
        if self.opening or self._held_back:
            if not self._held_back:
                self.in_background(self._release(), envelope.topic)
            self.check_emits(envelope.topic)
            self._held_back.append(envelope)
        else:
            self.in_background(self._send_emitted(envelope), envelope.topic)
        self.emits += 1

    async def _release(self) -> None:
        """Send, in order, what was emitted while subscriptions were being opened."""
        await self.settle()
        while self._held_back:
            envelope = self._held_back.popleft()
            self._start(self._send_emitted(envelope), envelope.topic)

    async def _send_emitted(self, envelope: Envelope) -> None:
        try:
            await self.send(envelope)
        finally:
            self.emits -= 1

    def in_background(self, work: Awaitable[Any], topic: str) -> None:
        """Let `work` finish on its own; its error is logged. Draining waits for it.

        Raises `QueueFullError` when `max_emits` of them are under way.
        """
        try:
            self.check_emits(topic)
        except QueueFullError:
            if inspect.iscoroutine(work):
                work.close()
            raise
        self._start(work, topic)

    def check_emits(self, topic: str) -> None:
        """Raise `QueueFullError` when `max_emits` messages wait already."""
        if len(self.background) + len(self._held_back) >= self.config.max_emits:
            raise QueueFullError(queue=f"emit to {topic}", limit=self.config.max_emits)

    def _start(self, work: Awaitable[Any], topic: str) -> None:
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(lambda done: self._background_done(done, topic))

    def _background_done(self, task: asyncio.Future[Any], topic: str) -> None:
        self.background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background work for %s failed: %s", topic, error, exc_info=error)

    def control(
        self, link: Link, request: Envelope, kind: str, to: str, credit: int | None
    ) -> None:
        """Send a control message of a caller: credit for, or cancellation of, its `request`."""
        envelope = self.composer.reply(
            request, protocol.CONTROL_TOPIC, None, kind=kind, credit=credit
        )
        # It is a courtesy: where it cannot be sent any more, its deadline ends the request.
        with suppress(BusError):
            room = link.transport.publish(envelope, to=to)
            if room is not None:
                self.in_background(room, to)

    def _cancel_stray(self, link: Link, item: Envelope, to: str) -> None:
        """Stop a stream that nobody reads here, whose cancellation was lost on the way."""
        request = item.replace(id=item.causationid or "")
        self.control(link, request, protocol.CANCEL, to, None)

    # -- what goes wrong -----------------------------------------------------------------------

    def on_failed(
        self, subscription: Subscription, error: BaseException, envelope: Envelope
    ) -> None:
        """Log what a handler raised, and tell the hooks."""
        logger.error(
            "handler %s failed on %s (id %s, source %s): %s",
            subscription.name,
            envelope.topic,
            envelope.id,
            envelope.source,
            protocol.text_of(error),
            exc_info=None if isinstance(error, BusError) else error,
        )
        message = Message(envelope, captures=subscription.pattern.capture(envelope.topic))
        for hook in self._hooks.errors:
            try:
                result = hook(error, message)
                if inspect.isawaitable(result):
                    self.in_background(result, envelope.topic)
            except Exception:
                logger.exception("the error hook %r failed itself", hook)

    def on_dropped(
        self, subscription: Subscription, envelope: Envelope, reply_to: str | None
    ) -> None:
        """Answer a request that a full queue dropped."""
        if reply_to is not None:
            full = QueueFullError(queue=subscription.title, limit=subscription.options.max_queue)
            with suppress(BusError):
                if (sent := self._replies.error(envelope, reply_to, full)) is not None:
                    self.in_background(sent, envelope.topic)

    def stats(self) -> BusStats:
        """Return all counters as they are now."""
        return BusStats(
            published=self.published + self.publisher.published,
            requests=self.requests,
            subscriptions=[sink.stats() for sink in (*self._subscriptions, *self._streams)],
        )


# Lambdas in functions of their own: there may be many thousand, and an inner function with
# annotations and the cells of its surroundings weighs three times as much.


def _payload_call(handler: Callable[[Any], Any], wanted: Any) -> Work:
    return lambda envelope, _: handler(
        envelope.data if type(envelope.data) is wanted else envelope.decode(wanted)
    )


def _signature_call(signature: Signature) -> Handler:
    async def call(message: Message) -> Any:
        result = signature.call(message)
        return result if signature.streams else await result

    return call


def _message_call(handler: Handler, pattern: Pattern) -> Work:
    def call(envelope: Envelope, reply_to: str | None) -> Awaitable[Any]:
        captures = pattern.capture(envelope.topic) if pattern.captures else None
        return handler(Message(envelope, captures=captures, reply_to=reply_to))

    return call


def _as_value(call: Callable[[Envelope, str | None], Any]) -> Work:
    """Make a call that returns an async generator awaitable, like one that returns a value."""

    async def invoke(envelope: Envelope, reply_to: str | None) -> Any:
        return call(envelope, reply_to)

    return invoke
