"""Appending to the log of a hub (spec/ipc.md, "The log")."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus import plugins
from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, document

JSON = plugins.get_codec("json")


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


async def test_an_append_is_answered_with_positions_and_delivered(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "orders.>"))
        await listener.expect("DONE", call=1)
        first, second = document("orders.new", 1), document("orders.new", 2)
        await client.send(raw.append(1, "orders.new", first, second))
        frame = await client.expect("RECEIPTS")
        assert frame.content["entries"] == [
            {"call": 1, "position": 1, "flags": 0},
            {"call": 1, "position": 2, "flags": 2},
        ]
        assert await listener.documents(2) == [first, second]


async def test_an_append_of_several_addresses_is_one(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        blocks = [raw.messages(topic, document(topic)) for topic in ("a.b", "c.d", "a.b")]
        await client.send(frames.append(1, 0, -1, blocks))
        frame = await client.expect("RECEIPTS")
        assert [entry["position"] for entry in frame.content["entries"]] == [1, 2, 3]
        await client.send(raw.read(2))
        records = await client.expect("RECORDS", call=2)
        topics = [JSON.decode(entry["envelope"]).topic for entry in records.content["entries"]]
        assert topics == ["a.b", "c.d", "a.b"]


@pytest.mark.parametrize("flags", [0, frames.RETRY])
async def test_what_the_log_holds_is_neither_appended_nor_delivered_again(
    hub: HubProcess, flags: int
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a"))
        await client.expect("DONE", call=1)
        same = document("a", id="same")
        await client.send(raw.append(2, "a", same))
        await client.documents(1)
        await client.expect("RECEIPTS", entries=[{"call": 2, "position": 1, "flags": 2}])
        await client.send(raw.append(3, "a", same, flags=flags, expect=0))
        await client.expect("RECEIPTS", entries=[{"call": 3, "position": 1, "flags": 3}])
        await client.send(raw.append(4, "a", same, document("a"), same))
        await client.documents(1)
        frame = await client.expect("RECEIPTS")
        assert [(e["position"], e["flags"]) for e in frame.content["entries"]] == [
            (1, 1),
            (2, 0),
            (1, 3),
        ]


async def test_an_append_that_expects_another_position_fails(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a"), expect=0))
        await client.expect("RECEIPTS")
        for number, expected in ((2, 0), (3, 7), (4, 2**63 - 1)):
            await client.send(raw.append(number, "a", document("a"), expect=expected))
            failure = await client.failed(number, "conflict")
            assert failure["code"] == "ABORTED"
            assert failure["details"] == {"topic": "a", "expected": expected, "actual": 1}
        await client.send(raw.append(5, "a", document("a"), expect=1))
        await client.expect("RECEIPTS")


async def test_of_two_that_expect_the_same_at_once_one_fails(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(
            raw.append(1, "a", document("a"), expect=0), raw.append(2, "a", document("a"), expect=0)
        )
        await client.expect("RECEIPTS", entries=[{"call": 1, "position": 1, "flags": 2}])
        await client.failed(2, "conflict")


async def test_expecting_something_of_several_topics_fails(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        blocks = [raw.messages(topic, document(topic)) for topic in ("a", "b")]
        await client.send(frames.append(1, 0, 0, blocks))
        await client.expect("FAILED", call=1)
        await client.send(raw.ask(2, "head"))
        frame = await client.expect("ANSWER", call=2, more=0)
        assert frame.content["json"]["position"] == 0


async def test_a_log_that_is_not_there_cannot_be_used(runtime: Path) -> None:
    with running_hub(url="ipc://bare") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.append(1, "a", document("a")))
            failure = await client.failed(1, "no-log")
            assert failure["code"] == "FAILED_PRECONDITION"
            for number, question in ((2, raw.read(2)), (3, raw.ask(3, "head"))):
                await client.send(question)
                await client.failed(number, "no-log")
            await client.send(raw.ask(4, "verify"))
            await client.failed(4, "no-log")


@pytest.mark.parametrize(
    "bad",
    [b"x", b"{}", b"{", b'{"specversion":"1.0"}', bytes(100), document("another.topic")],
    ids=["text", "empty", "torn", "incomplete", "zeros", "other topic"],
)
async def test_an_envelope_that_is_none_is_not_appended(hub: HubProcess, bad: bytes) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        good = document("a.topic")
        await client.send(raw.append(1, "a.topic", good, bad), raw.append(2, "a.topic", good))
        failure = await client.failed(1, "bad-envelope")
        assert failure["code"] == "INVALID_ARGUMENT"
        await client.expect("RECEIPTS", entries=[{"call": 2, "position": 1, "flags": 2}])


@pytest.mark.parametrize(
    ("address", "reply_to"),
    [
        (b"$no topic", b""),
        (b"$inbox..a", b""),
        (b"$a\xff", b""),
        (b"$in.*", b""),
        (b"a.topic", b"no topic"),
        (b"a.topic", b"\xff"),
    ],
)
async def test_an_append_to_what_is_no_topic_is_not_appended(
    hub: HubProcess, address: bytes, reply_to: bytes
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, ">"))
        await client.expect("DONE", call=1)
        bad = frames.messages(address, reply_to, [document("a.topic")])
        good = document("a.topic")
        await client.send(frames.append(2, 0, -1, [bad]), raw.append(3, "a.topic", good))
        await client.failed(2, "bad-topic")
        await client.documents(1)
        await client.expect("RECEIPTS", entries=[{"call": 3, "position": 1, "flags": 2}])


async def test_codecs_may_be_mixed_in_an_append(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket, codecs=["cbor", "json"]) as client:
        codecs = [plugins.get_codec(name) for name in ("json", "cbor", "protobuf")]
        documents = [codec.encode(event("a", n)) for n, codec in enumerate(codecs)]
        await client.send(raw.append(1, "a", *documents))
        await client.expect("RECEIPTS")
        for number, name in ((2, None), (3, "cbor"), (4, "json"), (5, "protobuf")):
            members = {} if name is None else {"codec": name}
            await client.send(raw.read(number, **members))
            frame = await client.expect("RECORDS", call=number)
            codec = plugins.get_codec(name or "cbor")
            data = [
                codec.decode(entry["envelope"]).decode(int) for entry in frame.content["entries"]
            ]
            assert data == [0, 1, 2]
            await client.expect("END", call=number)
        await client.send(raw.read(6, codec="morse"))
        await client.failed(6, "unsupported")


async def test_the_codec_of_a_read_must_be_known(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket, codecs=["morse", "cbor"]) as client:
        await client.send(raw.read(1), raw.read(2, codec="morse"), raw.read(3, codec="cbor"))
        await client.failed(1, "unsupported")
        await client.failed(2, "unsupported")
        await client.expect("END", call=3)
