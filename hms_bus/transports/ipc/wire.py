"""One connection to a hub: bytes to frames, and writes that are put together."""

import asyncio
from collections.abc import Callable
from typing import cast

from hms_bus.errors import FrameError
from hms_bus.ipc import frames, session
from hms_bus.ipc.buffers import READ_BYTES, widen
from hms_bus.ipc.failures import to_failure

_AT_ONCE_BYTES = 64 * 2**10
_LAST_WORDS_S = 1.0
"""How long a hub that has broken the protocol has to read what we think of it."""


class Wire(asyncio.BufferedProtocol):
    """Calls `on_frames` with what each read completes, and `on_lost` once, when it has ended.

    The first `write` of a turn of the event loop goes out at once, so that a single message is not
    held up; what follows in that turn goes out together, 64 KiB at the latest.
    """

    def __init__(
        self,
        max_frame: int,
        on_frames: Callable[[list[bytes]], None],
        on_lost: Callable[["Wire", Exception | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._reader = frames.FrameReader(max_frame)
        self._on_frames = on_frames
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._wrote_this_turn = False
        self._room: asyncio.Future[None] | None = None
        self.heard_s = self._loop.time()

    # -- asyncio's side ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        widen(self._transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer that is read into."""
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the frames that are complete now."""
        self.heard_s = self._loop.time()
        try:
            contents = self._reader.feed(bytes(self._view[:nbytes]))
        except FrameError as error:
            self._fail(error)
        else:
            self.hand_on(contents)

    def hand_on(self, contents: list[bytes]) -> None:
        """Let frames be taken; what breaks the protocol ends the connection."""
        try:
            self._on_frames(contents)
        except FrameError as error:
            self._fail(error)

    def _fail(self, error: FrameError) -> None:
        """Tell the hub what was wrong, and close (spec/ipc.md, "Frames")."""
        on_lost, self._on_lost = self._on_lost, _ignore
        self.write(frames.frame(frames.ERROR, session.to_json(to_failure(error))))
        self.close()
        self._loop.call_later(_LAST_WORDS_S, self.abort)
        on_lost(self, error)

    def pause_writing(self) -> None:
        """Let publishers wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let publishers go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def eof_received(self) -> bool:
        """Close, too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever uses this."""
        self.resume_writing()
        self._transport = None
        self._on_lost(self, exc)

    # -- sending -------------------------------------------------------------------------------

    @property
    def room(self) -> asyncio.Future[None] | None:
        """Done when the hub reads again; `None` while it does."""
        return self._room

    def write(self, data: bytes) -> None:
        """Send at once, or with what else is sent in this turn."""
        self._out.append(data)
        if not self._wrote_this_turn:
            self._wrote_this_turn = True
            self._loop.call_soon(self._end_turn)
            self.flush()
            return
        self._out_bytes += len(data)
        if self._out_bytes > _AT_ONCE_BYTES:
            self.flush()

    def _end_turn(self) -> None:
        self._wrote_this_turn = False
        self.flush()

    def flush(self) -> None:
        """Write what has come together."""
        if self._out and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._transport.write(data)

    def set_max_frame(self, max_frame: int) -> None:
        """Accept frames of the size that the hub allows."""
        self._reader.max_frame = max_frame

    def close(self) -> None:
        """Send what is written, then close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _ignore(wire: Wire, error: Exception | None) -> None:
    del wire, error
