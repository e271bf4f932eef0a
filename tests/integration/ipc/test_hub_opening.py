"""Coming in: HELLO and WELCOME, and who is refused (spec/ipc.md, "Opening")."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


async def test_a_hello_is_answered_with_a_welcome(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello())
        frame = await client.expect("WELCOME")
        welcome = frame.content["json"]
        assert welcome["protocol"] == 1
        assert welcome["envelope"] == "1.0"
        assert set(welcome["codecs"]) == {"json", "cbor", "protobuf"}
        assert welcome["hub"]["pid"] == hub.process.pid
        assert welcome["limits"] == {
            "max_frame": 16 * 2**20,
            "max_subscriptions": 65_535,
            "max_topics": 65_536,
            "max_reads": 64,
            "max_consumers": 256,
            "heartbeat_s": 15.0,
        }
        assert welcome["log"] is None


async def test_clients_have_different_numbers_and_the_same_hub(hub: HubProcess) -> None:
    welcomes: list[Any] = []
    for _ in range(2):
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(raw.hello())
            welcomes.append((await client.expect("WELCOME")).content["json"])
    assert welcomes[0]["client"] != welcomes[1]["client"]
    assert welcomes[0]["hub"] == welcomes[1]["hub"]


async def test_unknown_members_of_a_hello_are_ignored(hub: HubProcess) -> None:
    further = {"later": [1, {"a": None}], "client": {"name": "raw", "colour": "blue"}}
    async with RawClient.welcomed(hub.place.socket, **further) as client:
        await client.round_trip()


async def test_the_highest_version_that_both_know_is_spoken(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(protocol=[0, 9]))
        frame = await client.expect("WELCOME")
        assert frame.content["json"]["protocol"] == 1


@pytest.mark.parametrize("versions", [[2, 3], [0, 0], [2**32 - 1, 2**32 - 1], [3, 1]])
async def test_an_unknown_version_is_refused_with_both_ranges(
    hub: HubProcess, versions: list[int]
) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(protocol=versions))
        failure = await client.refused("protocol-version")
        assert failure["code"] == "FAILED_PRECONDITION"
        assert failure["details"] == {"hub": [1, 1], "client": versions}
        assert str(versions[0]) in failure["message"]


@pytest.mark.parametrize("version", ["0.3", "1.1", "", "1" * 1000])
async def test_envelopes_of_another_specversion_are_refused(hub: HubProcess, version: str) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(envelope=version))
        failure = await client.refused("envelope-version")
        assert failure["code"] == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    "members",
    [
        {"protocol": None},
        {"protocol": 1},
        {"protocol": [1]},
        {"protocol": [1, 1, 1]},
        {"protocol": [-1, 1]},
        {"protocol": ["1", "1"]},
        {"envelope": None},
        {"envelope": 1.0},
        {"codecs": None},
        {"codecs": []},
        {"codecs": [1]},
        {"codecs": ["morse"]},
        {"client": None},
        {"client": {}},
        {"client": "raw"},
        {"token": 7},
        {"schemas": ["a"]},
    ],
)
async def test_a_hello_that_lacks_something_is_a_bad_frame(
    hub: HubProcess, members: dict[str, Any]
) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(**members))
        failure = await client.refused("bad-frame")
        assert failure["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{} {}", b"\xff", b"[" * 30_000, b'{"a":' * 9_000, b"{\x00}"],
    ids=["nothing", "torn", "array", "null", "two", "no utf-8", "deep", "deep object", "zero"],
)
async def test_a_hello_that_is_no_json_object_is_a_bad_frame(
    hub: HubProcess, content: bytes
) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(frames.frame(frames.HELLO, content))
        await client.refused("bad-frame")


@pytest.mark.parametrize("kind", [0x00, 0x02, frames.PING, frames.PUBLISH, frames.ASK, 0x80, 0xFF])
async def test_something_else_than_a_hello_cannot_come_first(hub: HubProcess, kind: int) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(frames.frame(kind, b"12345678"))
        failure = await client.refused("no-hello")
        assert failure["code"] == "FAILED_PRECONDITION"


async def test_who_says_nothing_is_let_go(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.refused("no-hello")


async def test_half_a_hello_is_as_good_as_none(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello()[:-1])
        await client.refused("no-hello")


async def test_nothing_may_come_between_hello_and_welcome(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(), raw.PING)
        await client.refused("no-hello")


async def test_nothing_may_come_while_the_log_is_opened_for_the_hello(
    runtime: Path, hub: HubProcess
) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.connected(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "orders.>"))
        await listener.expect("DONE", call=1)
        await client.send(raw.hello(log=f"sqlite:{runtime}/a.db"))
        await client.send(raw.call(1, "orders.new", b"x"))
        await client.refused("no-hello")
        await listener.round_trip()


async def test_a_second_hello_is_a_bad_frame(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.hello())
        await client.refused("bad-frame")


async def test_a_hello_must_be_short(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send((2**20).to_bytes(4), b"\x01")
        failure = await client.refused("frame-too-large")
        assert failure["code"] == "RESOURCE_EXHAUSTED"


async def test_after_the_welcome_frames_may_be_as_large_as_it_says(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        envelope = bytes(16 * 2**20 - 1 - 4 - 4 - 10 - 4)
        await client.send(raw.call(1, "orders.new", envelope))
        await client.expect("DONE", call=1)
        await client.send(raw.call(1, "orders.new", envelope + b"x")[:5])
        await client.refused("frame-too-large")


@pytest.mark.parametrize(
    "log",
    [
        "nonsense",
        "",
        "memory",
        "sqlite:",
        "carrier:pigeons",
        "sqlite:/no/such/folder/a.db",
        "\udc80",
    ],
)
async def test_a_log_that_cannot_be_opened_is_refused(hub: HubProcess, log: str) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        content = json.dumps(raw.HELLO | {"log": log}).encode()
        await client.send(frames.frame(frames.HELLO, content))
        last = await client.hear()
        assert last is not None
        assert last.kind == "ERROR"
        assert await client.hear() is None
    assert (await hub.status())["log"] is None


async def test_the_log_of_the_first_client_is_that_of_all(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket, log="memory:"):
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(raw.hello())
            frame = await client.expect("WELCOME")
            assert frame.content["json"]["log"]["url"] == "memory:"
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(raw.hello(log="memory:another"))
            failure = await client.refused("other-log")
            assert failure["details"] == {"hub": "memory:", "client": "memory:another"}


async def test_many_who_ask_for_a_log_at_once_get_the_same(runtime: Path, hub: HubProcess) -> None:
    async def identity(number: int) -> Any:
        async with RawClient.connected(hub.place.socket) as client:
            await client.send(raw.hello(log=f"sqlite:{runtime}/{number}.db"))
            frame = await client.hear()
            assert frame is not None
            return frame.content["json"].get("log") or frame.content["json"]["reason"]

    answers = await asyncio.gather(*map(identity, range(10)))
    assert answers.count("other-log") == 9


async def test_there_are_no_more_clients_than_the_hub_allows(runtime: Path) -> None:
    with running_hub(url="ipc://small", config="[limits]\nmax_clients = 1\n") as hub:
        door = hub.place.socket
        async with RawClient.welcomed(door), RawClient.connected(door) as second:
            await second.send(raw.hello())
            failure = await second.refused("limit")
            assert failure["retryable"]
        is_let_in = False
        while not is_let_in:  # as soon as the first one has gone
            async with RawClient.connected(door) as third:
                await third.send(raw.hello())
                frame = await third.hear()
                is_let_in = frame is not None and frame.kind == "WELCOME"
