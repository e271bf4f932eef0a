"""A hub that says whatever a test wants it to say, to see what clients make of it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from hms_bus.ipc import frames
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME, Frame, read_frame

PATIENCE_S = 10.0

LIMITS: dict[str, Any] = {
    "max_frame": MAX_FRAME,
    "max_subscriptions": 100,
    "max_topics": 100,
    "max_reads": 10,
    "max_consumers": 10,
    "heartbeat_s": 15.0,
}
HUB: dict[str, Any] = {
    "name": "fake",
    "pid": 1,
    "version": "0",
    "started_ns": 1,
    "instance": "one",
}


def welcome(*, limits: dict[str, Any] | None = None, **members: Any) -> bytes:
    """Return a WELCOME, with further or other members."""
    content = {
        "protocol": 1,
        "envelope": "1.0",
        "codecs": ["json"],
        "hub": HUB,
        "client": 1,
        "limits": LIMITS | (limits or {}),
        "log": None,
    }
    return frames.frame(frames.WELCOME, msgspec.json.encode(content | members))


def error(reason: str, message: str = "no", **members: Any) -> bytes:
    """Return an ERROR."""
    content = {"code": "UNKNOWN", "message": message, "reason": reason}
    return frames.frame(frames.ERROR, msgspec.json.encode(content | members))


BYE = frames.frame(frames.BYE, b"{}")


class Talk:
    """One client of the hub."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        """How many clients came before, or the same one."""
        self.began_s = asyncio.get_running_loop().time()
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(MAX_FRAME)
        self._came: list[bytes] = []
        self._is_open = False

    def say(self, *streams: bytes) -> None:
        """Send bytes, in one piece."""
        self._writer.write(b"".join(streams))

    def close(self) -> None:
        """Close behind what was said."""
        self._writer.close()

    def cut(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def hear(self) -> Frame | None:
        """Return the next frame of the client; `None` when it has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while not self._came:
                    with suppress(ConnectionError):
                        if chunk := await self._reader.read(65_536):
                            self._came = self._frames.feed(chunk)
                            continue
                    return None
                frame = read_frame(self._came.pop(0), "client", opened=self._is_open)
                self._is_open = True
                if frame is not None:
                    return frame

    async def hear_more(self) -> Frame:
        """Return the next frame; the client must not have closed."""
        frame = await self.hear()
        assert frame is not None, "the client has closed"
        return frame

    async def expect(self, kind: str) -> Frame:
        """Return the next frame, which must be of this kind."""
        frame = await self.hear()
        assert frame is not None, f"the client has closed, {kind} should come"
        assert frame.kind == kind, frame
        return frame

    async def welcome(self, **members: Any) -> None:
        """Hear a HELLO, and answer it."""
        await self.expect("HELLO")
        self.say(welcome(**members))

    async def subscriptions(self, count: int) -> list[Frame]:
        """Hear SUBSCRIBEs, and answer them."""
        heard: list[Frame] = []
        for _ in range(count):
            frame = await self.expect("SUBSCRIBE")
            self.say(frames.done(frame.content["call"]))
            heard.append(frame)
        return heard

    async def serve(self) -> None:
        """Do what a hub does at least, until the client has gone."""
        while (frame := await self.hear()) is not None:
            if "call" in frame.content:
                self.say(frames.done(frame.content["call"]))
            elif frame.kind == "PING":
                self.say(frames.frame(frames.PONG, bytes.fromhex(frame.content["bytes"])))
            elif frame.kind == "BYE":
                self.say(BYE)
                self.close()


class FakeHub:
    """Talks to each client as `script` says, and then as a hub; what fails there fails the test."""

    def __init__(self, url: str, script: Callable[[Talk], Awaitable[None]]) -> None:
        self.url = url
        self.talks: list[Talk] = []
        self._script = script
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._done = 0

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to talk."""
        talk = Talk(len(self.talks), reader, writer)
        self.talks.append(talk)
        self._tasks.append(asyncio.create_task(self._talk(talk)))

    async def _talk(self, talk: Talk) -> None:
        try:
            await self._script(talk)
        finally:
            async with self._changed:
                self._done += 1
                self._changed.notify_all()
        await talk.serve()

    async def done(self, count: int = 1) -> None:
        """Return when the script was played for `count` clients. Raises what failed in them."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self._done >= count)
        for task in self._tasks[:count]:
            if task.done():
                task.result()

    async def close(self) -> None:
        """End all talks."""
        for talk in self.talks:
            talk.cut()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


@asynccontextmanager
async def fake_hub(
    folder: Path, script: Callable[[Talk], Awaitable[None]]
) -> AsyncGenerator[FakeHub]:
    """Listen in `folder`; `url` is for a client that starts no hub."""
    door = folder / "fake.sock"
    hub = FakeHub(f"ipc://{door}?spawn=false", script)
    server = await asyncio.start_unix_server(hub.join, door)
    try:
        yield hub
    finally:
        server.close()
        await hub.close()
        await server.wait_closed()
