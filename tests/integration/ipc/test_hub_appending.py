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


async def test_what_is_appended_later_never_overtakes(runtime: Path) -> None:
    """Not even when the log takes in the first ones in several steps."""
    with running_hub("--log", f"sqlite:{runtime}/a.db", url="ipc://order") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            sent: list[str] = []
            for number in range(0, 20, 2):
                many = [document("a", id=f"{number}-{n}") for n in range(1500)]
                sent += [f"{number}-{n}" for n in range(1500)]
                await client.send(raw.append(number, "a", *many))
                for n in range(3):
                    await client.send(
                        raw.append(number + 1, "a", document("a", id=f"{number}+{n}"))
                    )
                    sent.append(f"{number}+{n}")
            receipts = 0
            while receipts < len(sent):
                receipts += len((await client.expect("RECEIPTS")).content["entries"])
            await client.send(raw.read(99, credit=len(sent)))
            found: list[str] = []
            while (frame := await client.hear()) is not None and frame.kind == "RECORDS":
                records = frame.content["entries"]
                found += [JSON.decode(record["envelope"]).id for record in records]
            assert found == sent


async def test_one_that_cannot_be_appended_neither_fails_nor_displaces_others(
    hub: HubProcess,
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        nameless = JSON.encode(event("a").replace(topic=""))
        good = [document("a", id=str(n)) for n in range(20)]
        await client.send(
            *(raw.append(n, "a", good[n]) for n in range(10)),
            raw.append(100, "$inbox.me", nameless),
            *(raw.append(n, "a", good[n]) for n in range(10, 15)),
        )
        await client.send(*(raw.append(n, "a", good[n]) for n in range(15, 20)))
        positions: dict[int, int] = {}
        failed: list[int] = []
        while len(positions) + len(failed) < 21:
            frame = await client.hear()
            assert frame is not None
            if frame.kind == "FAILED":
                failed.append(frame.content["call"])
                assert frame.content["json"]["reason"] == "bad-envelope"
            else:
                positions |= {e["call"]: e["position"] for e in frame.content["entries"]}
        assert failed == [100]
        assert positions == {n: n + 1 for n in range(20)}


async def test_a_log_that_is_full_takes_nothing_more_and_is_read_on(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db?max_bytes=262144"
    with running_hub("--log", log, url="ipc://full") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.subscribe(1, "b"))
            await client.expect("DONE", call=1)
            count = 0
            while True:
                await client.send(raw.append(2, "a", document("a", "x" * 10_000)))
                frame = await client.hear()
                assert frame is not None
                if frame.kind == "FAILED":
                    break
                count += 1
            assert frame.content["json"]["reason"] == "log-read-only"
            assert count > 5
            await client.send(raw.append(3, "b", document("b")))
            failure = await client.failed(3, "log-read-only")
            assert failure["code"] == "FAILED_PRECONDITION"
            # What was acknowledged is there, and whatever needs no log goes on.
            await client.send(raw.read(4, pattern="a"))
            records = 0
            while (frame := await client.hear()) is not None and frame.kind == "RECORDS":
                records += len(frame.content["entries"])
            assert records == count
            await client.send(raw.call(5, "b", b"!"))
            await client.documents(1)
            await client.expect("DONE", call=5)


async def test_a_log_that_another_hub_writes_is_refused(runtime: Path) -> None:
    log = f"sqlite:{runtime}/a.db"
    with (
        running_hub("--log", log, url="ipc://first"),
        running_hub(url="ipc://second") as second,
    ):
        async with RawClient.connected(second.place.socket) as client:
            await client.send(raw.hello(log=log))
            failure = await client.refused("log")
            assert failure["details"]["kind"] == "LogLockedError"
        async with RawClient.welcomed(second.place.socket) as client:
            await client.round_trip()
