"""A transport that keeps its log and delivers what it has appended, as a hub does.

`keeping:NAME[?log=URL]`: `direct://NAME` with a log behind it, which the first who names one opens
and all share; `sqlite:`, `memory:NAME`, or `memory:`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

from hms_bus.abc import (
    Capability,
    Codec,
    Consumer,
    ConsumingLog,
    Durable,
    DurableInfo,
    EventLog,
    Expect,
    Head,
    Receipt,
    Record,
    Selector,
    Sink,
    Transport,
    Unsubscribe,
    Verification,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, QueueFullError, StateError
from hms_bus.plugins import Address, open_log, open_transport, parse_address

T = TypeVar("T")


class Hub:
    """What the members of one name share: how many they are, and their log."""

    def __init__(self) -> None:
        self.members = 0
        self.scope = AsyncExitStack()
        self.url: str | None = None
        self.log: EventLog | None = None
        self.opening = asyncio.Lock()

    async def keep(self, url: str) -> EventLog:
        """Return the log, opened when there is none yet. Raises `ConfigError` for another one."""
        async with self.opening:
            if self.log is None:
                self.log = await self.scope.enter_async_context(open_log(url))
                self.url = url
            if url != self.url:
                raise ConfigError(f"the hub keeps {self.url}, not {url}")
            return self.log


class Kept:
    """The log behind the transport of one member. Contract: `hms_bus.abc.DeliveringLog`."""

    def __init__(self, log: EventLog, transport: Transport) -> None:
        self.log = log
        self.transport = transport
        self.is_open = True
        self.sent: list[tuple[Envelope, str | None, str | None]] = []
        """What `send` was asked for, with `to` and `reply_to`."""
        self.gate: Callable[[], Awaitable[object]] | None = None
        """What everything that was appended waits at before it is delivered."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.log.capabilities

    async def send(
        self,
        envelope: Envelope,
        *,
        expect: Expect = "any",
        to: str | None = None,
        reply_to: str | None = None,
    ) -> Receipt:
        self._check_open()
        self.sent.append((envelope, to, reply_to))
        return await _to_the_end(self._send(envelope, expect, to, reply_to))

    async def _send(
        self, envelope: Envelope, expect: Expect, to: str | None, reply_to: str | None
    ) -> Receipt:
        [receipt] = await self.log.append([envelope], expect=expect)
        if not receipt.duplicate:
            await self._deliver(envelope, receipt, to, reply_to)
        return receipt

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        self._check_open()
        return await _to_the_end(self._append(envelopes, expect))

    async def _append(self, envelopes: Sequence[Envelope], expect: Expect) -> list[Receipt]:
        receipts = await self.log.append(envelopes, expect=expect)
        refusal: QueueFullError | None = None
        for envelope, receipt in zip(envelopes, receipts, strict=True):
            try:
                if not receipt.duplicate:
                    await self._deliver(envelope, receipt, None, None)
            except QueueFullError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        return receipts

    async def _deliver(
        self, envelope: Envelope, receipt: Receipt, to: str | None, reply_to: str | None
    ) -> None:
        if self.gate is not None:
            await self.gate()
        try:
            room = self.transport.publish(envelope, to=to, reply_to=reply_to)
            if room is not None:
                await room
        except QueueFullError as error:
            error.keep_at(receipt.position or 0)
            raise

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        self._check_open()
        return self._consuming.consume(durable)

    async def durables(self) -> list[DurableInfo]:
        return await self._consuming.durables()

    async def forget(self, name: str) -> None:
        await self._consuming.forget(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        await self._consuming.redrive(name, positions)

    @property
    def _consuming(self) -> ConsumingLog:
        assert isinstance(self.log, ConsumingLog)
        return self.log

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        self._check_open()
        return self.log.read(selector, follow=follow)

    async def head(self) -> Head:
        self._check_open()
        return await self.log.head()

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        self._check_open()
        return await self.log.verify(expected=expected, progress=progress)

    def _check_open(self) -> None:
        if not self.is_open:
            raise StateError("the log is closed")


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work`, which goes on when the wait is cancelled."""
    task = asyncio.ensure_future(work)
    _at_work.add(task)
    task.add_done_callback(_done)
    return await asyncio.shield(task)


_at_work: set[asyncio.Future[Any]] = set()


def _done(task: asyncio.Future[Any]) -> None:
    _at_work.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waited has had it, or has gone


class KeepingTransport:
    """One member's transport. Contract: `hms_bus.abc.Transport`."""

    def __init__(self, transport: Transport, log: EventLog | None) -> None:
        self._transport = transport
        self.log: EventLog | None = None if log is None else Kept(log, transport)
        self.sent: list[tuple[Envelope, str | None, str | None]] = []
        """What `publish` was asked for, with `to` and `reply_to`."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._transport.capabilities

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        self.sent.append((envelope, to, reply_to))
        return self._transport.publish(envelope, to=to, reply_to=reply_to)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        return await self._transport.subscribe(pattern, sink, group=group)

    def close(self) -> None:
        if isinstance(self.log, Kept):
            self.log.is_open = False


class KeepingOpener:
    """Contract: `TransportOpener` and `KeepsLogs` of `hms_bus.plugins`."""

    def __call__(
        self, address: Address, *, codec: Codec
    ) -> AbstractAsyncContextManager[KeepingTransport]:
        return _scope(address.path, address.only("log").get("log"), codec)

    def with_log(self, address: Address, log: Address) -> Address:
        if "log" in address.options:
            raise ConfigError(f"{address.url!r} names a log already")
        if log.options.get("readonly"):
            raise ConfigError(f"{log.url!r}: a hub writes its log")
        return parse_address(f"keeping:{quote(address.path)}?log={quote(log.url, safe='')}")


open_keeping = KeepingOpener()
hubs: dict[str, Hub] = {}


@asynccontextmanager
async def _scope(name: str, log_url: str | None, codec: Codec) -> AsyncGenerator[KeepingTransport]:
    hub = hubs.setdefault(name, Hub())
    hub.members += 1
    try:
        if log_url is not None:
            await hub.keep(log_url)
        async with open_transport(f"direct://{name}", codec=codec) as transport:
            keeping = KeepingTransport(transport, hub.log)
            try:
                yield keeping
            finally:
                keeping.close()
    finally:
        hub.members -= 1
        if hub.members == 0:
            del hubs[name]
            await hub.scope.aclose()
