"""The hub's half of spec/ipc.md, spoken to in frames."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hms_bus import plugins
from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_process import HubProcess, running_hub
from tests.support.raw_client import RawClient, numbered, numbers

JSON = plugins.get_codec("json")

RIGHTS = """
audit = "{folder}/audit.jsonl"

[[token]]
name = "shop"
token = "shop-secret"
publish = ["orders.>"]
subscribe = ["orders.>"]

[[token]]
name = "boss"
token = "boss-secret"
publish = [">"]
subscribe = [">", "$reply.>"]
admin = true
"""


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def logging_hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:") as hub:
        yield hub


@pytest.fixture
def guarded_hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:", config=RIGHTS.format(folder=runtime)) as hub:
        yield hub


def refusals(runtime: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runtime / "audit.jsonl").read_text().splitlines()]


def document(topic: str, data: Any = "text", **attributes: Any) -> bytes:
    return JSON.encode(event(topic, data, **attributes))


# -- opening -----------------------------------------------------------------------------------


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
    ["nonsense", "", "memory", "sqlite:", "carrier:pigeons", "sqlite:/no/such/folder/a.db", "\udc80"],
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


# -- frames ------------------------------------------------------------------------------------


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


async def test_a_session_may_be_cut_at_every_byte(logging_hub: HubProcess) -> None:
    hub = logging_hub
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


# -- publishing --------------------------------------------------------------------------------


async def test_a_call_is_answered_and_delivered_in_order(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "orders.*"))
        await listener.expect("DONE", call=1, window=0)
        await client.send(raw.call(1, "orders.new", b"0", b"1"), raw.call(2, "orders.new", b"2"))
        await client.expect("DONE", call=1)
        await client.expect("DONE", call=2)
        frame = await listener.expect("DELIVER", subscriptions=[1])
        assert frame.content["messages"]["address"] == "orders.new"
        assert frame.content["messages"]["envelopes"] == [b"0", b"1"]
        assert numbers(await listener.documents(1)) == [2]


async def test_a_message_for_several_subscriptions_of_a_client_travels_once(
    hub: HubProcess,
) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        for number, pattern in enumerate(("a.b", "a.*", "a.>", ">", "c.*"), start=1):
            await client.send(raw.subscribe(number, pattern, subscription=number))
            await client.expect("DONE", call=number)
        await client.send(raw.call(9, "a.b", b"x"))
        frame = await client.expect("DELIVER")
        assert sorted(frame.content["subscriptions"]) == [1, 2, 3, 4]
        await client.expect("DONE", call=9)


async def test_without_a_window_nothing_may_be_published(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.publish("orders.new", b"x"))
        await client.refused("bad-frame")


async def test_a_window_may_be_used_up_and_not_overdrawn(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, "orders.new", b"x"))
        window = (await client.expect("DONE", call=1)).content["window"]
        assert window > 1
        await client.send(raw.publish("orders.new", *numbered(window)))
        await client.round_trip()
        left = client.windows["orders.new"]
        assert left > 0
        await client.send(raw.publish("orders.new", *numbered(left + 1)))
        await client.refused("bad-frame")


async def test_a_window_is_for_one_address_and_one_client(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as other,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await client.send(raw.call(1, "orders.new", b"x"))
        await client.expect("DONE", call=1)
        await client.send(raw.publish("orders.old", b"x"))
        await client.refused("bad-frame")
        await other.send(raw.publish("orders.new", b"x"))
        await other.refused("bad-frame")


@pytest.mark.parametrize("address", [b"orders.new", b""])
async def test_a_window_that_was_forgotten_is_gone(hub: HubProcess, address: bytes) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, "orders.new", b"x"))
        await client.expect("DONE", call=1)
        await client.send(frames.frame(frames.FORGET, address), raw.publish("orders.new", b"x"))
        await client.refused("bad-frame")


async def test_system_addresses_need_no_window(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "$inbox.mine"))
        await client.expect("DONE", call=1)
        await client.send(raw.publish("$inbox.mine", *numbered(5000)))
        assert numbers(await client.documents(5000)) == list(range(5000))
        await client.send(raw.call(2, "$inbox.mine", b"x"))
        await client.documents(1)
        await client.expect("DONE", call=2, window=0)


async def test_there_are_no_more_windows_than_the_welcome_says(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_topics = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            windows: list[int] = []
            for number, address in enumerate(("a", "b", "c", "a", "c")):
                await client.send(raw.call(number, address, b"x"))
                windows.append((await client.expect("DONE")).content["window"])
            assert windows[0] > 0
            assert windows[1] > 0
            assert windows[2] == windows[4] == 0
            await client.send(frames.frame(frames.FORGET, b"a"), raw.call(9, "c", b"x"))
            assert (await client.expect("DONE", call=9)).content["window"] > 0


@pytest.mark.parametrize(
    "address", ["", "a..b", ".a", "a.", "a b", "a.*", ">", "ä", "a" * 600, "\x00"]
)
async def test_a_call_to_what_is_no_topic_fails(hub: HubProcess, address: str) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(1, address, b"x"))
        if not address:
            await client.refused("bad-frame")
            return
        failure = await client.failed(1, "bad-topic")
        assert failure["code"] == "INVALID_ARGUMENT"
        await client.round_trip()


async def test_an_address_must_be_utf8(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        block = frames.messages(b"a\xff", b"", [b"x"])
        await client.send(frames.call_frame(frames.CALL, 1, block))
        await client.failed(1, "bad-topic")
        await client.send(frames.frame(frames.PUBLISH, block))
        await client.refused("bad-topic")


async def test_a_reply_address_must_be_a_topic(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "quotes.get"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "quotes.get", b"x", reply_to="no topic"))
        await client.failed(2, "bad-topic")
        await client.round_trip()


async def test_calls_of_the_same_number_are_answered_each(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.call(7, "a", b"x"), raw.call(7, "b", b"x"))
        await client.expect("DONE", call=7)
        await client.expect("DONE", call=7)
        await client.round_trip()


# -- requests ----------------------------------------------------------------------------------


async def test_a_request_that_nobody_answers_comes_back(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "quotes.>", answers=False))
        await listener.expect("DONE", call=1)
        await client.send(raw.call(1, "quotes.get", b"x", reply_to="$inbox.me"))
        frame = await client.expect("RETURNED", reason=1)
        block = frame.content["messages"]
        assert block == {
            "address": "quotes.get",
            "reply_to": "$inbox.me",
            "envelopes": [b"x"],
        }
        await client.expect("DONE", call=1)
        await listener.round_trip()


async def test_a_request_reaches_who_answers_and_who_listens(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as listener,
        RawClient.welcomed(hub.place.socket) as server,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await listener.send(raw.subscribe(1, "quotes.>", answers=False))
        await listener.expect("DONE", call=1)
        await server.send(raw.subscribe(1, "quotes.get"))
        await server.expect("DONE", call=1)
        await client.send(raw.subscribe(1, "$inbox.me"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "quotes.get", b"?", reply_to="$inbox.me"))
        await client.expect("DONE", call=2)
        for each in (listener, server):
            frame = await each.expect("DELIVER", subscriptions=[1])
            assert frame.content["messages"]["reply_to"] == "$inbox.me"
        await server.send(raw.publish("$inbox.me", b"!"))
        assert await client.documents(1) == [b"!"]


@pytest.mark.parametrize("pattern", ["$inbox.me", "$inbox.*", "$inbox.>"])
async def test_who_was_given_a_reply_address_is_told_when_nobody_listens_there(
    hub: HubProcess, pattern: str
) -> None:
    async with RawClient.welcomed(hub.place.socket) as server:
        await server.send(raw.subscribe(1, "quotes.get"))
        await server.expect("DONE", call=1)
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(raw.subscribe(1, pattern))
            await client.expect("DONE", call=1)
            await client.send(raw.call(2, "quotes.get", b"?", reply_to="$inbox.me"))
            await client.expect("DONE", call=2)
            await server.documents(1)
        await server.expect("GONE", address="$inbox.me")


async def test_reply_addresses_without_end_are_not_kept(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_topics = 100\n") as hub:
        async with (
            RawClient.welcomed(hub.place.socket) as server,
            RawClient.welcomed(hub.place.socket) as client,
        ):
            await server.send(raw.subscribe(1, "quotes.get"))
            await server.expect("DONE", call=1)
            await client.send(raw.subscribe(1, "$inbox.me.>"))
            await client.expect("DONE", call=1)
            await _ask_from_many(client, server, range(20_000))
            before = hub.resident_bytes()
            await _ask_from_many(client, server, range(20_000, 60_000))
            assert hub.resident_bytes() - before < 4 * 2**20


async def _ask_from_many(client: RawClient, server: RawClient, places: range) -> None:
    tail = "x" * 200
    for first in range(places.start, places.stop, 100):
        asked = [
            raw.call(n, "quotes.get", b"?", reply_to=f"$inbox.me.{n}.{tail}")
            for n in range(first, first + 100)
        ]
        await client.send(*asked)
        await server.documents(100)
        for _ in asked:
            await client.expect("DONE")


# -- subscribing -------------------------------------------------------------------------------


async def test_after_the_answer_to_unsubscribe_nothing_comes(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a"), raw.call(2, "a", b"x"))
        await client.expect("DONE", call=1)
        await client.documents(1)
        await client.expect("DONE", call=2)
        await client.send(raw.unsubscribe(3), raw.call(4, "a", b"y"))
        await client.expect("DONE", call=3)
        await client.expect("DONE", call=4)
        await client.round_trip()


async def test_an_unknown_subscription_can_be_ended(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.unsubscribe(3, 99), raw.credit(99, 1))
        await client.expect("DONE", call=3)
        await client.round_trip()


async def test_a_number_is_that_of_one_subscription(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a"), raw.unsubscribe(2), raw.subscribe(3, "b"))
        for number in (1, 2, 3):
            await client.expect("DONE", call=number)
        await client.send(raw.subscribe(4, "c"))
        await client.refused("bad-frame")


@pytest.mark.parametrize("pattern", ["", "a..b", "a.>.b", "a b", "\x00", "ä", "a" * 600, "{"])
async def test_a_pattern_that_is_none_fails(hub: HubProcess, pattern: str) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, pattern))
        await client.failed(1, "bad-topic")
        await client.round_trip()


@pytest.mark.parametrize(
    "frame",
    [
        frames.call_frame(frames.SUBSCRIBE, 1, b'{"subscription":1,"pattern":"a\\udc80"}'),
        frames.call_frame(
            frames.SUBSCRIBE, 1, b'{"subscription":1,"pattern":"a","group":"\\ud800"}'
        ),
        frames.call_frame(frames.ASK, 1, b'{"op":"\\ud800"}'),
        frames.call_frame(frames.READ, 1, b'{"pattern":"\\ud800"}'),
        frames.call_frame(frames.READ, 1, b'{"codec":"\\ud800"}'),
        frames.frame(frames.BYE, b'{"reason":"\\ud800"}'),
    ],
)
async def test_text_that_is_no_unicode_breaks_the_protocol(
    logging_hub: HubProcess, frame: bytes
) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(frame)
        await client.refused("bad-frame")


async def test_a_name_that_is_no_unicode_breaks_the_protocol(hub: HubProcess) -> None:
    async with RawClient.connected(hub.place.socket) as client:
        content = json.dumps(raw.HELLO | {"client": {"name": "\ud800"}}).encode()
        await client.send(frames.frame(frames.HELLO, content))
        await client.refused("bad-frame")
    assert (await hub.status())["totals"]["clients"] == 1


async def test_there_are_no_more_subscriptions_than_the_welcome_says(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_subscriptions = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for number in (1, 2, 3):
                await client.send(raw.subscribe(number, "a", subscription=number))
            await client.expect("DONE", call=1)
            await client.expect("DONE", call=2)
            failure = await client.failed(3, "limit")
            assert failure["code"] == "RESOURCE_EXHAUSTED"
            await client.send(raw.unsubscribe(4, 1), raw.subscribe(5, "a", subscription=3))
            await client.expect("DONE", call=4)
            await client.expect("DONE", call=5)


async def test_there_are_no_more_clients_than_the_hub_allows(runtime: Path) -> None:
    with running_hub(config="[limits]\nmax_clients = 1\n") as hub:
        async with RawClient.welcomed(hub.place.socket):
            async with RawClient.connected(hub.place.socket) as second:
                await second.send(raw.hello())
                failure = await second.refused("limit")
                assert failure["retryable"]
        async with RawClient.connected(hub.place.socket) as third:
            while True:
                await third.send(raw.hello())
                frame = await third.hear()
                if frame is not None and frame.kind == "WELCOME":
                    break
                break


async def test_of_a_group_one_gets_each_message(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as left,
        RawClient.welcomed(hub.place.socket) as right,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        for member in (left, right):
            await member.send(raw.subscribe(1, "jobs.*", group="workers"))
            await member.expect("DONE", call=1)
        await client.send(raw.call(1, "jobs.a", *numbered(10)))
        await client.expect("DONE", call=1)
        await left.send(raw.PING)
        await right.send(raw.PING)
        got: list[int] = []
        for member in (left, right):
            while (frame := await member.hear()) is not None and frame.kind == "DELIVER":
                got += numbers(frame.content["messages"]["envelopes"])
        assert sorted(got) == list(range(10))


async def test_what_is_held_for_a_member_that_goes_is_given_to_another(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as stays,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        async with RawClient.welcomed(hub.place.socket) as goes:
            await goes.send(raw.subscribe(1, "jobs", group="w", overflow="block", credit=0))
            await goes.expect("DONE", call=1)
            await client.send(raw.call(1, "jobs", b"0", b"1"), raw.call(2, "jobs", b"2"))
            await client.round_trip()
            await stays.send(raw.subscribe(1, "jobs", group="w"))
            await stays.expect("DONE", call=1)
        assert numbers(await stays.documents(3)) == [0, 1, 2]
        await client.expect("DONE", call=1)
        await client.expect("DONE", call=2)


async def test_a_call_ends_when_the_only_subscriber_without_room_goes(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        async with RawClient.welcomed(hub.place.socket) as goes:
            await goes.send(raw.subscribe(1, "jobs", overflow="block", credit=0))
            await goes.expect("DONE", call=1)
            await client.send(raw.call(1, "jobs", b"0"))
            await client.round_trip()
        await client.expect("DONE", call=1)


# -- verdicts ----------------------------------------------------------------------------------


async def test_a_verdict_decides_on_a_call(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0", b"1"))
        asks = [(await picky.expect("OFFER", subscriptions=[1])).content["ask"] for _ in range(2)]
        await picky.send(frames.verdict(asks[0], None))
        await client.round_trip()
        refusal = {
            "code": "RESOURCE_EXHAUSTED",
            "message": "full",
            "reason": "queue-full",
            "details": {"queue": "a", "limit": 1},
        }
        await picky.send(frames.verdict(asks[1], raw.to_json(**refusal)))
        failure = await client.failed(1, "queue-full")
        assert failure["details"] == {"queue": "a", "limit": 1}
        await client.send(raw.call(2, "a", b"2"))
        ask = (await picky.expect("OFFER")).content["ask"]
        await picky.send(frames.verdict(ask, None))
        await client.expect("DONE", call=2, window=0)


async def test_a_request_needs_no_verdict(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, "a", overflow="error"))
        await client.expect("DONE", call=1)
        await client.send(raw.call(2, "a", b"?", reply_to="$inbox.me"))
        await client.expect("DELIVER", subscriptions=[1])
        await client.expect("DONE", call=2)


async def test_a_verdict_on_what_another_was_asked_is_refused(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as stranger,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0"))
        ask = (await picky.expect("OFFER")).content["ask"]
        await stranger.send(frames.verdict(ask, None))
        await stranger.refused("bad-frame")
        await client.round_trip()
        await picky.send(frames.verdict(ask, None))
        await client.expect("DONE", call=1)


async def test_who_goes_without_a_verdict_has_accepted(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        async with RawClient.welcomed(hub.place.socket) as picky:
            await picky.send(raw.subscribe(1, "a", overflow="error"))
            await picky.expect("DONE", call=1)
            await client.send(raw.call(1, "a", b"0"))
            await picky.expect("OFFER")
        await client.expect("DONE", call=1)


async def test_who_ends_the_subscription_need_give_no_verdict_any_more(hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(hub.place.socket) as picky,
        RawClient.welcomed(hub.place.socket) as client,
    ):
        await picky.send(raw.subscribe(1, "a", overflow="error"))
        await picky.expect("DONE", call=1)
        await client.send(raw.call(1, "a", b"0"))
        ask = (await picky.expect("OFFER")).content["ask"]
        # The verdict was under way when the subscription was ended.
        await picky.send(raw.unsubscribe(2), frames.verdict(ask, None))
        await picky.expect("DONE", call=2)
        await client.expect("DONE", call=1)
        await picky.round_trip()


# -- rights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "wrong", "shop-secre", "shop", "\u0000" * 1000])
async def test_without_the_token_nobody_comes_in(
    runtime: Path, guarded_hub: HubProcess, token: str | None
) -> None:
    async with RawClient.connected(guarded_hub.place.socket) as client:
        await client.send(raw.hello(token=token))
        failure = await client.refused("unauthenticated")
        assert failure["code"] == "UNAUTHENTICATED"
        assert not token or token not in failure["message"]
    await guarded_hub.end()
    [refusal] = refusals(runtime)
    assert refusal["what"] == "unauthenticated"
    assert refusal["pid"] == os.getpid()
    assert refusal["name"] == "raw"


async def test_what_the_token_gives_no_right_to_is_denied(
    runtime: Path, guarded_hub: HubProcess
) -> None:
    hub = guarded_hub
    secret = "pay.secret"
    async with (
        RawClient.welcomed(hub.place.socket, token="boss-secret") as boss,
        RawClient.welcomed(hub.place.socket, token="shop-secret") as shop,
    ):
        await boss.send(raw.subscribe(1, ">"))
        await boss.expect("DONE", call=1)
        await shop.send(raw.call(1, secret, b"x"))
        failure = await shop.failed(1, "denied")
        assert failure["code"] == "PERMISSION_DENIED"
        assert failure["details"] == {"action": "publish", "topic": secret, "name": "shop"}
        await shop.send(raw.append(2, secret, document(secret)))
        await shop.failed(2, "denied")
        await shop.send(raw.append(3, "$inbox.boss", document(secret)))
        await shop.failed(3, "denied")
        for number, pattern in enumerate(("pay.>", ">", "*.new", "$inbox.*", "$reply.>"), start=10):
            await shop.send(raw.subscribe(number, pattern))
            await shop.failed(number, "denied")
        await shop.send(raw.read(20))
        await shop.failed(20, "denied")
        await shop.send(raw.read(21, pattern="pay.>"))
        await shop.failed(21, "denied")
        await shop.send(raw.ask(22, "stop"))
        await shop.failed(22, "denied")
        await boss.round_trip()
    await hub.end()
    found = {(line["what"], line.get("topic"), line["token"]) for line in refusals(runtime)}
    assert ("denied", secret, "shop") in found
    assert ("denied", "pay.>", "shop") in found


async def test_what_the_token_gives_a_right_to_is_done(guarded_hub: HubProcess) -> None:
    async with RawClient.welcomed(guarded_hub.place.socket, token="shop-secret") as shop:
        await shop.send(raw.subscribe(1, "orders.*"), raw.call(2, "orders.new", b"x"))
        await shop.expect("DONE", call=1)
        await shop.documents(1)
        await shop.expect("DONE", call=2)
        await shop.send(raw.append(3, "orders.new", document("orders.new")))
        await shop.documents(1)
        await shop.expect("RECEIPTS")
        await shop.send(raw.read(4, pattern="orders.>"))
        await shop.expect("RECORDS", call=4)
        await shop.expect("END", call=4)


async def test_what_was_published_without_the_right_comes_back(guarded_hub: HubProcess) -> None:
    async with RawClient.welcomed(guarded_hub.place.socket, token="shop-secret") as shop:
        await shop.send(raw.publish("$secret.door", b"x", reply_to="$inbox.me"))
        frame = await shop.expect("RETURNED", reason=2)
        assert frame.content["messages"]["address"] == "$secret.door"
        await shop.round_trip()


async def test_the_hub_that_asks_for_tokens_opens_no_log_for_just_anybody(runtime: Path) -> None:
    with running_hub(config=RIGHTS.format(folder=runtime)) as hub:
        async with RawClient.connected(hub.place.socket) as shop:
            await shop.send(raw.hello(token="shop-secret", log=f"sqlite:{runtime}/mine.db"))
            await shop.refused("no-log")
        assert not (runtime / "mine.db").exists()
        async with RawClient.welcomed(
            hub.place.socket, token="boss-secret", log=f"sqlite:{runtime}/mine.db"
        ):
            assert (runtime / "mine.db").exists()


async def test_the_inboxes_of_others_are_not_told_to_who_has_a_token(
    guarded_hub: HubProcess,
) -> None:
    async with (
        RawClient.welcomed(guarded_hub.place.socket, token="boss-secret") as boss,
        RawClient.welcomed(guarded_hub.place.socket, token="shop-secret") as shop,
    ):
        await boss.send(raw.subscribe(1, "$inbox.nobody-can-guess"))
        await boss.expect("DONE", call=1)
        await shop.send(raw.ask(1, "status"))
        answer = await shop.expect("ANSWER", call=1)
        assert "nobody-can-guess" not in str(answer.content)


# -- the log -----------------------------------------------------------------------------------


async def test_an_append_is_answered_with_positions_and_delivered(logging_hub: HubProcess) -> None:
    async with (
        RawClient.welcomed(logging_hub.place.socket) as listener,
        RawClient.welcomed(logging_hub.place.socket) as client,
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


async def test_an_append_of_several_addresses_is_one(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        blocks = [raw.messages(topic, document(topic)) for topic in ("a.b", "c.d", "a.b")]
        await client.send(frames.append(1, 0, -1, blocks))
        frame = await client.expect("RECEIPTS")
        assert [entry["position"] for entry in frame.content["entries"]] == [1, 2, 3]
        await client.send(raw.read(2))
        records = await client.expect("RECORDS", call=2)
        topics = [
            JSON.decode(entry["envelope"]).topic for entry in records.content["entries"]
        ]
        assert topics == ["a.b", "c.d", "a.b"]


@pytest.mark.parametrize("flags", [0, frames.RETRY])
async def test_what_the_log_holds_is_neither_appended_nor_delivered_again(
    logging_hub: HubProcess, flags: int
) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
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


async def test_an_append_that_expects_another_position_fails(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a"), expect=0))
        await client.expect("RECEIPTS")
        for number, expected in ((2, 0), (3, 7), (4, 2**63 - 1)):
            await client.send(raw.append(number, "a", document("a"), expect=expected))
            failure = await client.failed(number, "conflict")
            assert failure["code"] == "ABORTED"
            assert failure["details"] == {"topic": "a", "expected": expected, "actual": 1}
        await client.send(raw.append(5, "a", document("a"), expect=1))
        await client.expect("RECEIPTS")


async def test_of_two_that_expect_the_same_at_once_one_fails(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(
            raw.append(1, "a", document("a"), expect=0), raw.append(2, "a", document("a"), expect=0)
        )
        await client.expect("RECEIPTS", entries=[{"call": 1, "position": 1, "flags": 2}])
        await client.failed(2, "conflict")


async def test_expecting_something_of_several_topics_fails(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        blocks = [raw.messages(topic, document(topic)) for topic in ("a", "b")]
        await client.send(frames.append(1, 0, 0, blocks))
        await client.expect("FAILED", call=1)
        await client.send(raw.ask(2, "head"))
        frame = await client.expect("ANSWER", call=2, more=0)
        assert frame.content["json"]["position"] == 0


async def test_a_log_that_is_not_there_cannot_be_used(hub: HubProcess) -> None:
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
async def test_an_envelope_that_is_none_is_not_appended(
    logging_hub: HubProcess, bad: bytes
) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
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
    logging_hub: HubProcess, address: bytes, reply_to: bytes
) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.subscribe(1, ">"))
        await client.expect("DONE", call=1)
        bad = frames.messages(address, reply_to, [document("a.topic")])
        good = document("a.topic")
        await client.send(frames.append(2, 0, -1, [bad]), raw.append(3, "a.topic", good))
        await client.failed(2, "bad-topic")
        await client.documents(1)
        await client.expect("RECEIPTS", entries=[{"call": 3, "position": 1, "flags": 2}])


async def test_codecs_may_be_mixed_in_an_append(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket, codecs=["cbor", "json"]) as client:
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


async def test_the_codec_of_a_read_must_be_known(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket, codecs=["morse", "cbor"]) as client:
        await client.send(raw.read(1), raw.read(2, codec="morse"), raw.read(3, codec="cbor"))
        await client.failed(1, "unsupported")
        await client.failed(2, "unsupported")
        await client.expect("END", call=3)


async def test_a_read_sends_no_more_than_its_credit(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.append(1, "a", *(document("a", n) for n in range(10))))
        await client.expect("RECEIPTS")
        await client.send(raw.read(2, credit=3))
        assert await _positions(client, 3) == [1, 2, 3]
        await client.round_trip()
        await client.send(raw.more(2, 2))
        assert await _positions(client, 2) == [4, 5]
        await client.round_trip()
        await client.send(raw.more(2, 100))
        assert await _positions(client, 5) == [6, 7, 8, 9, 10]
        await client.expect("END", call=2)


async def _positions(client: RawClient, count: int) -> list[int]:
    got: list[int] = []
    while len(got) < count:
        frame = await client.expect("RECORDS")
        got += [entry["position"] for entry in frame.content["entries"]]
    return got


async def test_a_read_without_credit_waits_for_it(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a")), raw.read(2, credit=0))
        await client.expect("RECEIPTS")
        await client.round_trip()
        await client.send(raw.more(2, 1))
        assert await _positions(client, 1) == [1]
        await client.expect("END", call=2)


async def test_a_read_can_be_stopped(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.read(1, follow=True), raw.append(2, "a", document("a")))
        kinds = {(await client.hear()).kind for _ in range(2)}  # pyright: ignore[reportOptionalMemberAccess]
        assert kinds == {"RECEIPTS", "RECORDS"}
        await client.send(raw.stop(1))
        await client.expect("END", call=1)
        await client.send(raw.append(3, "a", document("a")), raw.stop(1), raw.more(1, 1))
        await client.expect("RECEIPTS")
        await client.round_trip()


async def test_a_number_is_that_of_one_read(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.read(1, follow=True), raw.read(1, follow=True))
        await client.refused("bad-frame")


async def test_there_are_no_more_reads_than_the_welcome_says(runtime: Path) -> None:
    with running_hub("--log", "memory:", config="[limits]\nmax_reads = 2\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            await client.send(*(raw.read(number, follow=True) for number in (1, 2, 3)))
            failure = await client.failed(3, "limit")
            assert failure["code"] == "RESOURCE_EXHAUSTED"
            await client.send(raw.stop(1))
            await client.expect("END", call=1)
            await client.send(raw.read(4))
            await client.expect("END", call=4)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"pattern": "a..b"}, "bad-topic"),
        ({"follow": True, "backwards": True}, "unsupported"),
    ],
)
async def test_a_selector_that_is_none_fails(
    logging_hub: HubProcess, members: dict[str, Any], reason: str
) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.read(1, **members))
        await client.failed(1, reason)
        await client.round_trip()


async def test_all_members_of_a_selector_narrow_a_read(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        for number, topic in enumerate(("a.x", "a.y", "b.x", "a.x")):
            await client.send(raw.append(number, topic, document(topic, source=f"/{topic}")))
            await client.expect("RECEIPTS")
        for number, (members, expected) in enumerate(
            [
                ({"pattern": "a.*"}, [1, 2, 4]),
                ({"first": 2, "last": 3}, [2, 3]),
                ({"source": "/a.x"}, [1, 4]),
                ({"backwards": True, "limit": 2}, [4, 3]),
                ({"types": ["no.such"]}, []),
                ({"since_ns": 2**62}, []),
                ({"until_ns": 0}, []),
                ({"limit": 0}, []),
            ],
            start=10,
        ):
            await client.send(raw.read(number, **members))
            assert await _positions(client, len(expected)) == expected
            await client.expect("END", call=number)


async def test_head_and_verify_tell_of_the_log(logging_hub: HubProcess) -> None:
    async with RawClient.welcomed(logging_hub.place.socket) as client:
        await client.send(raw.append(1, "a", document("a")))
        await client.expect("RECEIPTS")
        await client.send(raw.ask(2, "status"))
        status = (await client.expect("ANSWER", call=2, more=0)).content["json"]
        assert status["log"]["url"] == "memory:"
        await client.send(raw.ask(3, "head"))
        head = (await client.expect("ANSWER", call=3, more=0)).content["json"]
        assert head["position"] == 1
        await client.send(raw.ask(4, "verify", expected=head))
        await client.expect("ANSWER", call=4, more=1, json={"done": 1, "total": 1})
        found = (await client.expect("ANSWER", call=4, more=0)).content["json"]
        assert found == {"records": 1, "head": head, "problem": None, "position": None}
        cut = head | {"position": 2}
        await client.send(raw.ask(5, "verify", expected=cut))
        await client.expect("ANSWER", call=5, more=1)
        found = (await client.expect("ANSWER", call=5, more=0)).content["json"]
        assert found["problem"]
        await client.send(raw.ask(6, "verify", expected=head | {"hash": "no hex"}))
        await client.failed(6, "bad-frame")


async def test_an_unknown_question_is_not_supported(hub: HubProcess) -> None:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.ask(1, "sing" * 1000, later=1))
        failure = await client.failed(1, "unsupported")
        assert failure["code"] == "UNIMPLEMENTED"
        await client.round_trip()


# -- staying and going -------------------------------------------------------------------------


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
            await client.expect("PING")
            failure = await client.refused("idle")
            assert failure["code"] == "DEADLINE_EXCEEDED"
            assert failure["retryable"]


async def test_who_answers_may_stay(runtime: Path) -> None:
    with running_hub(config="[limits]\nheartbeat_s = 0.1\n") as hub:
        async with RawClient.welcomed(hub.place.socket) as client:
            for _ in range(8):
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
