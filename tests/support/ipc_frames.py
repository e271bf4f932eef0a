"""Frames by the functions of hms_bus.ipc: from the form of the vectors to bytes and back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from hms_bus.abc import Settlement
from hms_bus.errors import FrameError
from hms_bus.ipc import durables, frames, session
from hms_bus.ipc.failures import read_failure
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_vectors import Content

MAX_FRAME = 16 * 2**20
"""The limit of whoever reads the vectors."""
MAX_HELLO = 2**16


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame that was read. `value` is its JSON as hms_bus.ipc reads it."""

    kind: str
    content: Content
    value: Any = None


# -- reading -----------------------------------------------------------------------------------


def read_stream(stream: bytes, sender: str, *, opened: bool) -> list[Frame]:
    """Read all frames of a stream, as whoever gets them does.

    Raises `FrameError`. Kinds that are ignored are left out.
    """
    read: list[Frame] = []
    limit = MAX_FRAME if opened or sender == "hub" else MAX_HELLO
    for content in FrameReader(limit).feed(stream):
        frame = read_frame(content, sender, opened=opened)
        if frame is not None:
            read.append(frame)
        opened = True
    return read


def read_frame(content: bytes, sender: str, *, opened: bool = True) -> Frame | None:
    """Read one frame of `sender`; return `None` for a kind that is ignored. Raises `FrameError`."""
    kind = content[0]
    known = NAMES[sender]
    if not opened:
        name = _OPENINGS[sender].get(kind)
        if name is None:
            reason = "no-hello" if sender == "client" else "bad-frame"
            raise FrameError(f"0x{kind:02x} came first", reason=reason)
    elif kind in known:
        name = known[kind]
    elif kind >= frames.OPTIONAL:
        return None
    else:
        raise FrameError(f"a {sender} sends no frames of the kind 0x{kind:02x}")
    return _CONTENTS[name](name, content)


def _json(name: str, content: bytes, at: int = 1, **members: Any) -> Frame:
    document = content[at:]
    value: Any
    if name in _FAILURES:
        value = read_failure(document)  # whatever it is
    elif name == "ANSWER":
        value = session.object_from_json(document)
    else:
        value = session.from_json(document, _STRUCTS[name])
    return Frame(kind=name, content={**members, "json": _plain_json(document)}, value=value)


def _plain_json(document: bytes) -> Any:
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None


def _call_json(name: str, content: bytes) -> Frame:
    return _json(name, content, 5, call=frames.read_u32(content))


def _flagged(name: str, content: bytes) -> Frame:
    call, accepted, _ = frames.read_verdict(content)
    return _json(name, content, 6, ask=call, accepted=int(accepted))


def _answer(name: str, content: bytes) -> Frame:
    call, more, _ = frames.read_answer(content)
    return _json(name, content, 6, call=call, more=int(more))


def _ping(name: str, content: bytes) -> Frame:
    return Frame(kind=name, content={"bytes": frames.read_ping(content).hex()})


def _block(content: bytes, at: int) -> Content:
    found = frames.read_messages(content, at)
    block: Content = {"address": _text(found.address)}
    if found.reply_to:
        block["reply_to"] = _text(found.reply_to)
    block["envelopes"] = frames.envelopes_of(content, found)
    assert len(block["envelopes"]) == found.count
    return block


def _text(address: bytes) -> str:
    """Return an address; whether it is a topic is not a matter of frames."""
    return address.decode(errors="backslashreplace")


def _messages(name: str, content: bytes) -> Frame:
    return Frame(kind=name, content={"messages": _block(content, 1)})


def _call(name: str, content: bytes) -> Frame:
    call = frames.read_u32(content)
    return Frame(kind=name, content={"call": call, "messages": _block(content, 5)})


def _deliver(name: str, content: bytes) -> Frame:
    numbers, at = frames.read_subscriptions(content, 1)
    block = _block(content, at)
    return Frame(kind=name, content={"subscriptions": list(numbers), "messages": block})


