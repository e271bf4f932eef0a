"""The frames and conversations of spec/vectors, for a client that shares no code with hms_bus."""

import asyncio
import json
import struct
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from examples.ipc_client import Client, Event, HubError, Kind, cut, read_json, write_messages
from tests.support.hub_process import running_hub
from tests.support.ipc_sessions import agrees
from tests.support.ipc_vectors import Content, FrameVector, Step, load_frames, load_sessions

FRAMES = {vector.name: vector for vector in load_frames()}
SESSIONS = {session.name: session for session in load_sessions()}
TOKENS = """
[[token]]
name = "nobody"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""
PATIENCE_S = 30.0
UNASKED = {0x13: "OFFER", 0x29: "DELIVERIES"}
"""What comes only to who has asked for it."""


def envelopes_of(content: Content) -> list[bytes]:
    documents: list[bytes] = []
    for entry in content.get("entries", [content]):
        documents += entry.get("messages", {}).get("envelopes", [])
        documents += [entry["envelope"]] if "envelope" in entry else []
    return documents


def is_json(content: Content) -> bool:
    return all(document.startswith(b"{") for document in envelopes_of(content))


# -- what it reads -----------------------------------------------------------------------------


class Unconnected(Client):
    """A client that notes what it makes of the frames that it is fed with."""

    def __init__(self) -> None:
        super().__init__("ipc://nowhere")
        self.welcome["limits"]["max_frame"] = 2**24
        self._reader = asyncio.StreamReader()
        self.made: list[Any] = []

    async def take(self, stream: bytes) -> list[Any]:
        """Be fed byte by byte."""
        reading = asyncio.create_task(self._frame())
        for octet in stream:
            self._reader.feed_data(bytes([octet]))
            await asyncio.sleep(0)
        kind, content = await reading
        try:
            if kind == Kind.WELCOME:
                self._take_welcome(kind, content)
            else:
                self._take(kind, content)
        except HubError as error:
            self._put("ended", error)
        return self.made

    def listen(self, number: int) -> None:
        """Note the events of a subscription."""
        self._takers[number] = lambda event: self._put(number, (event.reply_to, event))

    def send(self, kind: Kind, *parts: bytes) -> None:
        self.made.append((kind.name, b"".join(parts)))

    def _put(self, key: int | bytes | str, item: Any) -> None:
        self.made.append((key, vars(item) if isinstance(item, HubError) else item))

    def _give_up(self, what: str | None = None) -> None:
        self.made.append(("gone", what))


def expected(kind: str, content: Content) -> list[Any]:
    """Return what a client has to make of a frame of the hub."""
    call = content.get("call")
    match kind:
        case "WELCOME":
            return [("welcome", content["json"])]
        case "ERROR" | "FAILED":
            facts: Content = {"reason": "", "retryable": False, "details": {}}
            return [("ended" if call is None else call, facts | content["json"])]
        case "PING":
            return [("PONG", bytes.fromhex(content["bytes"]))]
        case "PONG":
            return [(bytes.fromhex(content["bytes"]), None)]
        case "BYE":
            return [("BYE", b"{}")]
        case "DONE" | "END":
            return [(call, None)]
        case "ANSWER":
            return [] if content["more"] else [(call, content["json"])]
        case "GONE":
            return [("gone", content["address"])]
        case _:
            return expected_messages(kind, content)


def expected_messages(kind: str, content: Content) -> list[Any]:
    """Return what a client has to make of a frame that holds envelopes, or says where they are."""
    events = [json.loads(document) for document in envelopes_of(content)]
    match kind:
        case "RECEIPTS":
            entries = content["entries"]
            return [(e["call"], (e["position"], bool(e["flags"] & 1))) for e in entries]
        case "RECORDS":
            records = zip(content["entries"], events, strict=True)
            return [(content["call"], (e["position"], e["recorded"], ev)) for e, ev in records]
        case "DELIVER":
            reply_to = content["messages"].get("reply_to", "")
            numbers = content["subscriptions"]
            return [(number, (reply_to, event)) for number, event in product(numbers, events)]
        case "RETURNED":
            codes = {1: "UNAVAILABLE", 2: "PERMISSION_DENIED", 3: "RESOURCE_EXHAUSTED"}
            return [(event["id"], codes[content["reason"]]) for event in events]
        case _:  # WINDOW, and what is optional
            return []


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(vector, id=name)
        for name, vector in FRAMES.items()
        # It asks for no OFFER and no DELIVERIES, and reads records in JSON.
        if vector.sender == "hub"
        and vector.kind not in UNASKED.values()
        and is_json(vector.content)
    ],
)
async def test_it_reads_the_frames_of_a_hub(vector: FrameVector) -> None:
    for stream in (vector.stream, *vector.others):
        client = Unconnected()
        for number in vector.content.get("subscriptions", []):
            client.listen(number)
        made = await client.take(stream)
        if vector.kind == "RETURNED":
            made = [(key, error["code"]) for key, error in made]
        assert made == expected(vector.kind, vector.content)


# -- what it writes ----------------------------------------------------------------------------


def is_written(vector: FrameVector) -> bool:
    """Whether this client writes such frames: one message of JSON each."""
    documents = envelopes_of(vector.content)
    is_one = len(documents) == 1 and documents[0].startswith(b'{"')
    return vector.kind in {"PUBLISH", "CALL", "APPEND"} and is_one


@pytest.mark.parametrize(
    "vector",
    [pytest.param(vector, id=name) for name, vector in FRAMES.items() if is_written(vector)],
)
def test_it_writes_messages(vector: FrameVector) -> None:
    [entry] = vector.content.get("entries", [vector.content])
    messages = entry["messages"]
    event = Event(json.loads(messages["envelopes"][0]))
    block = write_messages(event, messages["address"], messages.get("reply_to", ""))
    head = b""
    if vector.kind != "PUBLISH":
        head = struct.pack(">I", vector.content["call"])
    if vector.kind == "APPEND":
        flags, expect = vector.content["flags"], vector.content["expect"]
        head += struct.pack(">BqI", flags, expect, len(block))
    assert bytes([Kind[vector.kind]]) + head + block == vector.stream[4:]


async def test_it_writes_an_append() -> None:
    vector = FRAMES["append-of-client-third"]
    client = Unconnected()
    client._numbers = iter([vector.content["call"]])  # pyright: ignore[reportAttributeAccessIssue]
    event = Event(json.loads(envelopes_of(vector.content)[0]))
    appending = asyncio.create_task(client.append(event, expect=vector.content["expect"]))
    await asyncio.sleep(0)
    assert client.made == [("APPEND", vector.stream[5:])]
    appending.cancel()


# -- whole conversations -----------------------------------------------------------------------


class Line:
    """A connection with a hub, whose frames are read by the functions of the example."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.window = 0

    def say(self, stream: bytes) -> None:
        self._writer.write(stream)

    async def hear(self) -> tuple[str, Content]:
        """Return the next frame but WINDOW and PING, `closed` at the end."""
        while True:
            try:
                length = int.from_bytes(await self._reader.readexactly(4), "big")
                frame = memoryview(await self._reader.readexactly(length))
            except EOFError:
                return "closed", {}
            kind, content = to_neutral(frame[0], frame[1:])
            self.window += content.get("window", 0)
            if kind not in {"WINDOW", "PING"}:
                return kind, content

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the hub was faster
            await self._writer.wait_closed()


