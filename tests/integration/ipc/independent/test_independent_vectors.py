"""spec/vectors/ipc-*.json, for a client that shares no code with hms_bus."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.ipc_client import Client, HubError, Kind
from tests.support.ipc_vectors import load_frames, load_refused_streams

FRAMES = {vector.name: vector for vector in load_frames()}
OF_HUB = [name for name, vector in FRAMES.items() if vector.sender == "hub"]
REFUSED = {
    vector.name: vector
    for vector in load_refused_streams()
    if vector.sender == "hub" and not vector.name.startswith("window-")  # which it ignores
}
WELCOME = FRAMES["welcome-without-log"].stream


def frame(kind: Kind, *parts: bytes) -> bytes:
    content = bytes([kind]) + b"".join(parts)
    return len(content).to_bytes(4, "big") + content


class SmallHub:
    """A hub of one client, which says what a test wants, and hears what the client says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, stream: bytes) -> None:
        self._writer.write(stream)

    async def hear(self) -> tuple[Kind, bytes]:
        """Return the next frame. Raises `EOFError` when the client has closed."""
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        content = await self._reader.readexactly(length)
        return Kind(content[0]), content[1:]

    async def welcome(self, stream: bytes = WELCOME) -> None:
        """Answer the HELLO, and the SUBSCRIBEs that follow it."""
        assert (await self.hear())[0] == Kind.HELLO
        self.say(stream)
        for _ in range(2):
            kind, content = await self.hear()
            assert kind == Kind.SUBSCRIBE
            self.say(frame(Kind.DONE, content[:4], bytes(4)))

    async def refused(self) -> str:
        """Hear an ERROR, and the end; return the reason."""
        while (heard := await self.hear())[0] != Kind.ERROR:
            assert heard[0] in {Kind.PING, Kind.PONG}
        with pytest.raises(EOFError):
            await self.hear()
        return json.loads(heard[1])["reason"]


@asynccontextmanager
async def small_hub(
    folder: Path, script: Callable[[SmallHub], Awaitable[Any]]
) -> AsyncGenerator[tuple[str, asyncio.Future[Any]]]:
    """Run a script with the client that connects to the path; yield that, and the result."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            result.set_result(await script(SmallHub(reader, writer)))
        except Exception as error:  # noqa: BLE001 - it fails the test
            result.set_exception(error)
        finally:
            writer.close()

    folder.mkdir()
    path = str(folder / "small.sock")
    async with await asyncio.start_unix_server(serve, path):
        yield path, result


@pytest.mark.parametrize("name", REFUSED)
async def test_what_must_be_refused(name: str, runtime: Path) -> None:
    vector = REFUSED[name]

    async def script(hub: SmallHub) -> str:
        if vector.opened:
            await hub.welcome()
        else:
            assert (await hub.hear())[0] == Kind.HELLO
        hub.say(vector.stream)
        return await hub.refused()

    async with small_hub(runtime, script) as (path, result):
        with pytest.raises(HubError):
            async with Client(path) as client:
                await client.ping()
        assert await result == vector.reason


async def test_a_silent_hub_is_asked_and_given_up(runtime: Path) -> None:
    async def script(hub: SmallHub) -> list[Kind]:
        await hub.welcome(WELCOME.replace(b'"heartbeat_s":15.0', b'"heartbeat_s":0.02'))
        heard: list[Kind] = []
        try:
            while True:
                heard.append((await hub.hear())[0])
        except EOFError:
            return heard

    async with small_hub(runtime, script) as (path, result):
        async with Client(path) as client:
            with pytest.raises(HubError, match="UNAVAILABLE: the hub is silent"):
                await client.publish("orders.eu", 1)
        assert await result == [Kind.CALL, Kind.PING, Kind.PING, Kind.PING]


async def test_a_ping_of_the_hub_is_answered_with_its_bytes(runtime: Path) -> None:
    async def script(hub: SmallHub) -> None:
        await hub.welcome()
        for octets in (bytes(8), b"\xff" * 8, b"01234567"):
            hub.say(frame(Kind.PING, octets))
            assert await hub.hear() == (Kind.PONG, octets)

    async with small_hub(runtime, script) as (path, result), Client(path):
        await result