def _offer(name: str, content: bytes) -> Frame:
    ask = frames.read_u32(content)
    numbers, at = frames.read_subscriptions(content, 5)
    block = _block(content, at)
    return Frame(kind=name, content={"ask": ask, "subscriptions": list(numbers), "messages": block})


def _returned(name: str, content: bytes) -> Frame:
    reason, _ = frames.read_returned(content)
    return Frame(kind=name, content={"reason": reason, "messages": _block(content, 2)})


def _window(name: str, content: bytes) -> Frame:
    window, address = frames.read_window(content)
    return Frame(kind=name, content={"window": window, "address": _text(address)})


def _address(name: str, content: bytes) -> Frame:
    address = content[1:] if name == "FORGET" else frames.read_address(content)
    return Frame(kind=name, content={"address": _text(address)})


def _append(name: str, content: bytes) -> Frame:
    call, flags, expect, blocks = frames.read_append(content)
    entries = [{"messages": _block(block, 0)} for block in blocks]
    return Frame(
        kind=name, content={"call": call, "flags": flags, "expect": expect, "entries": entries}
    )


def _receipts(name: str, content: bytes) -> Frame:
    return _entries(name, ("call", "position", "flags"), frames.read_receipts(content))


def _records(name: str, content: bytes) -> Frame:
    call, records = frames.read_records(content)
    read = _entries(name, ("position", "recorded", "envelope"), records)
    return Frame(kind=name, content={"call": call, **read.content})


def _fetch(name: str, content: bytes) -> Frame:
    return _members(name, ("call", "consumer", "limit"), durables.read_fetch(content))


def _release(name: str, content: bytes) -> Frame:
    return _members(name, ("call", "consumer", "flags"), durables.read_release(content))


def _members(name: str, members: tuple[str, ...], values: tuple[int, ...]) -> Frame:
    return Frame(kind=name, content=dict(zip(members, values, strict=True)))


def _deliveries(name: str, content: bytes) -> Frame:
    call, more, found = durables.read_deliveries(content)
    members = ("position", "recorded", "attempt", "envelope")
    entries = [dict(zip(members, entry, strict=True)) for entry in found]
    return Frame(kind=name, content={"call": call, "more": int(more), "entries": entries})


def _settle(name: str, content: bytes) -> Frame:
    call, consumer, settlements = durables.read_settle(content)
    entries = [
        {
            "position": settled.position,
            "attempt": settled.attempt,
            "outcome": durables.OUTCOMES.index(settled.outcome) + 1,
            "delay": round(settled.delay_s * 10**9),
            "code": settled.code,
            "reason": settled.reason,
        }
        for settled in settlements
    ]
    return Frame(kind=name, content={"call": call, "consumer": consumer, "entries": entries})


def _credit(name: str, content: bytes) -> Frame:
    return _entries(name, ("subscription", "credit", "handled"), frames.read_credit(content))


def _entries(name: str, members: tuple[str, ...], entries: list[tuple[int, int, Any]]) -> Frame:
    listed = [dict(zip(members, entry, strict=True)) for entry in entries]
    return Frame(kind=name, content={"entries": listed})


def _only_call(name: str, content: bytes) -> Frame:
    return Frame(kind=name, content={"call": frames.read_call(content)})


def _pair(name: str, content: bytes) -> Frame:
    call, second = frames.read_pair(content)
    member = {"DONE": "window", "MORE": "count", "UNSUBSCRIBE": "subscription"}[name]
    return Frame(kind=name, content={"call": call, member: second})