def to_neutral(number: int, content: memoryview) -> tuple[str, Content]:
    """Return the kind and the content of a frame, in the form of spec/vectors/README.md."""
    kind = UNASKED.get(number) or Kind(number).name
    fields: Content = {}
    for name, layout in FIELDS.get(kind, {}).items():
        fields[name], content = cut(content, layout)
    match kind:
        case "DELIVER" | "OFFER":
            size, content = cut(content, "H")
            *fields["subscriptions"], content = cut(content, f"{size}I")
            fields["subscriptions"].sort()
            fields["messages"] = to_messages(content)
        case "RETURNED":
            fields["messages"] = to_messages(content)
        case "RECEIPTS":
            receipts = struct.iter_unpack(">IQB", content)
            names = ("call", "position", "flags")
            fields["entries"] = [dict(zip(names, receipt, strict=True)) for receipt in receipts]
        case "RECORDS":
            entries: list[Content] = []
            while content:
                position, recorded, length, content = cut(content, "QQI")
                envelope, content = cut(content, f"{length}s")
                entry = {"position": position, "recorded": recorded, "envelope": envelope}
                entries.append(entry)
            fields["entries"] = entries
        case "DELIVERIES":
            fields["entries"] = to_deliveries(content)
        case "PING" | "PONG":
            fields["bytes"] = content.hex()
        case "GONE" | "WINDOW":
            fields["address"] = bytes(content).decode()
        case _:
            fields |= to_json(content)
    return kind, fields


