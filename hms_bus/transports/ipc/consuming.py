"""A consumer of a durable of the hub's log, which outlives a connection.

When the line was cut, a consumer consumes again on the next one. What it was given before can be
settled there as well, until it is delivered again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from typing import Final

from hms_bus.abc import Delivery, Durable, Settlement
from hms_bus.errors import (
    BusError,
    ConnectError,
    DisconnectedError,
    StateError,
    UsageError,
)
from hms_bus.ipc import durables, frames, session
from hms_bus.ipc.durables import Consume
from hms_bus.transports.ipc.calls import Call
from hms_bus.transports.ipc.client import Client
from hms_bus.transports.ipc.wire import Wire

_FRAME_BYTES: Final = 48 * 2**10
"""A SETTLE takes no more entries from this size on."""

_MOST: Final = 2**32 - 1

_TRY_AGAIN_S: Final = 0.1
"""How long to wait before consuming again, when the hub has not let go of our old connection."""

_TRY_LATER_S: Final = 1.0
"""How long to wait when it is not that: another one has the durable, perhaps for long."""


class HubConsumer:
    """Contract: `hms_bus.abc.Consumer`. Made by `HubDurables`."""

    def __init__(self, client: Client, durable: Durable, wanted: Consume) -> None:
        self._client = client
        self._durable = durable
        self._wanted = wanted
        self._ready = asyncio.Event()
        """Whether the hub has let it in, or does not: then there is a failure or a refusal."""
        self._failure: BusError | None = None
        self._refusal: BusError | None = None
        """What the hub answers for the time being. It is asked again."""
        self._is_at_hub = False
        """Whether a CONSUME was sent on this connection, and has not failed."""
        self._was_ready = False
        self._again: asyncio.TimerHandle | None = None
        self._again_until_s = 0.0
        self._turn = asyncio.Lock()
        self._fetching: asyncio.Future[None] | None = None
        self._fetch_call = 0
        self._arrived: deque[Delivery] = deque()
        self._arrived_s = 0.0
        self._released: asyncio.Future[None] | None = None

    # -- life ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Consume on the connection that there is now, if there is one."""
        self._again_until_s = self._client.loop.time() + self._patience_s
        self._send_consume()

    async def opened(self) -> None:
        """Return when the hub has let it in. Raises what the hub answers instead.

        On another connection than the first one a refusal that is `retryable` is raised when the
        patience is over, and again until the hub lets it in: it asks as long as it is open.
        """
        await self._ready.wait()
        if (error := self._failure or self._refusal) is not None:
            raise copy(error)

    @property
    def _patience_s(self) -> float:
        return self._client.settings.connect_timeout_s

    def _send_consume(self) -> None:
        if self._client.wire is None or self._failure is not None:
            return
        self._is_at_hub = True
        call, answer = self._new_call()
        answer.add_done_callback(self._on_consumed)
        content = session.to_json(self._wanted)
        self._client.wire.write(frames.call_frame(frames.CONSUME, call, content))

    def _on_consumed(self, answer: asyncio.Future[None]) -> None:
        error = answer.exception()
        if error is None:
            self._was_ready = True
            self._refusal = None
            self._ready.set()
        elif isinstance(error, BusError) and not isinstance(error, DisconnectedError):
            self._is_at_hub = False
            if self._was_ready and error.retryable:
                self._try_again(error)
            else:
                self.fail(error)

    def _try_again(self, refusal: BusError) -> None:
        loop = self._client.loop
        # At first who has the durable may be this very consumer, on a connection of before.
        is_patient = loop.time() < self._again_until_s
        pause_s = _TRY_AGAIN_S if is_patient else _TRY_LATER_S
        self._again = loop.call_later(pause_s, self._send_consume)
        if not is_patient:
            self._refusal = refusal
            self._ready.set()

    def pause(self) -> None:
        """Learn that the line was cut."""
        self._is_at_hub = False
        if self._again is not None:
            self._again.cancel()
        if self._failure is None:
            self._refusal = None
            self._ready.clear()

    def fail(self, error: BusError) -> None:
        """Raise `error` from now on."""
        self._failure = self._failure or error
        self._ready.set()

    async def close(self) -> None:
        """Hand back what it has, unless it was abandoned or the hub cannot be told."""
        self._release(0)
        if self._released is not None:
            await asyncio.wait({self._released})
            with suppress(DisconnectedError, ConnectError, StateError):
                self._released.result()

    def abandon(self) -> None:
        """Let go without handing back; see `hms_bus.abc.Consumer.abandon`."""
        self._release(durables.ABANDON)

    def _release(self, flags: int) -> None:
        self.fail(StateError(f"the consumer of {self._durable.name!r} is closed"))
        if self._again is not None:
            self._again.cancel()
        if self._is_at_hub and self._client.wire is not None:
            self._is_at_hub = False
            call, self._released = self._new_call()
            self._client.wire.write(durables.release(call, self._wanted.consumer, flags))

    def _new_call(self) -> tuple[int, asyncio.Future[None]]:
        future: asyncio.Future[None] = self._client.loop.create_future()
        future.add_done_callback(_look)
        return self._client.calls.add(Call(future)), future

    async def _connected(self) -> Wire:
        """Return the connection on which the hub has let it in. Raises when it never will."""
        while True:
            await self.opened()
            if self._client.wire is not None:
                return self._client.wire
            await self._client.connected()  # the hub ends, and the line will be cut

    # -- fetching ------------------------------------------------------------------------------

    async def fetch(self, limit: int) -> list[Delivery]:
        """Wait for deliveries; see `hms_bus.abc.Consumer.fetch`."""
        if limit < 1:
            raise UsageError(f"a fetch takes at least 1 delivery, not {limit}")
        async with self._turn:
            while not self._has_arrived():
                if self._fetching is None:
                    self._begin_fetch(await self._connected(), min(limit, _MOST))
                await self._until_fetched()
            return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def _has_arrived(self) -> bool:
        """Whether there are deliveries that nobody waited for any more, and that are still ours."""
        if self._failure is not None:
            raise copy(self._failure)
        kept_s = self._client.loop.time() - self._arrived_s
        if self._arrived and kept_s > self._durable.ack_wait_s:
            self._arrived.clear()
        return bool(self._arrived)

    def _begin_fetch(self, wire: Wire, limit: int) -> None:
        self._fetch_call, self._fetching = self._new_call()
        wire.write(durables.fetch(self._fetch_call, self._wanted.consumer, limit))

    async def _until_fetched(self) -> None:
        """Return when the FETCH was answered, or the line was cut. Raises what it failed with."""
        fetching = self._fetching
        if fetching is None:
            return
        try:
            await asyncio.wait({fetching})
        except asyncio.CancelledError:
            if not fetching.done() and self._client.wire is not None:
                self._client.wire.write(frames.call_frame(frames.STOP, self._fetch_call))
            raise
        finally:
            if fetching.done():
                self._fetching = None
        with suppress(DisconnectedError):
            fetching.result()

    @property
    def fetch_call(self) -> int | None:
        """The call of the FETCH that is under way, if one is."""
        is_under_way = self._fetching is not None and not self._fetching.done()
        return self._fetch_call if is_under_way else None

    def take(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        """Keep what has arrived; with `more` the FETCH has another answer."""
        self._arrived += deliveries
        self._arrived_s = self._client.loop.time()
        if not more:
            self._client.calls.finish(self._fetch_call)

    # -- settling ------------------------------------------------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Say what became of deliveries; see `hms_bus.abc.Consumer.settle`.

        While there is no connection it waits for one, as long as the URL says (`?timeout=`); then
        it raises `DisconnectedError`: what was settled is unknown. Settling twice changes nothing,
        so what was not answered before the line was cut is said again; but not what was deferred,
        which another one may have by now, as the same attempt.
        """
        max_text = self._max_frame // 4
        left = settlements
        while left:
            parts = self._parts([durables.settlement(each, max_text) for each in left])
            try:
                async with asyncio.timeout(self._patience_s):
                    wire = await self._connected()
            except TimeoutError:
                raise DisconnectedError(
                    f"there is no connection to the hub at {self._client.settings.url}: whether "
                    f"{len(settlements)} deliveries are settled is unknown"
                ) from None
            answers = [self._send_settle(wire, part) for part in parts]
            await asyncio.wait(answers)
            with suppress(DisconnectedError):
                for answer in answers:
                    answer.result()
                return
            left = [each for each in left if each.outcome != "defer"]

    @property
    def _max_frame(self) -> int:
        welcome = self._client.welcome
        return _FRAME_BYTES if welcome is None else welcome.limits.max_frame

    def _parts(self, entries: Sequence[bytes]) -> list[list[bytes]]:
        """Return the entries in lists that a frame holds."""
        most = min(_FRAME_BYTES, self._max_frame * 3 // 4)
        parts: list[list[bytes]] = []
        size = most
        for entry in entries:
            if size + len(entry) > most or len(parts[-1]) == durables.MAX_SETTLED:
                parts.append([])
                size = 0
            parts[-1].append(entry)
            size += len(entry)
        return parts

    def _send_settle(self, wire: Wire, part: Sequence[bytes]) -> asyncio.Future[None]:
        call, answer = self._new_call()
        wire.write(durables.settle(call, self._wanted.consumer, part))
        return answer


def _look(future: asyncio.Future[None]) -> None:
    """Look at an answer: it is no fault when nobody waits for it any more."""
    if not future.cancelled():
        future.exception()