_FAILURES = frozenset({"ERROR", "FAILED", "VERDICT"})
_STRUCTS: Mapping[str, type[Struct]] = {
    "HELLO": session.Hello,
    "WELCOME": session.Welcome,
    "BYE": session.Farewell,
    "SUBSCRIBE": session.Subscribe,
    "READ": session.Read,
    "CONSUME": durables.Consume,
    "ASK": session.Ask,
}
_OPENINGS: Mapping[str, Mapping[int, str]] = {
    "client": {frames.HELLO: "HELLO"},
    "hub": {frames.WELCOME: "WELCOME", frames.ERROR: "ERROR"},
}
_BOTH = {
    frames.ERROR: "ERROR",
    frames.PING: "PING",
    frames.PONG: "PONG",
    frames.BYE: "BYE",
}
NAMES: Mapping[str, Mapping[int, str]] = {
    "client": _BOTH
    | {
        frames.PUBLISH: "PUBLISH",
        frames.CALL: "CALL",
        frames.VERDICT: "VERDICT",
        frames.FORGET: "FORGET",
        frames.APPEND: "APPEND",
        frames.READ: "READ",
        frames.STOP: "STOP",
        frames.MORE: "MORE",
        frames.CONSUME: "CONSUME",
        frames.FETCH: "FETCH",
        frames.SETTLE: "SETTLE",
        frames.RELEASE: "RELEASE",
        frames.SUBSCRIBE: "SUBSCRIBE",
        frames.UNSUBSCRIBE: "UNSUBSCRIBE",
        frames.CREDIT: "CREDIT",
        frames.ASK: "ASK",
    },
    "hub": _BOTH
    | {
        frames.DELIVER: "DELIVER",
        frames.OFFER: "OFFER",
        frames.RETURNED: "RETURNED",
        frames.DONE: "DONE",
        frames.FAILED: "FAILED",
        frames.WINDOW: "WINDOW",
        frames.RECEIPTS: "RECEIPTS",
        frames.RECORDS: "RECORDS",
        frames.END: "END",
        frames.DELIVERIES: "DELIVERIES",
        frames.GONE: "GONE",
        frames.ANSWER: "ANSWER",
    },
}
"""By sender: the kinds that it sends once the connection is open."""
_CONTENTS: Mapping[str, Callable[[str, bytes], Frame]] = {
    "HELLO": _json,
    "WELCOME": _json,
    "ERROR": _json,
    "PING": _ping,
    "PONG": _ping,
    "BYE": _json,
    "PUBLISH": _messages,
    "CALL": _call,
    "DELIVER": _deliver,
    "OFFER": _offer,
    "VERDICT": _flagged,
    "RETURNED": _returned,
    "DONE": _pair,
    "FAILED": _call_json,
    "WINDOW": _window,
    "FORGET": _address,
    "APPEND": _append,
    "RECEIPTS": _receipts,
    "READ": _call_json,
    "RECORDS": _records,
    "END": _only_call,
    "STOP": _only_call,
    "MORE": _pair,
    "CONSUME": _call_json,
    "FETCH": _fetch,
    "DELIVERIES": _deliveries,
    "SETTLE": _settle,
    "RELEASE": _release,
    "SUBSCRIBE": _call_json,
    "UNSUBSCRIBE": _pair,
    "CREDIT": _credit,
    "GONE": _address,
    "ASK": _call_json,
    "ANSWER": _answer,
}


# -- writing -----------------------------------------------------------------------------------


def write_frame(kind: str, content: Content) -> bytes:
    """Write a frame as hms_bus.ipc does, with its JSON as the type that belongs to the kind."""
    return _WRITERS[kind](kind, content)


def _to_json(kind: str, value: Any) -> bytes:
    wanted = session.Failure if kind in _FAILURES else _STRUCTS.get(kind)
    return session.to_json(value if wanted is None else msgspec.convert(value, wanted))


def _to_block(content: Content) -> bytes:
    address, reply_to = content["address"], content.get("reply_to", "")
    return frames.messages(address.encode(), reply_to.encode(), content["envelopes"])


def _write_json(kind: str, content: Content) -> bytes:
    number: int = getattr(frames, kind)
    document = _to_json(kind, content["json"])
    if "call" in content:
        return frames.call_frame(number, content["call"], document)
    return frames.frame(number, document)


def _write_bytes(kind: str, content: Content) -> bytes:
    return frames.frame(getattr(frames, kind), bytes.fromhex(content["bytes"]))


