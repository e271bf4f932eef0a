"""`faulty:URL`: the transport at another URL, with the faults that networks have.

    Bus("faulty:direct://agents?duplicate=0.2&delay=5ms&seed=7")

The same seed and the same order of publishing give the same faults, so that a failing test fails
again. Each bus that opens the URL has a line of its own, with faults in what it sends; a cut line
does not receive either.

- `drop=SHARE` of the envelopes get lost. `duplicate=SHARE` arrive twice.
- `reorder=SHARE` are overtaken by the one that is published next.
- `delay=DURATION` is how long an envelope takes at the most; the order stays.
- `cut=COUNT` cuts the line after so many envelopes: any further use raises `DisconnectedError`, and
  so do requests that wait for their answer.
- `seed=NUMBER` chooses other faults of the same kind.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from hms_bus.abc import Capability, Codec, EventLog, Overflow, Sink, Transport, Unsubscribe
from hms_bus.bounces import returned
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, ConfigError, DisconnectedError
from hms_bus.plugins import Address, behind, open_transport, parse_address
from hms_bus.testing.faults import OPTIONS, Faults, parse_faulty

_LATER: frozenset[Capability] = frozenset({"backpressure", "no-responders", "no-servers"})
"""What a publisher cannot be told when its envelope is still under way as `publish` returns."""

_OVERTAKEN_WITHIN_S = 0.01
"""How long an envelope waits to be overtaken before it goes on by itself."""


class FaultyOpener:
    """Opens `faulty:URL`. Contract: `TransportOpener` and `KeepsLogs` of `hms_bus.plugins`."""

    def __call__(
        self, address: Address, *, codec: Codec
    ) -> AbstractAsyncContextManager["FaultyTransport"]:
        """Return the scope of `faulty:URL`.

        Raises `ConfigError` at once for a fault whose value is none, and for a wrong URL behind.
        """
        faulty = parse_faulty(address)
        try:
            wrapped = open_transport(faulty.behind, codec=codec)
        except ConfigError as error:
            raise _of_wrapped(address, error) from error
        return _scope(wrapped, faulty.faults)

    def with_log(self, address: Address, log: Address) -> Address | None:
        """Put `log` behind the transport at the URL, if that keeps logs."""
        faulty = parse_faulty(address)
        try:
            kept = behind(faulty.behind, log.url)
        except ConfigError as error:
            raise _of_wrapped(address, error) from error
        return None if kept is None else parse_address(faulty.around(kept))


open_faulty = FaultyOpener()


def _of_wrapped(address: Address, error: ConfigError) -> ConfigError:
    known = ", ".join(OPTIONS)
    return ConfigError(f"the transport behind {address.shown_url!r}: {error}; faults: {known}")


@asynccontextmanager
async def _scope(
    wrapped: AbstractAsyncContextManager[Transport], faults: Faults
) -> AsyncGenerator["FaultyTransport"]:
    async with wrapped as transport:
        faulty = FaultyTransport(transport, faults)
        try:
            yield faulty
        finally:
            faulty.close()


_Sending = tuple[Envelope, str | None, str | None]


class FaultyTransport:
    """Wraps any `Transport` and is one, less reliable. `cut` and `heal` break and mend the line.

    Close it before the transport that it wraps. Whoever publishes does not wait for an envelope
    that is late, hence faults in time take away `no-responders` and `backpressure`, and reordering
    `publisher-order`; a request that comes to nothing is answered with the error.
    """

    def __init__(self, transport: Transport, faults: Faults) -> None:
        self._transport = transport
        self._faults = faults
        self._chance = random.Random(faults.seed)  # noqa: S311 - chosen by the test, no secret
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._is_cut = False
        self._sinks: set[_CutSink] = set()
        self._overtaken: _Sending | None = None
        self._late: deque[tuple[float, _Sending]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the transport that can be kept under these faults."""
        claimed = self._transport.capabilities
        if self._faults.reorder:
            claimed -= {"publisher-order"}
        return claimed - _LATER if self._is_late else claimed

    @property
    def log(self) -> EventLog | None:
        """The log behind the transport: logs have no faults of this kind."""
        return self._transport.log

    @property
    def _is_late(self) -> bool:
        return bool(self._faults.reorder or self._faults.delay_s)

    def cut(self) -> None:
        """Break the line: nothing is sent or received, and what was under way is lost."""
        if self._is_cut:
            return
        self._is_cut = True
        self._overtaken = None
        self._late.clear()
        for sink in tuple(self._sinks):
            sink.interrupt(None)

    def heal(self) -> None:
        """Mend the line. What was lost stays lost."""
        self._is_cut = False

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        """Send, lose, double, hold or delay one envelope. Raises `DisconnectedError` when cut."""
        if self._faults.cut_after is not None and self._sent >= self._faults.cut_after:
            self.cut()
        self._check_line()
        self._sent += 1
        if self._happens(self._faults.drop):
            return None
        sending = (envelope, to, reply_to)
        is_doubled = self._happens(self._faults.duplicate)
        if self._is_late:
            for _ in range(1 + is_doubled):
                self._enqueue(sending)
            return None
        room = self._send(sending)
        if is_doubled:
            # Nobody knows of the copy, so nobody is told what becomes of it.
            with suppress(BusError):
                self._send(sending)
        return room

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        """Subscribe at the transport. Raises `DisconnectedError` when the line is cut."""
        self._check_line()
        cut_off = _CutSink(self, sink)
        end = await self._transport.subscribe(pattern, cut_off, group=group)
        self._sinks.add(cut_off)

        async def unsubscribe() -> None:
            self._sinks.discard(cut_off)
            await end()

        return unsubscribe

    @property
    def is_cut(self) -> bool:
        """Whether the line is broken."""
        return self._is_cut

    def close(self) -> None:
        """Send at once what is under way, in order."""
        if self._overtaken is not None:
            self._delay(self._overtaken)
            self._overtaken = None
        while self._late:
            self._deliver(self._late.popleft()[1])
        for timer in self._timers:
            timer.cancel()

    def _check_line(self) -> None:
        if self._is_cut:
            raise DisconnectedError("the line is cut")

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share

    def _enqueue(self, sending: _Sending) -> None:
        """Let `sending` go on, after what overtakes it."""
        overtaken, self._overtaken = self._overtaken, None
        if overtaken is None and self._happens(self._faults.reorder):
            self._overtaken = sending
            self._at(self._loop.time() + _OVERTAKEN_WITHIN_S, self._give_up_waiting)
            return
        self._delay(sending)
        if overtaken is not None:
            self._delay(overtaken)

    def _give_up_waiting(self) -> None:
        if self._overtaken is not None:
            overtaken, self._overtaken = self._overtaken, None
            self._delay(overtaken)

    def _delay(self, sending: _Sending) -> None:
        """Deliver `sending` within the delay, and not before what was sent earlier."""
        due = self._loop.time() + self._chance.random() * self._faults.delay_s
        if self._late:
            due = max(due, self._late[-1][0])
        self._late.append((due, sending))
        self._at(due, self._deliver_due)

    def _at(self, due: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            act()

        timer = self._loop.call_at(due, fire)
        self._timers.add(timer)

    def _deliver_due(self) -> None:
        now = self._loop.time()
        while self._late and self._late[0][0] <= now:
            self._deliver(self._late.popleft()[1])

    def _deliver(self, sending: _Sending) -> None:
        """Send to a caller's inbox what `publish` would have raised; an event's error is lost."""
        try:
            self._send(sending)
        except BusError as error:
            envelope, to, reply_to = sending
            # What is sent to an address is itself a reply, and its sender waits for nothing.
            if reply_to is not None and to is None:
                self._transport.publish(returned(envelope, error, source="/faulty"), to=reply_to)

    def _send(self, sending: _Sending) -> Awaitable[None] | None:
        envelope, to, reply_to = sending
        return self._transport.publish(envelope, to=to, reply_to=reply_to)


class _CutSink:
    """A sink behind a line that may be cut."""

    def __init__(self, line: FaultyTransport, sink: Sink) -> None:
        self._line = line
        self._sink = sink

    @property
    def load(self) -> int:
        """The load of the sink behind."""
        return self._sink.load

    @property
    def answers(self) -> bool:
        """Whether the sink behind answers requests."""
        return self._sink.answers

    @property
    def overflow(self) -> Overflow:
        """What the sink behind does when it is full."""
        return self._sink.overflow

    @property
    def room(self) -> int | None:
        """How many messages more the sink behind holds."""
        return self._sink.room

    def on_idle(self, notify: Callable[[], None]) -> None:
        """Call `notify` when the sink behind is idle."""
        self._sink.on_idle(notify)

    def on_room(self, notify: Callable[[], None]) -> None:
        """Pass on to the sink behind."""
        self._sink.on_room(notify)

    def interrupt(self, address: str | None) -> None:
        """Tell the sink behind."""
        self._sink.interrupt(address)

    def fail(self, error: BusError) -> None:
        """Tell the sink behind."""
        self._sink.fail(error)

    def offer(self, envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        """Offer to the sink behind, or lose the envelope."""
        return None if self._line.is_cut else self._sink.offer(envelope, reply_to)
