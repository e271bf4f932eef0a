"""How a client that shares no code with hms_bus comes to a hub, is refused, and leaves."""

import asyncio
import hashlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import ipc_client
from examples.ipc_client import Client, Event, HubError
from tests.support.hub_places import as_another
from tests.support.hub_process import HubProcess, running_hub

TOKEN = "the-secret-of-the-shop"
CONFIG = f"""
[[token]]
name = "shop"
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
publish = ["orders.>"]
subscribe = ["orders.>"]
"""


@pytest.fixture
def guarded(runtime: Path) -> Iterator[HubProcess]:
    """A hub that asks for tokens."""
    with running_hub(config=CONFIG) as hub:
        yield hub


@pytest.fixture
def mortal(runtime: Path) -> Iterator[HubProcess]:
    """A hub that the test may end."""
    with running_hub() as hub:
        yield hub


# -- coming ------------------------------------------------------------------------------------


def test_where_the_hub_is(monkeypatch: pytest.MonkeyPatch) -> None:
    user = f"hms-bus-{os.getuid()}"
    for name in ("HMS_BUS_RUNTIME_DIR", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert ipc_client.socket_path("ipc://shop").endswith(f"/{user}/shop.sock")
    monkeypatch.setenv("TMPDIR", "/srv/temporary")
    assert ipc_client.socket_path("ipc://shop") == f"/srv/temporary/{user}/shop.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert ipc_client.socket_path("ipc://shop") == "/run/user/7/hms-bus/shop.sock"
    monkeypatch.setenv("HMS_BUS_RUNTIME_DIR", "/srv/hubs")
    assert ipc_client.socket_path("ipc://shop") == "/srv/hubs/shop.sock"
    assert ipc_client.socket_path("ipc:///srv/a.sock") == "/srv/a.sock"


async def test_all_ways_to_say_it(hub: HubProcess) -> None:
    path = hub.place.socket
    for url in (hub.place.url, f"ipc://{path}", str(path)):
        async with Client(url) as client:
            assert client.welcome["protocol"] == 1
            assert client.welcome["hub"]["pid"] == hub.process.pid


async def test_no_hub_is_there(runtime: Path) -> None:
    with pytest.raises(HubError, match="UNAVAILABLE: no hub at ipc://nowhere"):
        async with Client("ipc://nowhere"):
            pass


async def test_to_another_user_it_says_nothing(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.mkdir()
    path = str(runtime / "trap.sock")
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(path)
        with as_another(monkeypatch):
            trap.listen()
        with pytest.raises(HubError, match="UNAUTHENTICATED"):
            async with Client(path):
                pass
        line, _ = trap.accept()
        with line:
            assert await asyncio.to_thread(line.recv, 1) == b""


async def test_a_hub_of_other_versions_says_both_ranges(
    hub: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc_client, "PROTOCOL", [7, 9])
    with pytest.raises(HubError, match="FAILED_PRECONDITION") as caught:
        async with Client(hub.place.url):
            pass
    assert caught.value.reason == "protocol-version"
    assert caught.value.details == {"hub": [1, 1], "client": [7, 9]}


async def test_a_later_client_is_welcome(hub: HubProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc_client, "PROTOCOL", [1, 9])
    async with Client(hub.place.url, compression="zstd") as client:
        assert client.welcome["protocol"] == 1


@pytest.mark.parametrize("hello", [{}, {"token": "guessed"}], ids=["none", "unknown"])
async def test_without_the_token_it_is_refused(guarded: HubProcess, hello: dict[str, str]) -> None:
    with pytest.raises(HubError, match="UNAUTHENTICATED") as caught:
        async with Client(guarded.place.url, **hello):
            pass
    assert caught.value.reason == "unauthenticated"


async def test_the_token_gives_some_rights_and_no_others(guarded: HubProcess) -> None:
    async with Client(guarded.place.url, token=TOKEN) as client:
        async with client.subscribe("orders.*") as orders:
            await client.publish("orders.eu", 1)
            assert (await anext(orders))["data"] == 1
        with pytest.raises(HubError, match="PERMISSION_DENIED") as caught:
            await client.publish("payments.eu", 1)
        assert caught.value.reason == "denied"
        assert caught.value.details["topic"] == "payments.eu"
        with pytest.raises(HubError, match="PERMISSION_DENIED"):
            async with client.subscribe(">"):
                pass
        with pytest.raises(HubError, match=r"PERMISSION_DENIED: no right to payments\.get"):
            await client.request("payments.get", None)  # it comes back as RETURNED


# -- staying -----------------------------------------------------------------------------------


async def test_a_ping_is_answered(client: Client) -> None:
    await asyncio.gather(client.ping(), client.ping())


async def test_a_frame_that_is_too_long_is_not_sent(client: Client, topic: str) -> None:
    limit = client.welcome["limits"]["max_frame"]
    with pytest.raises(HubError, match="RESOURCE_EXHAUSTED") as caught:
        await client.publish(topic, "x" * limit)
    assert caught.value.reason == "frame-too-large"
    async with client.subscribe(topic) as events:
        await client.publish(topic, "x" * (limit - 1000))
        assert len((await anext(events))["data"]) == limit - 1000


@pytest.mark.parametrize(
    ("stream", "reason"),
    [(b"\xff\xff\xff\xff", "frame-too-large"), (b"\0\0\0\1\2", "bad-frame")],
    ids=["4 GiB", "a frame of the hub's"],
)
async def test_a_protocol_error_ends_the_connection(
    hub: HubProcess, topic: str, stream: bytes, reason: str
) -> None:
    """Whoever waits for something learns why it does not come."""
    async with Client(hub.place.url) as client, client.subscribe(topic) as events:
        waiting = asyncio.ensure_future(anext(events))
        client._writer.write(stream)
        with pytest.raises(HubError) as caught:
            await waiting
        assert caught.value.reason == reason
        with pytest.raises(HubError) as caught:
            await client.publish(topic, 1)
        assert caught.value.reason == reason


# -- leaving -----------------------------------------------------------------------------------


async def test_what_it_sent_is_passed_on_when_it_leaves(
    hub: HubProcess, client: Client, topic: str
) -> None:
    async with client.subscribe(topic) as events:
        async with Client(hub.place.url) as leaving:
            publishing = [asyncio.create_task(leaving.publish(topic, n)) for n in range(50)]
            await asyncio.sleep(0)  # all of them are sent, none is done
        assert [(await anext(events))["data"] for _ in range(50)] == list(range(50))
        await asyncio.gather(*publishing)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_when_the_hub_ends_all_who_wait_learn_it(
    mortal: HubProcess, number: signal.Signals, topic: str
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: Event) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Client(mortal.place.url) as client, Client(mortal.place.url) as server:
        await server.serve(topic, wait)
        async with client.subscribe("nothing.>") as events:
            listening = asyncio.ensure_future(anext(events))
            asking = asyncio.create_task(client.request(topic, None, timeout=60))
            await begun.wait()
            mortal.process.send_signal(number)
            for waiting in (listening, asking):
                with pytest.raises(HubError, match="UNAVAILABLE"):
                    await waiting
        await cancelled.wait()
        with pytest.raises(HubError, match="UNAVAILABLE"):
            await client.publish(topic, 1)
    await mortal.ended()
