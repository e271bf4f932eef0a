"""Durable subscriptions of replayed agents: what is played is delivered, and settled here."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from hms_bus.abc import Consumer, Delivery, Durable, Overflow, Record, Settlement
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.replay.stage import Stage


class ReplayConsumer:
    """Both ends of a durable: the sink that is offered messages, and the `Consumer` of them.

    A delivery that is given back comes again at once, as often as the durable allows.
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
                self._try_again(delivery)
        if not self.load:
            self._tell_idle()

    def abandon(self) -> None:
        """Let go of everything: a replay does not wait for what nobody settles."""
        self._queue.clear()
        self._unsettled.clear()
        self._tell_idle()

    def _try_again(self, delivery: Delivery) -> None:
        most = self._durable.max_deliveries
        if most is None or delivery.attempt < most:
            self._add(Delivery(record=delivery.record, attempt=delivery.attempt + 1))

    def _tell_idle(self) -> None:
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
