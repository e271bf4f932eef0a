"""How long a hub lives, and how it ends; what the end of a client means to others."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hms_bus import Bus, plugins
from hms_bus.errors import DisconnectedError
from hms_bus.transports.ipc.asking import ask
from tests.support import raw_client as raw
from tests.support.hub_line import line_to
from tests.support.hub_process import HubProcess, running_hub, serving_hub
from tests.support.raw_client import RawClient, document, numbers

JSON = plugins.get_codec("json")

ENDINGS = [signal.SIGTERM, signal.SIGINT]


async def come_and_go(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket):
        pass


# -- hubs that were spawned --------------------------------------------------------------------


async def test_a_spawned_hub_ends_when_nobody_has_been_there_for_a_while(runtime: Path) -> None:
    with running_hub("--spawned", "--idle", "0.2") as hub:
        await come_and_go(hub)
        assert await hub.ended() == 0
        assert not hub.place.socket.exists()
        assert not hub.place.lock.exists()


async def test_a_spawned_hub_that_nobody_comes_to_ends_as_well(runtime: Path) -> None:
    with running_hub("--spawned", "--idle", "0.05") as hub:
        assert await hub.ended() == 0


async def test_a_spawned_hub_may_end_with_its_last_client(runtime: Path) -> None:
    with running_hub("--spawned", "--idle", "0", config="[limits]\nheartbeat_s = 0.1\n") as hub:
        assert await hub.ended() == 0


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        (("--spawned", "--idle", "0.2", "--log", "memory:"), None),
        ((), "idle_s = 0.2\n"),
    ],
    ids=["it has a log that would be lost", "it was started by hand"],
)
async def test_a_hub_that_others_need_stays(
    runtime: Path, arguments: tuple[str, ...], config: str | None
) -> None:
    with running_hub(*arguments, config=config) as hub:
        if arguments:
            async with RawClient.welcomed(hub.place.socket) as client:
                await client.send(raw.append(1, "a", document("a")))
                await client.expect("RECEIPTS")
        else:
            await come_and_go(hub)
        # Two that have the same patience begin later, and have ended.
        for _ in range(2):
            with running_hub("--spawned", "--idle", "0.2", url="ipc://later") as later:
                assert await later.ended() == 0
        assert hub.is_running


async def test_a_memory_log_that_is_empty_holds_no_hub(runtime: Path) -> None:
    with running_hub("--spawned", "--idle", "0.2", "--log", "memory:") as hub:
        await come_and_go(hub)
        assert await hub.ended() == 0


async def test_a_log_in_a_file_holds_no_hub(runtime: Path) -> None:
    with running_hub("--spawned", "--idle", "0.2", "--log", f"sqlite:{runtime}/a.db") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.append(1, "a", document("a")))
            await client.expect("RECEIPTS")
        assert await hub.ended() == 0


async def test_a_hub_stays_while_a_client_is_there(runtime: Path) -> None:
    config = "[limits]\nheartbeat_s = 0.5\n"
    with running_hub("--spawned", "--idle", "0.3", config=config) as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for _ in range(3):  # 1.5 s, at least
                await client.expect("PING")
                await client.send(raw.PING)
                await client.expect("PONG")
        assert await hub.ended() == 0


async def test_a_bus_starts_a_hub_that_ends_after_it(runtime: Path) -> None:
    async with Bus("ipc://agents?idle=200ms") as bus:
        await bus.publish("a.b", 1)
        figures = await ask("ipc://agents", "status")
        assert figures["hub"]["spawned"]
        assert figures["hub"]["idle_s"] == 0.2
        pid = figures["hub"]["pid"]
    while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110 - it is nobody's child
        await asyncio.sleep(0.01)
    assert not (runtime / "agents.sock").exists()
    assert "the hub ends" in (runtime / "agents.hub.log").read_text()


# -- draining ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ENDINGS)
async def test_a_hub_without_clients_ends_at_once(runtime: Path, number: signal.Signals) -> None:
    with running_hub() as hub:
        assert await hub.end(number) == 0
        assert not hub.place.socket.exists()
        assert not hub.place.lock.exists()


@pytest.mark.parametrize("number", ENDINGS)
async def test_what_clients_still_had_to_say_is_passed_on(
    runtime: Path, number: signal.Signals
) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with (
            RawClient.welcomed(hub.place.socket) as listener,
            RawClient.welcomed(hub.place.socket) as publisher,
        ):
            await listener.send(raw.subscribe(1, "a.>"))
            await listener.expect("DONE", call=1)
            hub.process.send_signal(number)
            await listener.expect("BYE")
            await publisher.expect("BYE")
            # Who only listens has nothing to say any more, but still something to hear.
            await listener.send(raw.bye())
            await publisher.send(raw.call(1, "a.b", b"0"))
            await publisher.expect("DONE", call=1)
            appends = [raw.append(n, "a.c", document("a.c", n)) for n in range(2, 100)]
            await publisher.send(raw.call(100, "a.b", b"1"), *appends, raw.bye())
            assert numbers(await listener.documents(2)) == [0, 1]
            await listener.documents(98)
            await listener.expect("BYE")
            assert await listener.hear() is None
            kinds: list[str] = []
            while (frame := await publisher.hear()) is not None:
                kinds.append(frame.kind)
            assert kinds[-1] == "BYE"
            assert "RECEIPTS" in kinds
        assert await hub.ended() == 0
    async with serving_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        assert (await hub.status())["log"]["position"] == 98


async def test_what_a_bus_has_published_is_passed_on_when_the_hub_ends(runtime: Path) -> None:
    got: list[int] = []
    with running_hub() as hub:
        publisher, subscriber = Bus(hub.url), Bus(hub.url)

        @subscriber.subscribe("a.*")
        async def take(n: int) -> None:
            got.append(n)

        async with publisher, subscriber:
            for n in range(1000):
                await publisher.publish("a.b", n)
            assert await hub.end() == 0
    assert got == list(range(1000))


async def test_nobody_is_let_in_while_a_hub_ends(runtime: Path) -> None:
    with running_hub() as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            hub.process.send_signal(signal.SIGTERM)
            await client.expect("BYE")
            assert not hub.place.socket.exists()
            await client.round_trip()
            await client.send(raw.bye())
            await client.expect("BYE")
        assert await hub.ended() == 0


@pytest.mark.parametrize("first", ENDINGS)
@pytest.mark.parametrize("second", ENDINGS)
async def test_a_second_signal_ends_a_hub_that_waits(
    runtime: Path, first: signal.Signals, second: signal.Signals
) -> None:
    with running_hub() as hub:
        async with RawClient.welcomed(hub.place.socket) as silent:
            hub.process.send_signal(first)
            await silent.expect("BYE")
            hub.process.send_signal(second)
            status = await hub.ended()
            assert status == (130 if second == signal.SIGINT else -signal.SIGTERM)
            assert await silent.hear() is None or status == 130


# -- the end of a client -----------------------------------------------------------------------


async def test_the_stream_for_a_caller_that_has_died_ends(runtime: Path) -> None:
    ended = asyncio.Event()
    with running_hub() as hub:
        server = Bus(hub.url)

        @server.serve("count")
        async def count() -> AsyncGenerator[int]:
            try:
                n = 0
                while True:
                    yield n
                    n += 1
            finally:
                ended.set()

        async with (
            server,
            line_to(hub) as line,
            Bus(line.url) as caller,
            caller.request_stream("count", credit=3) as items,
        ):
            assert await anext(items) == 0
            line.bar()
            async with asyncio.timeout(20):
                await ended.wait()
            with pytest.raises(DisconnectedError):
                [_ async for _ in items]
            line.let_in()


async def test_the_handler_for_a_caller_that_has_died_is_cancelled(runtime: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    with running_hub() as hub:
        server = Bus(hub.url)

        @server.serve("wait")
        async def wait() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with server, line_to(hub) as line, Bus(line.url) as caller:
            asking = asyncio.create_task(caller.request("wait", timeout=600))
            await begun.wait()
            line.bar()
            async with asyncio.timeout(20):
                await ended.wait()
            with pytest.raises(DisconnectedError):
                await asking
            line.let_in()


async def test_the_reader_of_a_server_that_has_died_is_told(runtime: Path) -> None:
    with running_hub() as hub:
        async with line_to(hub) as line:
            server, caller = Bus(line.url, drain_timeout_s=0.1), Bus(hub.url)

            @server.serve("count")
            async def count() -> AsyncGenerator[int]:
                for n in range(3):
                    yield n
                await asyncio.Event().wait()

            async with server, caller, caller.request_stream("count", credit=10) as items:
                for n in range(3):
                    assert await anext(items) == n
                line.bar()
                with pytest.raises(DisconnectedError, match="has gone"):
                    await anext(items)
                line.let_in()


# -- status ------------------------------------------------------------------------------------


async def test_status_tells_what_there_is(runtime: Path) -> None:
    with running_hub("--log", "memory:") as hub:
        async with (
            RawClient.welcomed(hub.place.socket, client={"name": "a", "sdk": "raw/1"}) as client,
        ):
            await client.send(
                raw.subscribe(1, "a.{b}", group="g", overflow="block", credit=3),
                raw.call(2, "a.x", *[b"1"] * 4),
                raw.call(3, "a.x", b"2"),
                raw.call(4, "c", b"3", reply_to="$inbox.me"),
                raw.append(5, "d", document("d")),
            )
            figures = await hub.until(lambda figures: figures["totals"]["appended"] == 1)
            assert figures["hub"] | {"started_ns": 0, "version": ""} == {
                "name": figures["hub"]["name"],
                "url": "ipc://test",
                "pid": hub.process.pid,
                "version": "",
                "protocol": 1,
                "started_ns": 0,
                "spawned": False,
                "idle_s": None,
            }
            assert figures["log"]["url"] == "memory:"
            assert figures["log"]["position"] == 1
            totals = figures["totals"]
            assert totals["bytes_in"] > 0
            assert totals["bytes_out"] > 0
            assert totals | {"bytes_in": 0, "bytes_out": 0, "queued_bytes": 0} == {
                "clients": 2,
                "subscriptions": 1,
                "received": 7,
                "delivered": 4,
                "bytes_in": 0,
                "bytes_out": 0,
                "dropped": 0,
                "returned": 1,
                "refused": 0,
                "appended": 1,
                "queued": 1,
                "queued_bytes": 0,
            }
            one = figures["clients"][0]
            assert one | {
                "number": 0,
                "connected_ns": 0,
                "queued_bytes": 0,
                "pid": 0,
                "uid": 0,
            } == {
                "number": 0,
                "name": "a",
                "pid": 0,
                "uid": 0,
                "sdk": "raw/1",
                "token": None,
                "connected_ns": 0,
                "received": 7,
                "delivered": 4,
                "dropped": 0,
                "queued": 1,
                "queued_bytes": 0,
                "congested": False,
                "waiting": 1,
                "subscriptions": [
                    {
                        "pattern": "a.{b}",
                        "group": "g",
                        "overflow": "block",
                        "credit": -1,
                        "load": 4,
                        "queued": 1,
                        "delivered": 4,
                        "dropped": 0,
                    }
                ],
                "consumers": [],
            }
        figures = await hub.until(lambda figures: figures["totals"]["clients"] == 1)
        assert figures["totals"]["delivered"] == 4
        assert figures["totals"]["queued_bytes"] == 0