def _write_messages(kind: str, content: Content) -> bytes:
    block = _to_block(content["messages"])
    match kind:
        case "PUBLISH":
            return frames.frame(frames.PUBLISH, block)
        case "CALL":
            return frames.call_frame(frames.CALL, content["call"], block)
        case "RETURNED":
            return frames.returned(content["reason"], block)
        case "OFFER":
            return frames.offer(content["ask"], content["subscriptions"], block)
        case _:
            whole = frames.deliver_head(content["subscriptions"]) + block
            return frames.U32.pack(len(whole)) + whole


def _write_verdict(kind: str, content: Content) -> bytes:
    error = None if content["accepted"] else _to_json(kind, content["json"])
    return frames.verdict(content["ask"], error)


def _write_pair(kind: str, content: Content) -> bytes:
    call, second = content.values()
    return frames.frame(getattr(frames, kind), frames.U32_PAIR.pack(call, second))


def _write_call(kind: str, content: Content) -> bytes:
    return frames.call_frame(getattr(frames, kind), content["call"])


def _write_address(kind: str, content: Content) -> bytes:
    return frames.frame(getattr(frames, kind), content["address"].encode())


def _write_append(kind: str, content: Content) -> bytes:
    blocks = [_to_block(entry["messages"]) for entry in content["entries"]]
    return frames.append(content["call"], content["flags"], content["expect"], blocks)


def _write_settle(kind: str, content: Content) -> bytes:
    del kind
    entries = [
        durables.settlement(
            Settlement(
                position=entry["position"],
                attempt=entry["attempt"],
                outcome=durables.OUTCOMES[int(entry["outcome"]) - 1],
                delay_s=entry["delay"] / 10**9,
                code=entry["code"],
                reason=entry["reason"],
            )
        )
        for entry in content["entries"]
    ]
    return durables.settle(content["call"], content["consumer"], entries)


def _write_deliveries(kind: str, content: Content) -> bytes:
    del kind
    entries = [tuple(entry.values()) for entry in content["entries"]]
    return durables.deliveries(content["call"], entries, more=bool(content["more"]))


def _entries_of(content: Content) -> list[tuple[Any, Any, Any]]:
    return [tuple(entry.values()) for entry in content["entries"]]


_WRITERS: Mapping[str, Callable[[str, Content], bytes]] = {
    **dict.fromkeys(("HELLO", "WELCOME", "ERROR", "BYE"), _write_json),
    **dict.fromkeys(("FAILED", "READ", "CONSUME", "SUBSCRIBE", "ASK"), _write_json),
    **dict.fromkeys(("PING", "PONG"), _write_bytes),
    **dict.fromkeys(("PUBLISH", "CALL", "DELIVER", "OFFER", "RETURNED"), _write_messages),
    **dict.fromkeys(("MORE", "UNSUBSCRIBE"), _write_pair),
    **dict.fromkeys(("END", "STOP"), _write_call),
    **dict.fromkeys(("FORGET", "GONE"), _write_address),
    "VERDICT": _write_verdict,
    "DONE": lambda _, content: frames.done(content["call"], content["window"]),
    "WINDOW": lambda _, content: frames.window(content["window"], content["address"].encode()),
    "APPEND": _write_append,
    "RECEIPTS": lambda _, content: frames.receipts(_entries_of(content)),
    "RECORDS": lambda _, content: frames.records(content["call"], _entries_of(content)),
    "FETCH": lambda _, content: durables.fetch(*content.values()),
    "DELIVERIES": _write_deliveries,
    "SETTLE": _write_settle,
    "RELEASE": lambda _, content: durables.release(*content.values()),
    "CREDIT": lambda _, content: frames.credit(_entries_of(content)),
    "ANSWER": lambda kind, content: frames.answer(
        content["call"], _to_json(kind, content["json"]), more=bool(content["more"])
    ),
}

KINDS: frozenset[str] = frozenset(_WRITERS)
"""The names of all kinds of frames."""
