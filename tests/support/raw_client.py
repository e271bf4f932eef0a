"""A client of a hub that speaks frames, and says whatever a test wants it to say."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from hms_bus import plugins
from hms_bus.abc import Settlement
from hms_bus.ipc import durables, frames
from hms_bus.ipc.frames import FrameReader
from tests.support.events import event
from tests.support.ipc_frames import MAX_FRAME, Frame, read_frame
from tests.support.ipc_sessions import agrees

_encode = plugins.get_codec("json").encode

PATIENCE_S = 10.0
"""How long a test waits for what must come."""

_UNASKED = frozenset({"WINDOW", "PING"})


def to_json(**members: Any) -> bytes:
    return msgspec.json.encode(members)


HELLO: dict[str, Any] = {
    "protocol": [1, 1],
    "envelope": "1.0",
    "codecs": ["json"],
    "client": {"name": "raw"},
}
"""The members of a HELLO that is welcome everywhere."""


def hello(**members: Any) -> bytes:
    """Return a HELLO, with further or other members; `None` leaves one out."""
    content = {name: value for name, value in (HELLO | members).items() if value is not None}
    return frames.frame(frames.HELLO, to_json(**content))


def messages(address: str, *documents: bytes, reply_to: str = "") -> bytes:
    return frames.messages(address.encode(), reply_to.encode(), documents)


def publish(address: str, *documents: bytes, reply_to: str = "") -> bytes:
    return frames.frame(frames.PUBLISH, messages(address, *documents, reply_to=reply_to))


def call(number: int, address: str, *documents: bytes, reply_to: str = "") -> bytes:
    block = messages(address, *documents, reply_to=reply_to)
    return frames.call_frame(frames.CALL, number, block)


def subscribe(number: int, pattern: str, *, subscription: int = 1, **members: Any) -> bytes:
    content = to_json(subscription=subscription, pattern=pattern, **members)
    return frames.call_frame(frames.SUBSCRIBE, number, content)


def unsubscribe(number: int, subscription: int = 1) -> bytes:
    return frames.call_frame(frames.UNSUBSCRIBE, number, frames.U32.pack(subscription))


def credit(subscription: int, more: int, handled: int = 0) -> bytes:
    return frames.credit([(subscription, more, handled)])


def append(
    number: int,
    address: str,
    *documents: bytes,
    expect: int = -1,
    flags: int = 0,
    reply_to: str = "",
) -> bytes:
    block = messages(address, *documents, reply_to=reply_to)
    return frames.append(number, flags, expect, [block])


def read(number: int, **members: Any) -> bytes:
    return frames.call_frame(frames.READ, number, to_json(**members))


def stop(number: int) -> bytes:
    return frames.call_frame(frames.STOP, number)


def more(number: int, count: int) -> bytes:
    return frames.call_frame(frames.MORE, number, frames.U32.pack(count))


def consume(number: int, pattern: str = ">", *, consumer: int = 1, **members: Any) -> bytes:
    """Return a CONSUME of the durable `d`, unless `name` says another one."""
    content = {"consumer": consumer, "name": "d", "pattern": pattern} | members
    return frames.call_frame(frames.CONSUME, number, to_json(**content))


def fetch(number: int, limit: int = 100, *, consumer: int = 1) -> bytes:
    return durables.fetch(number, consumer, limit)


def settle(number: int, *settled: tuple[int, int, str], consumer: int = 1) -> bytes:
    """Return a SETTLE of `(position, attempt, outcome)`, with all else as it is by default."""
    entries = [
        durables.settlement(
            msgspec.convert({"position": p, "attempt": a, "outcome": outcome}, Settlement)
        )
        for p, a, outcome in settled
    ]
    return durables.settle(number, consumer, entries)


def release(number: int, flags: int = 0, *, consumer: int = 1) -> bytes:
    return durables.release(number, consumer, flags)


def ask(number: int, op: str, **members: Any) -> bytes:
    return frames.call_frame(frames.ASK, number, to_json(op=op, **members))


def bye(**members: Any) -> bytes:
    return frames.frame(frames.BYE, to_json(**members))


PING = frames.frame(frames.PING, b"12345678")


class RawClient:
    """One connection. What it hears it keeps until it is asked for; it reads only when asked."""

    def __init__(self, line: socket.socket) -> None:
        self.socket = line
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_FRAME + 2**20)
        self._came: list[bytes] = []
        self._is_open = False
        self.answers_pings = True
        """Whether it shows that it lives, when it is asked while it hears something else."""
        self.windows: dict[str, int] = {}
        """What WINDOW frames have allowed so far, by address."""

    @classmethod
    @asynccontextmanager
    async def connected(cls, door: Path, *, receive_bytes: int = 0) -> AsyncGenerator[Self]:
        """Connect; `receive_bytes` bounds what the system holds that was not read."""
        with socket.socket(socket.AF_UNIX) as line:
            if receive_bytes:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            line.connect(str(door))
            line.settimeout(0)
            yield cls(line)

    @classmethod
    @asynccontextmanager
    async def welcomed(cls, door: Path, **members: Any) -> AsyncGenerator[Self]:
        """Connect, and say a HELLO that must be answered with a WELCOME."""
        async with cls.connected(door) as client:
            await client.send(hello(**members))
            await client.expect("WELCOME")
            yield client

    async def send(self, *streams: bytes) -> None:
        """Say something; returns when the system has taken it."""
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.sock_sendall(self.socket, b"".join(streams))

    def send_what_fits(self, stream: bytes) -> int:
        """Say what the system takes at once; return how much that was."""
        try:
            return self.socket.send(stream)
        except BlockingIOError:
            return 0

    async def next(self) -> Frame | None:
        """Return what comes next, whatever it is; `None` when the hub has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while not self._came:
                    try:
                        chunk = await self._loop.sock_recv(self.socket, 65_536)
                    except ConnectionResetError:
                        return None  # the hub has not read all that was said
                    if not chunk:
                        return None
                    self._came = self._reader.feed(chunk)
                frame = read_frame(self._came.pop(0), "hub", opened=self._is_open)
                self._is_open = True
                if frame is not None:
                    self._note(frame)
                    return frame

    def _note(self, frame: Frame) -> None:
        if frame.kind == "WINDOW":
            address, window = frame.content["address"], frame.content["window"]
            self.windows[address] = self.windows.get(address, 0) + window

    async def hear(self) -> Frame | None:
        """Return what comes next, but no WINDOW and no PING."""
        while (frame := await self.next()) is not None and frame.kind in _UNASKED:
            if frame.kind == "PING" and self.answers_pings:
                await self.send(frames.frame(frames.PONG, bytes.fromhex(frame.content["bytes"])))
        return frame

    async def expect(self, kind: str, **content: Any) -> Frame:
        """Return what comes next, which must be of this kind and have this content."""
        frame = await (self.next() if kind in _UNASKED else self.hear())
        assert frame is not None, f"the hub has closed, {kind} {content} should come"
        assert frame.kind == kind, (kind, content, frame)
        assert agrees(content, frame.content), (content, frame.content)
        return frame

    async def refused(self, reason: str) -> dict[str, Any]:
        """Read on until an ERROR of this reason, and the end; return what the ERROR says."""
        last: Frame | None = None
        while (frame := await self.hear()) is not None:
            last = frame
        assert last is not None, f"closed without a word, not with {reason}"
        assert last.kind == "ERROR", last
        assert last.content["json"]["reason"] == reason, last.content
        return last.content["json"]

    async def failed(self, number: int, reason: str) -> dict[str, Any]:
        """Hear a FAILED of this reason; return what it says."""
        frame = await self.expect("FAILED", call=number, json={"reason": reason})
        return frame.content["json"]

    async def documents(self, count: int) -> list[bytes]:
        """Return the envelopes of the next DELIVER frames, `count` in all."""
        got: list[bytes] = []
        while len(got) < count:
            frame = await self.expect("DELIVER")
            got += frame.content["messages"]["envelopes"]
        assert len(got) == count
        return got

    async def deliveries(self, number: int) -> list[tuple[int, int]]:
        """Return `(position, attempt)` of all that answers a FETCH."""
        got: list[tuple[int, int]] = []
        is_over = False
        while not is_over:
            frame = await self.expect("DELIVERIES", call=number)
            got += [(entry["position"], entry["attempt"]) for entry in frame.content["entries"]]
            is_over = not frame.content["more"]
        return got

    async def round_trip(self) -> None:
        """Return when the hub has dealt with all that was said; nothing else must come."""
        await self.send(PING)
        await self.expect("PONG", bytes=b"12345678".hex())

    def read_nothing(self) -> None:
        """Close with what was sent unread."""
        self.socket.close()


def document(topic: str, data: Any = "text", **attributes: Any) -> bytes:
    """Return a new envelope in JSON."""
    return _encode(event(topic, data, **attributes))


def numbered(count: int, size: int = 0) -> list[bytes]:
    """Return documents that tell their number, padded to `size` bytes."""
    return [str(number).encode().ljust(size, b".") for number in range(count)]


def numbers(documents: Iterable[bytes]) -> list[int]:
    """Return what `numbered` has written into documents."""
    return [int(document.rstrip(b".")) for document in documents]
