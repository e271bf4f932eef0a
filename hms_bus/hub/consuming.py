"""One consumer of a durable for a client of the hub: it takes what was asked for, and passes it on.

What it holds for a client that does not read is one piece of what that client has asked for, and
counted among what waits for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hms_bus.abc import Codec, Consumer, ConsumingLog, Delivery, Settlement
from hms_bus.errors import EncodeError
from hms_bus.hub.failing import failure_of
from hms_bus.hub.seams import Client
from hms_bus.ipc import durables, frames
from hms_bus.ipc.durables import Consume, durable_of
from hms_bus.ipc.session import Failure

logger = logging.getLogger("hms_bus.hub")

_FRAME_BYTES = 64 * 2**10
"""How large a frame of deliveries grows before it is sent."""

_PIECE_BYTES = 2**20
"""What is taken from the log at a time, about: as many deliveries as make so much."""

_FIRST_PIECE = 16
_MOST = 1024
"""How many deliveries are taken at a time, before their size is known and after."""


class Consuming:
    """A consumer from its CONSUME to its RELEASE, or to the end of its client's connection.

    What was not sent yet when it ends is not sent any more.

    `call` is that of the CONSUME; `on_end` is called before the last answer. A client that has gone
    may be alive and at work: what its consumers hold is not handed back, it is delivered again once
    the ack wait is over.
    """

    def __init__(
        self,
        peer: Client,
        call: int,
        log: ConsumingLog,
        wanted: Consume,
        *,
        codec: Codec,
        on_end: Callable[[], None],
    ) -> None:
        self.durable = durable_of(wanted)
        self.delivered = 0
        self._on_end = on_end
        self._peer = peer
        self._call = call
        self._log = log
        self._encode = codec.encode
        self._loop = asyncio.get_running_loop()
        self._consumer: Consumer | None = None
        self._released: asyncio.Future[bool] = self._loop.create_future()
        """Whether what it holds is handed back."""
        self._release_call: int | None = None
        self._was_entered = False
        self._fetch_call: int | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[None]] = set()
        self._piece = _FIRST_PIECE
        self._frames: deque[tuple[int, bytes, int]] = deque()
        """What is to be sent: of which FETCH, the frame, and how many deliveries it holds."""

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until it is released. Answers the CONSUME, and the RELEASE."""
        try:
            async with self._log.consume(self.durable) as consumer:
                self._consumer = consumer
                self._was_entered = True
                self._answer(self._call)
                await self._until_released(consumer)
        except Exception as error:  # noqa: BLE001 - a bug in here ends one consumer, not the client
            self._end(failure_of(error, "a consumer"))
        else:
            self._end()

    async def _until_released(self, consumer: Consumer) -> None:
        hands_back = False
        try:
            hands_back = await self._released
            under_way = {*self._settling, *([self._fetching] if self._fetching else [])}
            if under_way:
                await asyncio.wait(under_way)
        finally:
            self.stop()
            self._consumer = None
            if not hands_back:
                consumer.abandon()

    def _end(self, failure: Failure | None = None) -> None:
        self._on_end()
        self._withdraw()
        if not self._was_entered:
            self._answer(self._call, failure)
            failure = None
        if self._release_call is not None:
            self._answer(self._release_call, failure)

    def release(self, call: int, *, hands_back: bool) -> None:
        """End it; `call` is answered when that is done."""
        self._release_call = call
        self._let_go(hands_back=hands_back)

    def leave(self) -> None:
        """End it for a client that has gone."""
        self._let_go(hands_back=False)
        self._withdraw()

    def _withdraw(self) -> None:
        """Send nothing of what waits; the FETCHs that it was for are answered without it."""
        calls = dict.fromkeys(call for call, _, _ in self._frames)
        while self._frames:
            self._take_frame()
        for call in calls:
            self._send(durables.deliveries(call, ()))

    def _let_go(self, *, hands_back: bool) -> None:
        self.stop()
        if not self._released.done():
            self._released.set_result(hands_back)

    def describe(self) -> dict[str, Any]:
        """Return its figures, as `status` shows them."""
        return {
            "durable": self.durable.name,
            "pattern": self.durable.pattern,
            "group": self.durable.group,
            "waiting": self._fetch_call is not None,
            "queued": self.queued,
            "delivered": self.delivered,
        }

    # -- fetching ------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether its CONSUME was answered."""
        return self._consumer is not None

    @property
    def is_released(self) -> bool:
        """Whether it ends."""
        return self._released.done()

    @property
    def fetch_call(self) -> int | None:
        """The call of the FETCH that is under way, if one is."""
        return self._fetch_call

    def fetch(self, call: int, limit: int) -> None:
        """Begin a FETCH; there is one at a time."""
        self._fetch_call = call
        self._fetching = self._loop.create_task(self._fetch(call, limit))
        self._fetching.add_done_callback(partial(self._on_fetched, call))

    def stop(self) -> None:
        """End the FETCH that is under way, without deliveries if none are on their way yet."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _fetch(self, call: int, limit: int) -> None:
        await self._peer.readable()
        consumer = self._consumer
        if consumer is None:
            return  # it was released meanwhile
        taken = await consumer.fetch(min(limit, self._piece))
        documents = [self._document(delivery) for delivery in taken]
        # From here on it is answered, and the next FETCH may come before this task has ended.
        self._fetch_call = self._fetching = None
        unfit = self._put(call, taken, documents)
        self.pump()
        if unfit:
            self.settle(None, unfit)

    def _document(self, delivery: Delivery) -> bytes | EncodeError:
        try:
            return self._encode(delivery.record.envelope)
        except EncodeError as error:
            return error

    def _on_fetched(self, call: int, task: asyncio.Task[None]) -> None:
        """Answer, unless deliveries have done it."""
        failure = None
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = failure_of(error, "a FETCH")
        if self._fetching is not task:
            return
        self._fetch_call = self._fetching = None
        if failure is not None:
            self._answer(call, failure)
        else:
            self._send(durables.deliveries(call, ()))

    def _put(
        self, call: int, taken: Sequence[Delivery], documents: Sequence[bytes | EncodeError]
    ) -> list[Settlement]:
        """Put deliveries into frames. Returns what is to be said of those that cannot be sent.

        They would be tried in vain until they are dead letters: they become that at once.
        """
        unfit: list[Settlement] = []
        entries: list[tuple[int, int, int, bytes]] = []
        size = total = 0
        for delivery, document in zip(taken, documents, strict=True):
            record = delivery.record
            if isinstance(document, EncodeError):
                unfit.append(_not_encoded(delivery, document))
                continue
            if len(document) > self._peer.limits.max_frame:
                unfit.append(_too_long(delivery, len(document), self._peer.limits.max_frame))
                continue
            if size > _FRAME_BYTES:
                self._put_frame(call, entries, more=True)
                entries, size = [], 0
            entries.append((record.position, record.recorded_ns, delivery.attempt, document))
            size += len(document)
            total += len(document)
        self._put_frame(call, entries, more=False)
        average = max(total // len(taken), 1) if taken else 1
        self._piece = min(max(_PIECE_BYTES // average, 1), _MOST)
        return unfit

    def _put_frame(
        self, call: int, entries: Sequence[tuple[int, int, int, bytes]], *, more: bool
    ) -> None:
        if not self._peer.is_open:
            return
        data = durables.deliveries(call, entries, more=more)
        self._frames.append((call, data, len(entries)))
        self._peer.note_held(self, len(data), len(entries))

    # -- sending: contract `hms_bus.hub.seams.Pumped` --------------------------------------------

    @property
    def queued(self) -> int:
        """How many frames wait for the client to read."""
        return len(self._frames)

    def pump(self) -> None:
        """Send what waits, as long as the client reads."""
        while self._frames and not self._peer.is_congested:
            data, count = self._take_frame()
            self.delivered += count
            self._peer.delivered += count
            self._send(data)

    def _take_frame(self) -> tuple[bytes, int]:
        _, data, count = self._frames.popleft()
        self._peer.note_released(self, len(data), count)
        return data, count

    def _send(self, data: bytes) -> None:
        if self._peer.is_open:
            self._peer.send_frame(data)
            self._peer.flush()

    def _answer(self, call: int, failure: Failure | None = None) -> None:
        if not self._peer.is_open:
            return
        if failure is None:
            self._send(frames.done(call))
        else:
            self._peer.fail(call, failure)
            self._peer.flush()

    # -- settling ------------------------------------------------------------------------------

    def settle(self, call: int | None, settlements: Sequence[Settlement]) -> asyncio.Task[None]:
        """Begin to settle; done when `call` is answered, if there is one."""
        task = self._loop.create_task(self._settle(call, settlements))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _settle(self, call: int | None, settlements: Sequence[Settlement]) -> None:
        failure = None
        try:
            if self._consumer is not None:
                await self._consumer.settle(settlements)
        except Exception as error:  # noqa: BLE001 - a bug in here fails one call, not the client
            failure = failure_of(error, "a SETTLE")
        if call is not None:
            self._answer(call, failure)


def _too_long(delivery: Delivery, size: int, limit: int) -> Settlement:
    position = delivery.record.position
    reason = (
        f"the record at position {position} has {size} bytes, and the hub sends at most {limit} in "
        "a frame: raise its max_frame"
    )
    return _unfit(delivery, "RESOURCE_EXHAUSTED", reason)


def _not_encoded(delivery: Delivery, error: EncodeError) -> Settlement:
    reason = (
        f"the record at position {delivery.record.position} has no form in the codec that its "
        f"consumer has chosen: {error}"
    )
    return _unfit(delivery, error.code, reason)


def _unfit(delivery: Delivery, code: str, reason: str) -> Settlement:
    logger.warning("a delivery becomes a dead letter: %s", reason)
    return Settlement(
        position=delivery.record.position,
        attempt=delivery.attempt,
        outcome="term",
        code=code,
        reason=reason,
    )
