"""Frames as they come, whole or not, and those that break the protocol (spec/ipc.md, "Frames")."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


async def test_a_frame_of_four_gibibytes_is_refused_when_its_length_is_read(
    hub: HubProcess,
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        before = hub.peak_bytes()
        await client.send(b"\xff\xff\xff\xff\x10")
        failure = await client.refused("frame-too-large")
        assert str(2**32 - 1) in failure["message"]
        assert hub.peak_bytes() - before < 2**20


async def test_a_frame_of_no_bytes_is_refused(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(bytes(4))
        await client.refused("bad-frame")


@pytest.mark.parametrize("kind", [0x00, 0x07, 0x1F, 0x27, 0x2F, 0x42, 0x7F])
async def test_an_unknown_kind_is_refused(hub: HubProcess, kind: int) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(frames.frame(kind))
        failure = await client.refused("bad-frame")
        assert f"0x{kind:02x}" in failure["message"]


@pytest.mark.parametrize("kind", [0x80, 0x99, 0xFF])
async def test_an_unknown_kind_that_is_optional_is_ignored(hub: HubProcess, kind: int) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(frames.frame(kind), frames.frame(kind, bytes(1000)))
        await client.round_trip()


@pytest.mark.parametrize(
    "kind",
    [
        frames.WELCOME,
        frames.DELIVER,
        frames.OFFER,
        frames.RETURNED,
        frames.DONE,
        frames.FAILED,
        frames.WINDOW,
        frames.RECEIPTS,
        frames.RECORDS,
        frames.END,
        frames.GONE,
        frames.ANSWER,
    ],
)
async def test_what_only_a_hub_says_is_refused(hub: HubProcess, kind: int) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(frames.frame(kind, bytes(16)))
        await client.refused("bad-frame")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (frames.PING, b""),
        (frames.PING, b"1234567"),
        (frames.PING, b"123456789"),
        (frames.PONG, b"1"),
        (frames.BYE, b""),
        (frames.BYE, b"[]"),
        (frames.PUBLISH, b""),
        (frames.PUBLISH, b"\x00\x01\x00\x00"),
        (frames.PUBLISH, b"\x00\x00\x00\x00\x00\x00\x00\x01x"),
        (frames.PUBLISH, b"\x00\x01\x00\x00a"),
        (frames.PUBLISH, b"\x00\x01\x00\x00a\x00\x00\x00\x00"),
        (frames.PUBLISH, b"\x00\x01\x00\x00a\x00\x00\x00\x02x"),
        (frames.PUBLISH, b"\x00\x01\x00\x00a\x00\x00\x00\x01xy"),
        (frames.PUBLISH, b"\x00\x02\x00\x00a"),
        (frames.PUBLISH, b"\x00\x01\xff\xffa\x00\x00\x00\x01x"),
        (frames.CALL, b"\x00\x00\x00"),
        (frames.CALL, b"\x00\x00\x00\x01"),
        (frames.VERDICT, b"\x00\x00\x00\x01"),
        (frames.VERDICT, b"\x00\x00\x00\x01\x02{}"),
        (frames.APPEND, b"\x00\x00\x00\x01\x00" + b"\xff" * 8),
        (frames.READ, b"\x00\x00\x00\x01"),
        (frames.READ, b"\x00\x00\x00\x01[]"),
        (frames.READ, b'\x00\x00\x00\x01{"first":"1"}'),
        (frames.READ, b'\x00\x00\x00\x01{"first":-1}'),
        (frames.READ, b'\x00\x00\x00\x01{"limit":-1}'),
        (frames.READ, b'\x00\x00\x00\x01{"credit":4294967296}'),
        (frames.STOP, b"\x00\x00\x00\x01\x00"),
        (frames.MORE, b"\x00\x00\x00\x01"),
        (frames.SUBSCRIBE, b"\x00\x00\x00\x01"),
        (frames.SUBSCRIBE, b'\x00\x00\x00\x01{"subscription":1}'),
        (frames.SUBSCRIBE, b'\x00\x00\x00\x01{"subscription":-1,"pattern":"a"}'),
        (frames.SUBSCRIBE, b'\x00\x00\x00\x01{"subscription":4294967296,"pattern":"a"}'),
        (
            frames.SUBSCRIBE,
            b'\x00\x00\x00\x01{"subscription":1,"pattern":"a","overflow":"explode"}',
        ),
        (frames.SUBSCRIBE, b'\x00\x00\x00\x01{"subscription":1,"pattern":"a","overflow":"block"}'),
        (frames.UNSUBSCRIBE, b"\x00\x00\x00\x01"),
        (frames.CREDIT, b""),
        (frames.CREDIT, bytes(11)),
        (frames.ASK, b"\x00\x00\x00\x01{}"),
        (frames.ASK, b"\x00\x00\x00\x01status"),
        (frames.ASK, b'\x00\x00\x00\x01{"op":"verify","expected":{"position":1}}'),
    ],
)
async def test_a_frame_that_breaks_the_protocol_closes_the_connection(
    hub: HubProcess, kind: int, content: bytes
) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as other,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await client.send(frames.frame(kind, content))
        failure = await client.refused("bad-frame")
        assert failure["code"] == "INVALID_ARGUMENT"
        await other.round_trip()


async def test_a_session_may_be_cut_at_every_byte(hub: HubProcess) -> None:
    session = b"".join(
        [
            raw.subscribe(1, "cut.>", group="g", overflow="block", credit=10),
            raw.PING,
            raw.call(2, "cut.a", b"one", b"two"),
            raw.publish("$inbox.nobody", b"three"),
            raw.append(3, "cut.b", document("cut.b", id="same")),
            raw.read(4, first=1, last=1, credit=1),
            frames.frame(0x90, b"later"),
            raw.credit(1, 2, 2),
            frames.frame(frames.FORGET),
            raw.unsubscribe(5),
            raw.bye(),
        ]
    )
    for cut in range(1, len(session)):
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(session[:cut])
            client.send_what_fits(session[cut:])
            kinds: set[str] = set()
            while (frame := await client.hear()) is not None:
                kinds.add(frame.kind)
                assert frame.kind not in {"ERROR", "FAILED"}, (cut, frame)
            assert kinds >= {"PONG", "DELIVER", "DONE", "RECEIPTS", "BYE"}, cut


async def test_a_session_may_come_byte_by_byte(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        for byte in raw.hello():
            await client.send(bytes([byte]))
        await client.expect("WELCOME")
        for byte in raw.subscribe(1, "slow.>") + raw.call(2, "slow.a", b"x") + raw.PING:
            await client.send(bytes([byte]))
        await client.expect("DONE", call=1)
        assert await client.documents(1) == [b"x"]
        await client.expect("DONE", call=2)
        await client.expect("PONG")


async def test_a_line_that_is_cut_within_any_frame_leaves_nothing(hub: HubProcess) -> None:
    session = raw.hello() + raw.subscribe(1, "cut.>") + raw.call(2, "cut.a", b"x")
    for cut in range(len(session)):
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(session[:cut])
    figures = await hub.until(lambda figures: figures["totals"]["clients"] == 1)
    assert figures["totals"]["subscriptions"] == 0
    assert figures["totals"]["queued_bytes"] == 0
