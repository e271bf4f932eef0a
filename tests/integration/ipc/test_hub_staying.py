"""Heartbeats, and the ends of connections (spec/ipc.md, "Staying")."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


async def test_what_was_said_before_bye_is_passed_on_before_the_answer(
    runtime: Path,
) -> None:
    with running_hub("--log", f"sqlite:{runtime}/a.db") as hub:
        async with (
            RawClient.welcomed(hub.place.socket) as listener,
            RawClient.welcomed(hub.place.socket) as client,
        ):
            await listener.send(raw.subscribe(1, "a"))
            await listener.expect("DONE", call=1)
            appends = [raw.append(n, "a", document("a", n)) for n in range(100)]
            await client.send(*appends, raw.call(200, "a", document("a", 200)), raw.bye())
            kinds: list[str] = []
            while (frame := await client.hear()) is not None:
                kinds.append(frame.kind)
            assert kinds[-1] == "BYE"
            assert kinds.count("DONE") == 1
            assert "RECEIPTS" in kinds
            await listener.documents(101)


async def test_a_client_that_sends_an_error_is_let_go(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        failure = raw.to_json(code="INVALID_ARGUMENT", message="what?", reason="bad-frame")
        await client.send(frames.frame(frames.ERROR, failure))
        assert await client.hear() is None
    await hub.until(lambda figures: figures["totals"]["clients"] == 1)


async def test_who_is_silent_is_asked_and_in_the_end_let_go(runtime: Path) -> None:
    with running_hub(config="[limits]\nheartbeat_s = 0.1\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            client.answers_pings = False
            await client.expect("PING")
            failure = await client.refused("idle")
            assert failure["code"] == "DEADLINE_EXCEEDED"
            assert failure["retryable"]


async def test_who_answers_may_stay(runtime: Path) -> None:
    with running_hub(config="[limits]\nheartbeat_s = 0.4\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for _ in range(5):
                ping = await client.expect("PING")
                await client.send(frames.frame(frames.PONG, bytes.fromhex(ping.content["bytes"])))
            await client.round_trip()


async def test_stop_ends_the_hub(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.ask(1, "stop"))
        await client.expect("ANSWER", call=1, json={})
        await client.expect("BYE")
        await client.send(raw.bye())
        await client.expect("BYE")
        assert await client.hear() is None
    assert await hub.ended() == 0


async def test_a_hub_that_ends_says_so_to_who_does_not_answer(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        hub.process.send_signal(signal.SIGTERM)
        await client.expect("BYE")
        failure = await client.refused("closing")
        assert failure["code"] == "UNAVAILABLE"
        assert failure["retryable"]
    assert await hub.ended() == 0


async def test_many_may_come_and_go_at_once(hub: HubProcess) -> None:
    async def come_and_go() -> None:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.subscribe(1, "a.>"), raw.call(2, "a.b", b"x"))

    await asyncio.gather(*(come_and_go() for _ in range(200)))
    figures = await hub.until(lambda figures: figures["totals"]["clients"] == 1)
    assert figures["totals"]["subscriptions"] == 0


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RD])
async def test_a_connection_that_is_half_closed_ends(hub: HubProcess, how: int) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        client.socket.shutdown(how)
        if how == socket.SHUT_RD:
            client.send_what_fits(raw.PING)
        await hub.until(lambda figures: figures["totals"]["clients"] == 1)
