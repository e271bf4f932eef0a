"""Clients that no hub deserves: what they say is wild, and so is how they say it and leave."""

import asyncio
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from hms_bus.errors import FrameError
from hms_bus.ipc import frames
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME, MAX_HELLO, Frame, read_frame
from tests.support.raw_client import RawClient
from tests.support.wild_frames import GREETINGS, Wild

REASONS = frozenset(
    {
        "protocol-version",
        "envelope-version",
        "no-hello",
        "bad-frame",
        "frame-too-large",
        "unauthenticated",
        "bad-topic",
        "limit",
        "no-log",
        "other-log",
        "log",
    }
)
"""Why a hub may end a connection that a client has spoiled; `internal` would be a bug."""

LAST_PING = frames.frame(frames.PING, b"the last")


class Said(Struct, frozen=True):
    """What a client has said, as the spec reads it: where it breaks off, or breaks the protocol."""

    is_broken: bool = False
    """It breaks the protocol."""
    is_parted: bool = False
    """It says BYE or ERROR; what is behind that does not count."""
    is_cut: bool = False
    """It ends within a frame."""
    hello: int = 0
    """How many bytes its HELLO takes, if it begins with one."""


def judge(stream: bytes) -> Said:
    """Return what is to be said of a client's stream."""
    at = hello = 0
    is_broken = False
    while at < len(stream):
        reader = FrameReader(MAX_FRAME if hello else MAX_HELLO)
        try:
            came = reader.feed(stream[at : at + 4 + int.from_bytes(stream[at : at + 4], "big")])
        except FrameError:
            return Said(is_broken=True, hello=hello)
        if not came:
            return Said(is_broken=is_broken, is_cut=True, hello=hello)
        try:
            read_frame(came[0], "client", opened=at > 0)
        except FrameError:
            is_broken = True
        if came[0][0] in {frames.BYE, frames.ERROR}:
            return Said(is_broken=is_broken, is_parted=True, hello=hello)
        at += 4 + len(came[0])
        if not is_broken:
            hello = hello or at
    return Said(is_broken=is_broken, hello=hello)


class Troublemaker:
    """One client. `make_trouble` raises `AssertionError` when the hub does not keep to the spec."""

    def __init__(self, door: Path, chance: random.Random, hello: bytes) -> None:
        self._door = door
        self._chance = chance
        self._stream = b"".join(Wild("client", chance, hello).session())

    async def make_trouble(self) -> None:
        """Connect, say something, listen or not, and leave in some way."""
        async with RawClient.connected(self._door) as client:
            if self._chance.random() < 0.25:
                # Deaf, and gone with what was answered unread.
                client.send_what_fits(self._stream)
                await asyncio.sleep(self._chance.choice((0, 0.001, 0.01)))
                return
            said, answered = judge(self._stream), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                heard = group.create_task(_hear(client, answered))
                await self._say(client, said, answered)
            _check(said, *heard.result())

    async def _say(self, client: RawClient, said: Said, answered: asyncio.Event) -> None:
        """Say all of it, in pieces, and what lets the hub answer; it may have had enough before."""
        stream, at = self._stream, 0
        if said.hello and self._chance.random() < 0.95:
            await client.send(stream[: said.hello])
            await answered.wait()
            at = said.hello
        most = self._chance.choice((1, 7, 100, 100_000)) if len(stream) < 2000 else 100_000
        with suppress(ConnectionError):
            while at < len(stream):
                size = self._chance.randint(1, most)
                await client.send(stream[at : at + size])
                at += size
                if self._chance.random() < 0.2:
                    await asyncio.sleep(self._chance.choice((0, 0, 0.001)))
            if not said.is_cut:
                await client.send(LAST_PING)
        if said.is_cut or self._chance.random() < 0.2:
            with suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)


async def _hear(client: RawClient, answered: asyncio.Event) -> tuple[list[Frame], bool]:
    """Return what the hub says up to its answer to the last PING, and whether it closes before.

    Sets `answered` when the first of it comes, or nothing any more.
    """
    heard: list[Frame] = []
    while (frame := await client.next()) is not None:
        answered.set()
        heard.append(frame)
        if frame.kind == "PONG" and frame.content["bytes"] == LAST_PING[5:].hex():
            return heard, False
    answered.set()
    return heard, True


def _check(said: Said, heard: Sequence[Frame], is_closed: bool) -> None:
    """Check what the hub has made of it."""
    errors = [frame for frame in heard if frame.kind == "ERROR"]
    assert not errors or (is_closed and heard[-1] is errors[0]), "something follows an ERROR"
    for error in errors:
        assert _reason(error) in REASONS, error.content
        assert error.content["json"]["message"]
    if said.is_broken and not errors:
        # The rest of an APPEND is not looked into when it has failed already.
        failed = {_reason(each) for each in heard if each.kind == "FAILED"}
        assert failed & {"no-log", "bad-envelope", "bad-topic"}, "it was broken without a word"


def _reason(frame: Frame) -> str:
    return frame.content["json"].get("reason", "internal")


async def storm(
    door: Path,
    seed: str,
    count: int,
    *,
    hello: bytes = GREETINGS["client"],
    together: int = 16,
) -> None:
    """Let so many make trouble, some at a time. Raises `AssertionError` with the seed of one."""
    room = asyncio.Semaphore(together)

    async def one(number: int) -> None:
        async with room:
            try:
                chance = random.Random(f"{seed}-{number}")
                await Troublemaker(door, chance, hello).make_trouble()
            except Exception as error:
                raise AssertionError(f"client {seed}-{number}: {error!r}") from error

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
