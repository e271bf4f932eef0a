"""What a client publishes: windows, frames that hold many messages, and a buffer for bad times.

Hot path: a publish on a known topic costs a dict access, the encoding and two list appends;
messages to one address that follow each other in a turn of the event loop share a frame.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns

from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, DisconnectedError, EncodeError
from hms_bus.ipc import frames
from hms_bus.ipc.session import Welcome
from hms_bus.transports.ipc.calls import Call
from hms_bus.transports.ipc.client import Client

logger = logging.getLogger("hms_bus")

_FRAME_BYTES = 48 * 2**10
"""A frame takes no more messages from this size on, so that the hub can begin with it."""

_LINGER_NS = 200_000
"""How long messages are put together in a turn of the event loop that does not end.

A server that answers 64 requests in a turn would let everybody else wait for the last answer:
45,000 requests per second, 69,000 with this. At 0.1 ms a stream of messages loses 9 %.
"""

_LOOKS = 7
"""The clock is looked at for each eighth message."""

_HEAD_BYTES = 5
"""The kind of a PUBLISH, and the lengths of its addresses."""

_PARTS_OF_ONE = 3
"""An address, and the length and bytes of one envelope."""

_UNBOUNDED = 2**62
_pack_length = frames.U32.pack


class Flow:
    """One address that this client publishes to, and its window there."""

    __slots__ = ("address", "is_known", "is_system", "window")

    def __init__(self, topic: str) -> None:
        self.address = topic.encode()
        self.is_system = topic.startswith("$")
        self.window = _UNBOUNDED if self.is_system else 0
        self.is_known = False
        """Whether a CALL to it was answered. A WINDOW that comes before is for what we forgot."""

    def begin(self, window: int) -> None:
        """Add to the window what a CALL was answered with."""
        self.is_known = True
        self.window += window


class Outbox:
    """Publishes over a client's connection; while there is none, up to a limit into a buffer."""

    def __init__(self, client: Client, encode: Callable[[Envelope], bytes]) -> None:
        self._client = client
        self._loop = client.loop
        self._encode = encode
        self._flows: dict[str, Flow] = {}
        self._is_up = False
        self._max_frame = 2**24
        self._always_fits = self._max_frame - _FRAME_BYTES
        self._max_topics = 65_536
        self._max_buffer = client.settings.max_buffer_bytes
        # The frame that messages are still added to.
        self._parts: list[bytes] = []
        self._size = 0
        self._flow: Flow | None = None
        self._reply_to: str | None = None
        self._is_scheduled = False
        self._is_busy = False
        self._messages = 0
        self._flushed_ns = 0
        """Whether the turn before had more than one message: then the first waits for the rest."""
        self._buffer: list[tuple[Flow, bytes, bool]] = []
        """Messages, and whether they need a window."""
        self._buffered = 0
        client.handlers[frames.WINDOW] = self._on_window
        client.up.append(self._on_up)
        client.parting.append(self._on_parting)
        client.down.append(self._on_down)
        client.over.append(self._on_over)

    def publish(
        self, envelope: Envelope, topic: str, reply_to: str | None
    ) -> Awaitable[None] | None:
        """Send one message; see `hms_bus.abc.Transport.publish`."""
        flow = self._flows.get(topic)
        if flow is None:
            flow = self._open_flow(topic)
        document = self._encode(envelope)
        if not self._is_up:
            return self._send_apart(flow, document, reply_to)
        if reply_to is None and flow.window <= 0:
            return self._send_apart(flow, document, None)
        size = 4 + len(document)
        if size > self._always_fits:
            self._make_fit(flow, document, reply_to)
        if reply_to is None:
            flow.window -= 1
        if flow is not self._flow or reply_to != self._reply_to or self._size > _FRAME_BYTES:
            self._close_frame()
            self._begin_frame(flow, reply_to)
        self._parts += (_pack_length(size - 4), document)
        self._size += size
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._end_turn)
            self._flushed_ns = perf_counter_ns()
            if not self._is_busy:
                self._close_frame()
        self._messages += 1
        if not self._messages & _LOOKS and perf_counter_ns() - self._flushed_ns > _LINGER_NS:
            self._flush_early()
        wire = self._client.wire
        return None if wire is None or wire.room is None else _until(wire.room)

    def _flush_early(self) -> None:
        self._flushed_ns = perf_counter_ns()
        self._close_frame()
        if self._client.wire is not None:
            self._client.wire.flush()

    def _open_flow(self, topic: str) -> Flow:
        self._client.check()
        if len(self._flows) >= self._max_topics:
            self.flush()
            self._flows.clear()
            if self._client.wire is not None:
                self._client.wire.write(frames.frame(frames.FORGET))
        flow = self._flows[topic] = Flow(topic)
        return flow

    def _begin_frame(self, flow: Flow, reply_to: str | None) -> None:
        self._flow, self._reply_to = flow, reply_to
        head = frames.address_head(flow.address, b"" if reply_to is None else reply_to.encode())
        self._parts.append(head)
        self._size = len(head) + 1

    def _close_frame(self) -> None:
        """Hand the frame that is being put together to the wire."""
        if self._flow is None:
            return
        parts, self._parts = self._parts, []
        self._flow = None
        wire = self._client.wire
        if wire is not None:
            wire.write(_publish_head(self._size) + b"".join(parts))

    def _make_fit(self, flow: Flow, document: bytes, reply_to: str | None) -> None:
        """Begin a new frame for what may be too much for the last one.

        Raises `EncodeError` for what no frame can hold; nothing has changed then.
        """
        head = _HEAD_BYTES + len(flow.address) + len((reply_to or "").encode())
        size = 4 + len(document)
        if head + size > self._max_frame:
            raise self._too_large(document)
        if self._size + size > self._max_frame:
            self._close_frame()

    def _too_large(self, document: bytes) -> EncodeError:
        return EncodeError(
            f"the encoded envelope has {len(document)} bytes; the hub takes frames of at most "
            f"{self._max_frame}: send a reference (dataref), or raise max_frame in hub.toml",
            field="data",
        )

    def _end_turn(self) -> None:
        self._is_scheduled = False
        follows_first = bool(self._parts) and not self._is_busy
        self._is_busy = follows_first or len(self._parts) > _PARTS_OF_ONE
        self.flush()

    def flush(self) -> None:
        """Send what was published so far."""
        self._close_frame()

    # -- when there is no window, or no hub ------------------------------------------------------

    def _send_apart(
        self, flow: Flow, document: bytes, reply_to: str | None
    ) -> Awaitable[None] | None:
        self._client.check()
        block = frames.messages(
            flow.address, b"" if reply_to is None else reply_to.encode(), (document,)
        )
        if len(block) + 5 > self._max_frame:
            raise self._too_large(document)
        if not self._is_up:
            self._keep(flow, block, needs_window=reply_to is None and not flow.is_system)
            return None
        return self._call(flow, block)

    def _call(self, flow: Flow, block: bytes) -> asyncio.Future[None]:
        """Send a CALL behind what was published before; done when there is room for more."""
        self._close_frame()
        done: asyncio.Future[None] = self._loop.create_future()
        call = self._client.calls.add(Call(done, on_window=flow.begin))
        wire = self._client.wire
        if wire is not None:
            wire.write(frames.call_frame(frames.CALL, call, block))
        return done

    def _keep(self, flow: Flow, block: bytes, *, needs_window: bool) -> None:
        """Buffer a message until there is a connection again."""
        size = len(block)
        if self._buffered + size > self._max_buffer:
            raise DisconnectedError(
                f"there is no connection to the hub, and {self._buffered} bytes are waiting for "
                f"one (the limit is {self._max_buffer}, ?buffer= in the URL)"
            )
        self._buffered += size
        self._buffer.append((flow, block, needs_window))

    def _on_up(self, welcome: Welcome) -> None:
        self._max_frame = welcome.limits.max_frame
        self._always_fits = self._max_frame - _FRAME_BYTES
        self._max_topics = welcome.limits.max_topics
        self._is_up = True

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for a connection."""
        return not self._buffer

    def send_buffered(self) -> None:
        """Send what was published while there was no connection, in order."""
        buffer, self._buffer = self._buffer, []
        self._buffered = 0
        wire = self._client.wire
        for flow, block, needs_window in buffer:
            if len(block) + 5 > self._max_frame:
                _report(flow, self._too_large(block))
            elif needs_window:
                self._call(flow, block).add_done_callback(partial(_note, flow))
            elif wire is not None:
                wire.write(frames.frame(frames.PUBLISH, block))

    def _on_parting(self) -> None:
        """Say what is still to be said; what comes now waits for the next connection."""
        self._close_frame()
        self._is_up = False
        self._flows.clear()

    def _on_down(self, error: Exception | None) -> None:
        del error
        self._is_up = False
        self._flow = None
        self._parts.clear()
        self._flows.clear()

    def _on_over(self, failure: BusError) -> None:
        """Tell what is lost: whoever has published it was told that it waits for a connection."""
        self._is_up = False
        buffer, self._buffer = self._buffer, []
        self._buffered = 0
        if buffer:
            logger.error(
                "%d messages that were published while there was no connection are lost: %s",
                len(buffer),
                failure,
            )

    def _on_window(self, content: bytes) -> None:
        window, address = frames.read_window(content)
        flow = self._flows.get(address.decode())
        if flow is not None and flow.is_known:
            flow.window += window


def _publish_head(size: int) -> bytes:
    return frames.HEAD.pack(size, frames.PUBLISH)


async def _until(room: asyncio.Future[None]) -> None:
    """Wait for room that others wait for, too."""
    await asyncio.wait({room})


def _note(flow: Flow, done: asyncio.Future[None]) -> None:
    """Take note of what became of a buffered message: nobody waits for it any more."""
    if not done.cancelled() and (error := done.exception()) is not None:
        _report(flow, error)


def _report(flow: Flow, error: BaseException) -> None:
    logger.error(
        "a message to %s that was published while there was no connection failed: %s",
        flow.address.decode(),
        error,
    )
