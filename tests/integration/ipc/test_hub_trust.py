"""Which token a hub over TCP gets, and what is said of a hub that breaks off or is a stranger's."""

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import pytest

from hms_bus.errors import ConnectError
from hms_bus.hub.server import open_hub, serve
from hms_bus.hub.settings import Grant, HubSettings
from hms_bus.ipc import frames
from hms_bus.ipc.places import find_place, prepare_folder
from hms_bus.transports.ipc.asking import ask
from tests.support.hub_places import as_another

BOSS = Grant(
    name="boss",
    sha256=hashlib.sha256(b"boss-secret").digest(),
    publish=(">",),
    subscribe=(">",),
    is_admin=True,
)
OPEN = HubSettings(listen="ipc://test", tcp=True)
GUARDED = HubSettings(listen="ipc://test", tcp=True, tokens=(BOSS,))


def do_nothing() -> None:
    """Let the hub of a test go on until the test ends it."""


@pytest.mark.usefixtures("runtime")
async def test_a_token_in_the_environment_does_not_displace_that_of_the_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HMS_BUS_TOKEN", "meant-for-another-hub")
    async with open_hub(OPEN, on_stop=do_nothing):
        assert await ask("ipc://test", "status")
        assert await ask("ipc://test?token=meant-for-another-hub", "status")


@pytest.mark.usefixtures("runtime")
async def test_where_tokens_are_asked_for_the_token_of_the_port_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_hub(GUARDED, on_stop=do_nothing):
        with pytest.raises(ConnectError, match="the client gave none: set HMS_BUS_TOKEN"):
            await ask("ipc://test", "status")
        with pytest.raises(ConnectError, match="does not know the client's token: set HMS_BUS"):
            await ask("ipc://test?token=wrong", "status")
        monkeypatch.setenv("HMS_BUS_TOKEN", "boss-secret")
        assert (await ask("ipc://test", "status"))["clients"][0]["token"] == "boss"


async def test_no_answer_is_told_without_the_token(runtime: Path) -> None:
    place = find_place("test")
    await asyncio.to_thread(prepare_folder, place)
    heard: list[bytes] = []
    ended = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_unix_server(hear, place.socket)
    with pytest.raises(ConnectError) as caught:
        await ask("ipc://test?token=SECRET", "status", timeout_s=0.1)
    await ended.wait()
    server.close()
    assert heard[0][4] == frames.HELLO
    assert (caught.value.message, caught.value.url) == (
        "ipc://test: no answer within 0.1 s",
        "ipc://test",
    )
    assert runtime == place.folder


async def test_who_is_first_in_a_shared_folder_gets_no_token(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(runtime.mkdir)
    heard: list[bytes] = []
    ended = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_unix_server(hear, runtime / "x.sock", start_serving=False)
    with as_another(monkeypatch) as stranger:
        await server.start_serving()
    with pytest.raises(ConnectError, match=f"belongs to user {stranger}, not to you") as caught:
        await ask(f"ipc://{runtime}/x.sock?token=SECRET", "status")
    assert caught.value.refused
    await ended.wait()
    server.close()
    assert not any(heard)


@pytest.mark.usefixtures("runtime")
async def test_a_hub_ends_in_order_where_the_loop_takes_no_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, which is not tested itself."""

    def takes_none(*args: object) -> None:
        raise NotImplementedError(args)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", takes_none)
    monkeypatch.setattr(loop, "remove_signal_handler", takes_none)
    before = signal.getsignal(signal.SIGTERM)
    ready = asyncio.Event()
    serving = asyncio.create_task(serve(OPEN, ready=lambda url: ready.set()))
    await ready.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert signal.getsignal(signal.SIGTERM) is before
    assert not find_place("test").tcp.exists()
