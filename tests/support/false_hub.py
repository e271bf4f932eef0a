"""A hub that talks nonsense: some of it in answer to what it is told, the rest as it pleases."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hms_bus.errors import FrameError
from hms_bus.ipc import frames
from hms_bus.ipc.failures import read_failure
from hms_bus.ipc.frames import FrameReader
from hms_bus.transports.ipc.greeting import PASSING
from tests.support.raw_client import bye
from tests.support.wild_frames import GREETINGS, Wild

_ERROR = bytes([frames.ERROR])
_WELCOME = bytes([frames.WELCOME])

_SILENCE_S = 0.05
"""After so long without a word from its client it has had enough."""


class FalseHub:
    """Takes connections, and treats each one worse than it should. Made by `false_hub`."""

    def __init__(self, chance: random.Random, welcome: bytes) -> None:
        self._chance = chance
        self._welcome = welcome
        self._keeps_no_log = b'"log": null' in welcome
        self._is_sober = False
        self._wild = Wild("hub", chance)
        self._talks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.connections = 0
        """How many there were."""

    async def has_had(self, connections: int) -> None:
        """Return when it had so many connections."""
        while self.connections < connections:
            self._changed.clear()
            await self._changed.wait()

    async def sober_up(self) -> None:
        """Welcome one more client, as an honest hub does."""
        self._is_sober = True
        await self.has_had(self.connections + 2)  # the first may have come before

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until one of both has had enough."""
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with suppress(ConnectionError, FrameError, TimeoutError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            self._talks.discard(task)
            self.connections += 1
            self._changed.set()
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_sober:
            await reader.read(1)
            writer.write(self._welcome)
            await writer.drain()
            return
        match self._chance.choices(("answer", "lecture", "slam"), (6, 4, 1))[0]:
            case "answer":
                await self._answer(reader, writer)
            case "lecture":
                await reader.read(1)
                writer.write(self._forgiving(b"".join(self._wild.session())))
                await writer.drain()
                await asyncio.sleep(self._chance.choice((0, 0.01)))
            case _:
                return

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer as a hub does, for a while, and say more besides."""
        came = FrameReader(2**24)
        left = self._chance.choice((1, 3, 10, 30))
        while left > 0 and (chunk := await asyncio.wait_for(reader.read(2**16), _SILENCE_S)):
            for content in came.feed(chunk):
                left -= 1
                if self._chance.random() < 0.95:
                    writer.write(self._answer_to(content))
                if content[0] != frames.HELLO and self._chance.random() < 0.5:
                    more = self._wild.made_up()[1:4]
                    if self._chance.random() < 0.2:
                        more = self._wild.mutated(more)
                    writer.write(self._forgiving(b"".join(more)))
            await writer.drain()

    def _answer_to(self, content: bytes) -> bytes:
        """Return what an honest hub answers, about."""
        kind = content[0]
        match kind:
            case frames.HELLO:
                return self._welcome
            case frames.CALL:
                return frames.done(frames.read_u32(content), 3)
            case frames.SUBSCRIBE | frames.UNSUBSCRIBE:
                return frames.done(frames.read_u32(content))
            case frames.APPEND:
                return frames.receipts([(frames.read_u32(content), 1, frames.LAST)])
            case frames.READ:
                return frames.call_frame(frames.END, frames.read_u32(content))
            case frames.ASK:
                return frames.call_frame(frames.FAILED, frames.read_u32(content), b"{}")
            case frames.PING:
                return frames.frame(frames.PONG, content[1:])
            case frames.BYE:
                return bye()
            case _:
                return b""

    def _forgiving(self, stream: bytes) -> bytes:
        """Return `stream` without what would put an end to a client, or its log, for good."""
        at, kept = 0, b""
        while at < len(stream):
            frame = stream[at : at + 4 + int.from_bytes(stream[at : at + 4], "big")]
            at += max(4, len(frame))
            if frame[4:5] == _ERROR and read_failure(frame[5:]).reason not in PASSING:
                continue
            brings_log = frame[4:5] == _WELCOME and b'"log":{' in frame
            kept += self._welcome if brings_log and self._keeps_no_log else frame
        return kept

    async def end(self) -> None:
        """End all talks."""
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)


@asynccontextmanager
async def false_hub(door: Path, seed: int, log: str | None) -> AsyncGenerator[FalseHub]:
    """Be a hub at the socket `door` until the scope ends; `log` is what it says to keep."""
    hub = FalseHub(random.Random(seed), _honest_welcome(log))
    server = await asyncio.start_unix_server(hub.take, door)
    try:
        yield hub
    finally:
        server.close()
        await hub.end()
        door.unlink()


def _honest_welcome(log: str | None) -> bytes:
    """Return an honest WELCOME, of a hub that keeps a log or none."""
    members = json.loads(GREETINGS["hub"][5:])
    if log is not None:
        members["log"] = {"url": log, "identity": log, "capabilities": ["log-follow"]}
    return frames.frame(frames.WELCOME, json.dumps(members).encode())