def to_json(content: memoryview) -> Content:
    return {"json": read_json(content)} if content else {}


FIELDS = {
    "OFFER": {"ask": "I"},
    "RETURNED": {"reason": "B"},
    "DONE": {"call": "I", "window": "I"},
    "FAILED": {"call": "I"},
    "WINDOW": {"window": "I"},
    "RECORDS": {"call": "I"},
    "END": {"call": "I"},
    "DELIVERIES": {"call": "I", "more": "B"},
    "ANSWER": {"call": "I", "more": "B"},
}
"""The numbers at the beginning of a frame."""


def to_deliveries(content: memoryview) -> list[Content]:
    entries: list[Content] = []
    while content:
        position, recorded, attempt, length, content = cut(content, "QQII")
        envelope, content = cut(content, f"{length}s")
        entry = {"position": position, "recorded": recorded, "attempt": attempt}
        entries.append(entry | {"envelope": envelope})
    return entries


def to_messages(content: memoryview) -> Content:
    to, back, content = cut(content, "HH")
    address, reply_to, content = cut(content, f"{to}s{back}s")
    envelopes: list[bytes] = []
    while content:
        length, content = cut(content, "I")
        envelope, content = cut(content, f"{length}s")
        envelopes.append(envelope)
    messages: Content = {"address": address.decode(), "envelopes": envelopes}
    return messages | ({"reply_to": reply_to.decode()} if reply_to else {})


@pytest.mark.parametrize("name", SESSIONS)
async def test_a_hub_says_what_the_conversation_says(name: str, runtime: Path) -> None:
    session = SESSIONS[name]
    log = ("--log", "memory:conversation") if session.has_log else ()
    config = TOKENS if session.asks_for_tokens else None
    with running_hub(*log, config=config) as hub:
        async with asyncio.timeout(PATIENCE_S):
            await play(session.steps, str(hub.place.socket))


async def play(steps: list[Step], path: str) -> None:
    lines: dict[str, Line] = {}
    chosen: dict[str, int] = {}
    try:
        for step in steps:
            if step.connection not in lines:
                lines[step.connection] = Line(*await asyncio.open_unix_connection(path))
            line = lines[step.connection]
            if line.window < step.needs_window:
                return
            if step.sender == "client":
                line.say(with_chosen(step, chosen))
                continue
            kind, content = await line.hear()
            assert kind == ("closed" if step.closes else step.kind), (step, content)
            assert agrees(step.content, content), (step, content)
            for field, value in step.content.items():
                if isinstance(value, dict) and "as" in value:
                    chosen[value["as"]] = content[field]
    finally:
        for line in lines.values():
            await line.close()


def with_chosen(step: Step, chosen: dict[str, int]) -> bytes:
    stream = bytearray(step.stream)
    for name, at in step.put.items():
        struct.pack_into(">I", stream, at, chosen[name])
    return bytes(stream)
