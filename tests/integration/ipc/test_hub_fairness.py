"""What one client does at the hub must not harm others, nor leave anything behind."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hms_bus import Bus, plugins
from hms_bus.errors import StatusError
from hms_bus.hub.desk import Desk
from hms_bus.hub.server import open_hub
from hms_bus.hub.settings import HubSettings
from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient

JSON = plugins.get_codec("json")
SMALL = """
[limits]
max_client_bytes = 1_048_576
max_bytes = 4_194_304
max_reads = 3
"""
LOAD = bytes(16 * 1024)
DOOR = "hub.sock"


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:", config=SMALL) as hub:
        yield hub


@asynccontextmanager
async def hub_here(runtime: Path, **settings: Any) -> AsyncGenerator[tuple[Desk, Path]]:
    """Be a hub in this process, to look into it."""
    runtime.mkdir(mode=0o700, exist_ok=True)
    door = runtime / DOOR
    wanted = HubSettings(listen=f"ipc://{door}", **settings)
    async with open_hub(wanted, on_stop=lambda: None) as desk:
        yield desk, door


@asynccontextmanager
async def subscribed(
    door: Path, pattern: str, *, receive_bytes: int = 0, **members: Any
) -> AsyncGenerator[RawClient]:
    async with RawClient.connected(door, receive_bytes=receive_bytes) as client:
        await client.send(raw.hello())
        await client.expect("WELCOME")
        await client.send(raw.subscribe(1, pattern, **members))
        await client.expect("DONE", call=1)
        yield client


def flood(client: RawClient, address: str) -> asyncio.Task[None]:
    """Send more CALLs than the hub holds."""
    calls = [raw.call(number, address, LOAD) for number in range(1000)]
    return asyncio.create_task(client.send(*calls))


# -- too much for one ----------------------------------------------------------------------------


async def test_a_flood_into_one_full_queue_delays_nobody_else(hub: HubProcess) -> None:
    door = hub.place.socket
    async with (
        subscribed(door, "flood.a", overflow="block", credit=0) as stuck,
        subscribed(door, "work.a", overflow="block", credit=0) as slow,
        RawClient.welcomed(door) as flooder,
        RawClient.welcomed(door) as bystander,
    ):
        flooding = flood(flooder, "flood.a")
        await hub.until(lambda figures: figures["totals"]["queued_bytes"] > 4 * 2**20)
        # Nothing of a third party's is held back: what it sends elsewhere is answered, or waits.
        for number in range(3):
            await bystander.send(raw.call(number, "other.a", b"!"))
            await bystander.expect("DONE", call=number)
        await bystander.send(raw.call(7, "work.a", b"job"))
        await bystander.round_trip()
        await bystander.send(raw.append(8, "other.a", JSON.encode(event("other.a", "kept"))))
        await bystander.expect("RECEIPTS")
        await slow.send(raw.credit(1, 10))
        assert await slow.documents(1) == [b"job"]
        await bystander.expect("DONE", call=7)
        # And who was held back goes on.
        await stuck.send(raw.credit(1, 2**20))
        await stuck.documents(1000)
        await flooding


async def test_who_is_held_back_goes_on_when_its_own_receiver_does(hub: HubProcess) -> None:
    door = hub.place.socket
    async with (
        subscribed(door, "flood.a", overflow="block", credit=0),
        subscribed(door, "flood.b", overflow="block", credit=0) as second,
        RawClient.welcomed(door) as one,
        RawClient.welcomed(door) as other,
    ):
        first_flood = flood(one, "flood.a")
        await hub.until(lambda figures: figures["totals"]["queued_bytes"] > 4 * 2**20)
        flooding = flood(other, "flood.b")
        await hub.until(lambda figures: figures["clients"][1]["queued_bytes"] > 2**16)
        await second.send(raw.credit(1, 2**20))
        await second.documents(1000)
        await flooding
        first_flood.cancel()
        await asyncio.wait([first_flood])


# -- requests that the hub drops -----------------------------------------------------------------


async def test_a_request_that_a_full_queue_drops_comes_back(hub: HubProcess) -> None:
    door = hub.place.socket
    async with (
        subscribed(door, "quotes", receive_bytes=4096),
        RawClient.welcomed(door) as caller,
    ):
        request = raw.publish("quotes", bytes(64 * 1024), reply_to="$inbox.me")
        for _ in range(200):
            await caller.send(request)
        frame = await caller.expect("RETURNED", reason=frames.DROPPED)
        assert frame.content["messages"]["reply_to"] == "$inbox.me"


async def test_what_a_listener_drops_that_does_not_answer_does_not_come_back(
    hub: HubProcess,
) -> None:
    door = hub.place.socket
    async with (
        subscribed(door, "quotes", receive_bytes=4096, answers=False) as deaf,
        subscribed(door, "quotes") as server,
        RawClient.welcomed(door) as caller,
    ):
        del deaf
        for number in range(200):
            await caller.send(raw.call(number, "quotes", bytes(64 * 1024), reply_to="$inbox.me"))
            await server.documents(1)
            await caller.expect("DONE", call=number)
        figures = await hub.status()
        assert figures["totals"]["dropped"] > 0


async def test_a_request_that_is_held_for_who_goes_comes_back(hub: HubProcess) -> None:
    door = hub.place.socket
    async with RawClient.welcomed(door) as caller:
        async with subscribed(door, "quotes", overflow="block", credit=0):
            await caller.send(raw.publish("quotes", b"?", reply_to="$inbox.me"))
            await caller.round_trip()
        await caller.expect("RETURNED", reason=frames.NO_RESPONDERS)


async def test_a_request_that_is_dropped_fails_at_once(hub: HubProcess) -> None:
    async with (
        subscribed(hub.place.socket, "quotes", receive_bytes=4096),
        Bus(hub.url) as bus,
    ):
        asking = [
            asyncio.create_task(bus.request("quotes", "x" * 2**16, returns=str, timeout=60))
            for _ in range(200)
        ]
        done, rest = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        error = done.pop().exception()
        assert isinstance(error, StatusError)
        assert error.code == "RESOURCE_EXHAUSTED"
        for task in rest:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


# -- reading the log -----------------------------------------------------------------------------


async def test_a_read_that_is_stopped_at_once_ends(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        for number in range(5):  # of which 3 may be at a time
            await client.send(raw.read(number, follow=True) + raw.stop(number))
            await client.expect("END", call=number)


async def test_codecs_that_the_hub_does_not_know_are_not_looked_for(runtime: Path) -> None:
    """A search of all that is installed takes milliseconds, for each READ."""
    looked_for = plugins.find
    async with (
        hub_here(runtime, log="memory:") as (_, door),
        RawClient.welcomed(door, codecs=["morse", "json"]) as client,
    ):
        with pytest.MonkeyPatch.context() as patch:
            names: list[str] = []

            def find(kind: plugins.Kind, name: str) -> object:
                names.append(name)
                return looked_for(kind, name)

            patch.setattr(plugins, "find", find)
            await client.send(raw.read(1), raw.read(2, codec="smoke"))
            await client.failed(1, "unsupported")
            await client.failed(2, "unsupported")
            assert not {"morse", "smoke"} & set(names)


async def test_a_record_that_no_frame_can_hold_ends_the_read(runtime: Path) -> None:
    runtime.mkdir(mode=0o700, exist_ok=True)
    log = f"sqlite:{runtime}/a.db"
    async with Bus("direct://", log=log) as bus:
        for load in (1, "x" * 100_000, 3):
            await bus.publish("a.b", load)
    with running_hub("--log", log, config="[limits]\nmax_frame = 65_536\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.read(1))
            frame = await client.expect("RECORDS", call=1)
            assert len(frame.content["entries"]) == 1
            failure = await client.failed(1, "frame-too-large")
            assert "position 2" in failure["message"]
            await client.send(raw.read(2, first=3))
            await client.expect("RECORDS", call=2)
            await client.expect("END", call=2)


# -- the log -------------------------------------------------------------------------------------


async def identity(log: str) -> str:
    """Return what a hub that keeps `log` tells of it."""
    with running_hub("--log", log) as hub:
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(raw.hello())
            frame = await client.expect("WELCOME")
            return frame.content["json"]["log"]["identity"]


async def test_a_log_is_known_by_its_first_record(runtime: Path) -> None:
    path = runtime / "a.db"
    log = f"sqlite:{path}"
    assert await identity(log) == ""
    found: list[str] = []
    for _ in range(2):
        async with Bus("direct://", log=log) as bus:
            await bus.publish("a.b", 1)
        found += [await identity(log), await identity(log)]
        path.unlink()
    assert found[0] == found[1] != found[2] == found[3]
    assert all(found)


# -- who goes ------------------------------------------------------------------------------------


async def test_who_was_ended_gets_nothing_of_its_group(runtime: Path) -> None:
    async with (
        hub_here(runtime) as (desk, door),
        subscribed(door, "a.b", group="g", receive_bytes=4096) as ended,
        subscribed(door, "a.b", group="g") as healthy,
        RawClient.welcomed(door) as client,
    ):
        peer = desk.peers[1]
        await ended.send(raw.subscribe(2, "bulk", subscription=2))
        await ended.expect("DONE", call=2)
        number = 100
        assert peer.transport is not None
        while not peer.transport.get_write_buffer_size():  # it reads nothing of this
            number += 1
            await client.send(raw.call(number, "bulk", bytes(2**16)))
            await client.expect("DONE", call=number)
        await ended.send(frames.frame(0x7F))
        # Nobody has read what is before the ERROR, so the connection itself still stands.
        await client.round_trip()
        await client.round_trip()
        assert not peer.is_open
        for number in range(20):
            await client.send(raw.call(number, "a.b", b"!"))
            await client.expect("DONE", call=number)
        assert await healthy.documents(20) == [b"!"] * 20


async def test_a_reply_address_is_forgotten_although_a_pattern_selects_it(hub: HubProcess) -> None:
    door = hub.place.socket
    async with (
        subscribed(door, "r.>", answers=False),
        subscribed(door, "quotes") as server,
        RawClient.welcomed(door) as caller,
    ):
        for number in range(3):
            address = f"r.{number}"
            await caller.send(
                raw.subscribe(1, address), raw.publish("quotes", b"?", reply_to=address)
            )
            await caller.expect("DONE", call=1)
            await server.documents(1)
            await caller.send(raw.unsubscribe(2))
            await caller.expect("DONE", call=2)
            await server.expect("GONE", address=address)


async def test_one_peer_that_cannot_be_written_to_is_closed_alone(runtime: Path) -> None:
    async with (
        hub_here(runtime) as (desk, door),
        subscribed(door, "a.b") as broken,
        subscribed(door, "a.b") as other,
        RawClient.welcomed(door) as client,
    ):
        transport = desk.peers[1].transport
        assert transport is not None
        transport.write_eof()  # from now on it refuses to write
        await client.send(raw.call(1, "a.b", b"!"))
        await client.expect("DONE", call=1)
        assert await other.documents(1) == [b"!"]
        assert await broken.next() is None
        assert not desk.peers.get(1) or not desk.peers[1].is_open


async def test_idle_clients_cost_little(hub: HubProcess) -> None:
    before = hub.resident_bytes()
    clients = [RawClient.welcomed(hub.place.socket) for _ in range(200)]
    for client in clients:
        await client.__aenter__()
    try:
        assert hub.resident_bytes() - before < 200 * 64 * 1024
    finally:
        for client in clients:
            await client.__aexit__(None, None, None)
