"""An open bus: everything that lives from `async with bus` to its end.

Close order: no new messages are taken in, handlers finish, replies and background sends go out,
then the transports close and last the log.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from hms_bus.abc import ConsumingLog, Durable, EventLog, Expect, Receipt, Sink, Unsubscribe
from hms_bus.bounces import text_of
from hms_bus.bus import context, protocol
from hms_bus.bus.background import Background, Emits
from hms_bus.bus.calling import caller_of, handler_of
from hms_bus.bus.composing import Composer, PublishOptions, SendOptions
from hms_bus.bus.deadlines import Deadlines
from hms_bus.bus.declarations import Declaration
from hms_bus.bus.delivering import Delivery
from hms_bus.bus.durable import DurableSubscription
from hms_bus.bus.mailbox import Item
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import Middleware, PublishMiddleware
from hms_bus.bus.publishing import Publisher
from hms_bus.bus.redelivery import Redelivery
from hms_bus.bus.replying import ReplySender
from hms_bus.bus.routing import MAX_CACHED_TOPICS, Link, Router
from hms_bus.bus.serving import Service
from hms_bus.bus.stats import BusStats
from hms_bus.bus.streams import MessageStream
from hms_bus.bus.subscription import Subscription, Work
from hms_bus.config import BusConfig
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    QueueFullError,
    StateError,
    StatusError,
    UnsupportedError,
    UsageError,
)
from hms_bus.logrules import keeps_durables
from hms_bus.schedules import Scheduler, load_zone, make_schedule, schedule_record
from hms_bus.topics import Pattern, check_topic

logger = logging.getLogger("hms_bus")

Handling = Subscription | DurableSubscription

ErrorHook = Callable[[BaseException, Message], Awaitable[None] | None]


class Hooks:
    """What the user added around handlers and publishers, before or while the bus runs."""

    def __init__(self) -> None:
        self.middleware: list[Middleware] = []
        self.publish_middleware: list[PublishMiddleware] = []
        self.errors: list[ErrorHook] = []


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
        # The default transport comes last: where several bring a log, its is the one to replay.
        behind = [link.transport.log for link in reversed(links)]
        self.log = log or next((found for found in behind if found is not None), None)
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
        self.opening: set[asyncio.Task[Handling]] = set()
        self.publish_middleware = hooks.publish_middleware
        self._hooks = hooks
        self.base_context = contextvars.copy_context()
        self.base_context.run(context.running.set, self)
        self.background = Background(config.max_emits)
        self.in_background = self.background.run
        self._delivery = Delivery(self.router, self.background.begin)
        self.publisher = Publisher(self._delivery, hooks.publish_middleware)
        self.emits = Emits(self.background, self.settle, self.publisher.send)
        self.send = self.publisher.send
        self.send_batch = self.publisher.send_batch
        self._replies = ReplySender(
            self.router, self.composer, expose_tracebacks=config.expose_tracebacks
        )
        self._service = Service(self.deadlines, self._replies)
        self.draining = False
        self._closed = False
        self._serves = False
        self._is_begun = False
        self._subscriptions: dict[Handling, list[Unsubscribe]] = {}
        self._servers: set[Handling] = set()
        self._handlers: dict[Declaration, Handling] = {}
        self._streams: dict[MessageStream, list[Unsubscribe]] = {}
        self._system: list[Unsubscribe] = []
        self._scheduler: Scheduler | None = None
        self._scheduling: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------------

    async def start(self, declarations: Sequence[Declaration]) -> None:
        """Subscribe the inboxes and every declared handler."""
        if self.log is not None and self.router.delivering(self.log) is None:
            self._delivery.known = (await self.log.head()).position
        for link in self.links:
            inbox = link.inbox
            inbox.on_stray = partial(self._cancel_stray, link)
            self._system.append(await link.transport.subscribe(inbox.address, inbox))
        # Durables last, for their handlers may publish to the others.
        for declaration in sorted(declarations, key=lambda each: each.durable is not None):
            await self.open_handler(declaration)

    def begin(self) -> None:
        """Let the durable subscriptions begin, once the bus can be used by their handlers."""
        self._is_begun = True
        for subscription in self._subscriptions:
            if isinstance(subscription, DurableSubscription):
                subscription.begin()
        log = self.log
        if keeps_durables(log) and "log-schedules" not in log.capabilities:
            self._scheduler = Scheduler(log, self.send)
            self._scheduling = self.loop.create_task(
                self._scheduler.run(), name="schedules", context=self.base_context.copy()
            )

    async def stop(self) -> None:
        """Drain, at most `drain_timeout_s`, then end what still runs; also when cancelled."""
        self.draining = True
        self.quick.clear()
        try:
            if self._scheduling is not None:
                self._scheduling.cancel()
                await asyncio.wait([self._scheduling])
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
        # The log keeps what durables have not begun.
        await self._stop_intake(
            [each for each in self._subscriptions if isinstance(each, DurableSubscription)]
        )
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

    async def _quiesce(self, subscriptions: Iterable[Handling]) -> None:
        while (
            self.background
            or self.publisher.under_way
            or any(subscription.load for subscription in subscriptions)
        ):
            for subscription in list(subscriptions):
                await subscription.drained()
            await self.publisher.finished()
            await self.background.finished()

    async def _stop_intake(self, subscriptions: Iterable[Handling]) -> None:
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
        await self.background.end()
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
        task.add_done_callback(partial(self._opened, declaration))

    def _opened(self, declaration: Declaration, task: asyncio.Task[Handling]) -> None:
        self.opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "%s (%s) could not be subscribed and gets nothing: %s",
                declaration.pattern.text,
                declaration.signature.name,
                error,
                exc_info=None if isinstance(error, BusError) else error,
            )

    async def open_handler(self, declaration: Declaration) -> Handling:
        """Subscribe a handler on every link that its pattern can be reached by, or to the log."""
        if declaration.durable is not None:
            return await self._open_durable(declaration, *declaration.durable)
        subscription = Subscription(
            declaration.pattern,
            declaration.signature.name,
            declaration.options,
            work=self._work(declaration),
            answers=declaration.serves,
            keeper=self,
        )
        if declaration.serves:
            self._servers.add(subscription)
            await self._listen_for_control()
        ends = await self.listen(declaration.pattern, subscription, declaration.options.group)
        self._subscriptions[subscription] = ends
        self._handlers[declaration] = subscription
        return subscription

    async def _open_durable(
        self, declaration: Declaration, durable: Durable, redelivery: Redelivery
    ) -> DurableSubscription:
        log = self._consuming("durable subscriptions")
        subscription = DurableSubscription(
            declaration.pattern,
            declaration.signature.name,
            declaration.options,
            durable=durable,
            redelivery=redelivery,
            handler=handler_of(declaration, self._hooks.middleware),
            keeper=self,
        )
        await subscription.open(log)
        if self._is_begun:
            subscription.begin()
        self._subscriptions[subscription] = [subscription.stop]
        self._handlers[declaration] = subscription
        return subscription

    def _consuming(self, what: str) -> ConsumingLog:
        log = self.log
        if keeps_durables(log):
            return log
        where = f"Bus({self.config.url!r})" if log is None else "its log"
        raise UnsupportedError(what, where, "they need a log it may write: log='sqlite:run.db'")

    async def close_handler(self, declaration: Declaration) -> None:
        """Unsubscribe a handler; return when it has finished, at once if it is what calls this."""
        subscription = self._handlers.pop(declaration, None)
        if subscription is None:  # it could not be opened
            return
        finishing = self.loop.create_task(self._finish(subscription))
        self.background.begin(finishing, subscription.title)
        if context.lane.get(None) not in subscription.lanes:
            # Not awaited itself: when whoever waits here is cancelled, it must not be.
            await asyncio.wait([finishing])

    async def _finish(self, subscription: Handling) -> None:
        await self._stop_intake([subscription])
        await subscription.drained()
        if not self.draining:  # then the drain ends it, with the others that it has begun with
            del self._subscriptions[subscription]
            self._servers.discard(subscription)
            if isinstance(subscription, Subscription):
                self._service.forget(subscription.work)
            await subscription.close()

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
        invoke = caller_of(declaration, self._hooks.middleware)
        if not declaration.serves:
            return invoke
        return self._service.answering(invoke)

    # -- publishing ----------------------------------------------------------------------------

    async def publish(self, topic: str, data: Any, expect: Expect, options: SendOptions) -> Receipt:
        """Publish with every check; learn whether the next one on `topic` can be `quick`."""
        if self.draining:
            self.check_intake()
        await self.settle()
        if "delay" in options or "at" in options:
            if expect != "any":
                raise UsageError("expect= is checked when a message is sent: not with delay=")
            when = {"delay": options.pop("delay", None), "at": options.pop("at", None)}
            return await self.schedule(None, topic, data, options, **when)
        envelope = self.compose_with(topic, data, options)
        self.learn_quick(topic)
        return await self.send(envelope, expect=expect)

    async def schedule(
        self, name: str | None, topic: str, data: Any, options: PublishOptions, **when: Any
    ) -> Receipt:
        """Let the log keep a message that is sent later; see `Bus.schedule`."""
        log = self._consuming("schedules")
        check_topic(topic)
        envelope = self.compose_with(topic, data, options)
        await load_zone(when.get("timezone", "UTC"))
        schedule = make_schedule(envelope, **when)
        if name is None and options.get("id") is None:
            name = envelope.id
        record = schedule_record(name, self.composer.source, schedule)
        [receipt] = await log.append([record])
        if self._scheduler is not None:
            self._scheduler.note_made()
        return Receipt(id=envelope.id, position=receipt.position)

    async def unschedule(self, name: str) -> None:
        """End a schedule; see `Bus.unschedule`."""
        log = self._consuming("schedules")
        await log.append([schedule_record(name, self.composer.source, None)])

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
            text_of(error),
            exc_info=None if isinstance(error, BusError) else error,
        )
        self._tell_hooks(
            error, Message(envelope, captures=subscription.pattern.capture(envelope.topic))
        )

    def on_delivery_failed(
        self,
        subscription: DurableSubscription,
        error: BaseException,
        message: Message,
        what_follows: str,
    ) -> None:
        """Log what the handler of a durable raised, and tell the hooks."""
        logger.error(
            "handler %s failed on %s (position %s, attempt %d, id %s), which %s: %s",
            subscription.name,
            message.topic,
            message.position,
            message.attempt,
            message.id,
            what_follows,
            text_of(error),
            exc_info=None if isinstance(error, BusError) else error,
        )
        self._tell_hooks(error, message)

    def _tell_hooks(self, error: BaseException, message: Message) -> None:
        for hook in self._hooks.errors:
            try:
                result = hook(error, message)
                if inspect.isawaitable(result):
                    self.in_background(result, message.topic)
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
            published=self.published + self._delivery.published,
            requests=self.requests,
            subscriptions=[sink.stats() for sink in (*self._subscriptions, *self._streams)],
        )
