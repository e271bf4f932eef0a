"""Durable subscriptions of replayed agents: what is played is delivered, and settled here."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from msgspec.structs import replace

from hms_bus.abc import Consumer, Delivery, Durable, Overflow, Record, Settlement
from hms_bus.bus import context
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.replay.stage import Stage

logger = logging.getLogger("hms_bus")


class ReplayConsumer:
    """Both ends of a durable: the sink that is offered messages, and the `Consumer` of them.

    A delivery whose handler has failed comes again at once, as often as the durable allows: how
    long it waited is varied at random. What a handler gives back with a delay comes again when the
    record is so far, at the end of it at once. Without a `max_deliveries` each waits for the next
    record, since at one moment it would be given back for ever, and is given up at the end.
    """

    answers = False
    overflow: Overflow = "block"
    room: int | None = None

    def __init__(self, stage: Stage, durable: Durable) -> None:
        self._stage = stage
        self._durable = durable
        self._queue: deque[Delivery] = deque()
        self._unsettled: dict[int, Delivery] = {}
        self._filled = asyncio.Event()
        self._settled = asyncio.Event()
        self._has_left = False
        self._due_ns: dict[int, int] = {}
        """Of what was held back: when it was due."""
        self._idle: list[Callable[[], None]] = []

    # -- the sink ------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """Offered and not settled."""
        return len(self._queue) + len(self._unsettled)

    def on_idle(self, notify: Callable[[], None], /) -> None:
        """Call `notify` each time that all is settled."""
        self._idle.append(notify)

    def on_room(self, notify: Callable[[], None], /) -> None:
        """Do nothing: it is never full."""
        del notify

    def interrupt(self, address: str | None, /) -> None:
        """Go on: nobody waits here for somebody else."""

    def fail(self, error: BusError, /) -> None:
        """Go on: what was offered is delivered."""

    def offer(self, envelope: Envelope, reply_to: str | None, /) -> None:
        """Take a message that is played."""
        del reply_to
        now = self._stage.now(envelope.id)
        record = Record(position=now.position, recorded_ns=now.recorded_ns, envelope=envelope)
        self._add(Delivery(record=record, attempt=1))

    # -- the consumer --------------------------------------------------------------------------

    async def fetch(self, limit: int) -> list[Delivery]:
        """Wait for deliveries; see `hms_bus.abc.Consumer.fetch`."""
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        self._unsettled.update((delivery.record.position, delivery) for delivery in taken)
        return taken

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Take note of what became of deliveries; see `hms_bus.abc.Consumer.settle`."""
        for settlement in settlements:
            delivery = self._unsettled.get(settlement.position)
            if delivery is None or settlement.outcome == "progress":
                continue
            if delivery.attempt != settlement.attempt:
                continue
            del self._unsettled[settlement.position]
            if settlement.outcome == "defer":
                self._add(delivery)
            elif settlement.outcome == "nak":
                # In a handler it was asked for; else the handler has failed.
                is_asked = context.cause.get() is not None
                self._try_again(delivery, settlement.delay_s if is_asked else 0.0)
            else:
                self._due_ns.pop(settlement.position, None)
        if not self.load:
            self._tell_idle()

    def abandon(self) -> None:
        """Let go of everything: a replay does not wait for what nobody settles."""
        self._has_left = True
        self._queue.clear()
        self._unsettled.clear()
        self._due_ns.clear()
        self._tell_idle()

    def _try_again(self, delivery: Delivery, delay_s: float) -> None:
        record, most = delivery.record, self._durable.max_deliveries
        again = replace(delivery, attempt=delivery.attempt + 1)
        was_due_ns = self._due_ns.pop(record.position, record.recorded_ns)
        if most is None:
            if self._stage.is_over:
                self._give_up(delivery)
                return
            now_ns = max(self._stage.clock_ns, record.recorded_ns)
            self._hold(again, now_ns + max(1, round(delay_s * 1e9)))
        elif delivery.attempt >= most:
            return
        elif delay_s > 0:
            self._hold(again, was_due_ns + round(delay_s * 1e9))
        else:
            self._due_ns[record.position] = was_due_ns
            self._add(again)

    def _hold(self, delivery: Delivery, due_ns: int) -> None:
        self._due_ns[delivery.record.position] = due_ns
        self._stage.hold(delivery.record, due_ns, partial(self._deliver_again, delivery))

    async def _deliver_again(self, delivery: Delivery) -> None:
        if self._has_left:
            return
        self._settled.clear()
        self._add(delivery)
        await self._settled.wait()

    def _give_up(self, delivery: Delivery) -> None:
        logger.warning(
            "durable %r: %s (position %d) was given back to the end of the record, %d times",
            self._durable.name,
            delivery.record.envelope.topic,
            delivery.record.position,
            delivery.attempt,
        )

    def _tell_idle(self) -> None:
        self._settled.set()
        for notify in self._idle:
            notify()

    def _add(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._filled.set()


@asynccontextmanager
async def consuming(stage: Stage, agent: str, durable: Durable) -> AsyncGenerator[Consumer]:
    """Give the consumer of a durable; several of one name share it.

    What the bus itself keeps on system topics (schedules) gets nothing: what came of it is in the
    record.
    """
    consumer = ReplayConsumer(stage, durable)
    if durable.pattern.startswith("$"):
        yield consumer
        return
    leave = stage.add(agent, durable.pattern, consumer, f"durable {durable.name}")
    try:
        yield consumer
    finally:
        await leave()
        consumer.abandon()
