"""The bytes of spec/vectors/ipc-refusals.json, which end a connection, and why."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ipc_durable_cases as durable_cases
from ipc_frame_cases import (
    CREATED,
    FULL_QUEUE,
    HELLO,
    U32,
    WELCOME,
    example,
    example_from,
    frame_of,
)
from ipc_writer import KINDS, document, number, to_frame


@dataclass(frozen=True, kw_only=True)
class IpcRefusal:
    """Bytes that must be refused for `reason`; `opened`: they come after HELLO and WELCOME."""

    name: str
    description: str
    sender: str
    stream: bytes
    reason: str = "bad-frame"
    opened: bool = True


Fields = tuple[tuple[str, bytes], ...]
"""The content of a frame, field by field."""

ENVELOPE = b'{"specversion":"1.0","id":"1","source":"/shop","type":"t"}'
MESSAGES: Fields = (
    ("address-length", number(17, 2)),
    ("reply-length", number(8, 2)),
    ("address", CREATED.encode()),
    ("reply", b"$inbox.1"),
    ("envelope-length", number(len(ENVELOPE), 4)),
    ("envelope", ENVELOPE),
)
BLOCK = b"".join(field for _, field in MESSAGES)
CALL = ("call", number(1, 4))
SUBSCRIPTIONS: Fields = (("count", number(2, 2)), ("first", number(7, 4)), ("second", number(8, 4)))
BIG_NUMBER = ("position", number(1, 8))
RECORD: Fields = (
    BIG_NUMBER,
    ("recorded", number(1769860800000000000, 8)),
    ("envelope-length", number(len(ENVELOPE), 4)),
    ("envelope", ENVELOPE),
)

FIELDS: Mapping[str, Fields] = {
    "PING": (("bytes", bytes(8)),),
    "PONG": (("bytes", bytes(8)),),
    "PUBLISH": MESSAGES,
    "CALL": (CALL, *MESSAGES),
    "DELIVER": (*SUBSCRIPTIONS, *MESSAGES),
    "OFFER": (("ask", number(1, 4)), *SUBSCRIPTIONS, *MESSAGES),
    "VERDICT": (("ask", number(1, 4)), ("accepted", b"\1")),
    "RETURNED": (("reason", b"\1"), *MESSAGES),
    "DONE": (CALL, ("window", number(9, 4))),
    "FAILED": (CALL,),
    "WINDOW": (("window", number(9, 4)), ("address", b"a")),
    "APPEND": (
        CALL,
        ("flags", b"\0"),
        ("expect", number(0, 8)),
        ("length", number(len(BLOCK), 4)),
        *MESSAGES,
    ),
    "RECEIPTS": (CALL, BIG_NUMBER, ("flags", b"\2")),
    "READ": (CALL, ("json", b"{}")),
    "RECORDS": (CALL, *RECORD),
    "END": (CALL,),
    "STOP": (CALL,),
    "MORE": (CALL, ("count", number(1, 4))),
    "CONSUME": (CALL, ("json", b'{"consumer":1,"name":"a","pattern":"a"}')),
    "FETCH": (CALL, ("consumer", number(1, 4)), ("limit", number(1, 4))),
    # With more 0 there might be no entry.
    "DELIVERIES": (CALL, ("more", b"\1"), *RECORD[:2], ("attempt", number(1, 4)), *RECORD[2:]),
    "SETTLE": (
        CALL,
        ("consumer", number(1, 4)),
        BIG_NUMBER,
        ("attempt", number(1, 4)),
        ("outcome", b"\2"),
        ("delay", number(0, 8)),
        ("code-length", number(7, 2)),
        ("code", b"UNKNOWN"),
        ("reason-length", number(4, 2)),
        ("reason", b"busy"),
    ),
    "RELEASE": (CALL, ("consumer", number(1, 4)), ("flags", b"\0")),
    "SUBSCRIBE": (CALL, ("json", b'{"subscription":7,"pattern":"a"}')),
    "UNSUBSCRIBE": (CALL, ("subscription", number(7, 4))),
    "CREDIT": (
        ("subscription", number(7, 4)),
        ("credit", number(1, 4)),
        ("handled", number(1, 4)),
    ),
    "GONE": (("address", b"a"),),
    "ASK": (CALL, ("json", b'{"op":"head"}')),
    "ANSWER": (CALL, ("more", b"\0"), ("json", b"{}")),
    "BYE": (("json", b"{}"),),
}
"""One frame of each kind that can be cut short. What follows FAILED's call may be any bytes."""

EXACT = ("PING", "PONG", "DONE", "END", "STOP", "MORE", "UNSUBSCRIBE", "FETCH", "RELEASE")
"""The kinds whose content has one length."""

OF_BOTH = {"ERROR", "PING", "PONG", "BYE"}
NEVER_BY_CLIENTS = [kind for kind in KINDS if example_from(kind) == "hub" and kind not in OF_BOTH]
NEVER_BY_HUBS = [kind for kind in KINDS if example_from(kind) == "client" and kind not in OF_BOTH]

Row = tuple[str, str, str, bytes]
"""Name, description, kind and content of a frame that is refused."""


def ipc_refusals() -> Iterator[IpcRefusal]:
    """Yield all."""
    yield from _lengths()
    yield from _first_frames()
    yield from _kinds()
    for name, description, kind, content in (
        *_cut_short(),
        *_too_long(),
        *_messages(),
        *_entries(),
        *_bytes_of_two_values(),
        *_documents(),
        *_members(),
    ):
        yield IpcRefusal(
            name=f"{kind.lower()}-{name}",
            description=description,
            sender=example_from(kind),
            stream=to_frame(KINDS[kind][0], content),
            opened=kind not in {"HELLO", "WELCOME"},
        )


def _lengths() -> Iterator[IpcRefusal]:
    too_large = "frame-too-large"
    for sender in ("client", "hub"):
        ping = frame_of("PING")
        for name, description, stream, reason in (
            ("length-0", "A frame has a kind.", number(0, 4), "bad-frame"),
            ("length-0-second", "Behind a good frame.", ping + number(0, 4), "bad-frame"),
            ("length-4-gib", "Refused when it is read.", number(U32, 4), too_large),
            ("length-4-gib-second", "Behind a good frame.", ping + number(U32, 4), too_large),
            ("length-2-gib", "The sign of others.", number(2**31, 4) + b"\x04", too_large),
            ("length-ascii", "HTTP.", b"GET / HTTP/1.1\r\n\r\n", too_large),
        ):
            yield IpcRefusal(
                name=f"{name}-of-{sender}",
                description=description,
                sender=sender,
                stream=stream,
                reason=reason,
            )
    for name, description, limit, opened in (
        ("length-too-large", "Above max_frame.", WELCOME["limits"]["max_frame"], True),
        ("length-too-large-first", "A HELLO has 65,536 bytes at most.", 65_536, False),
    ):
        yield IpcRefusal(
            name=name,
            description=description,
            sender="client",
            stream=number(limit + 1, 4),
            reason=too_large,
            opened=opened,
        )
    yield IpcRefusal(
        name="length-0-first",
        description="Before the HELLO.",
        sender="client",
        stream=number(0, 4),
        opened=False,
    )


def _first_frames() -> Iterator[IpcRefusal]:
    for kind in ("PING", "BYE", "PUBLISH", "CALL", "SUBSCRIBE", "APPEND", "ASK"):
        yield IpcRefusal(
            name=f"first-{kind.lower()}",
            description="The first frame of a client is a HELLO.",
            sender="client",
            stream=frame_of(kind),
            reason="no-hello",
            opened=False,
        )
    for kind in ("PING", "DONE", "DELIVER", "BYE"):
        yield IpcRefusal(
            name=f"first-of-hub-{kind.lower()}",
            description="The first frame of a hub is a WELCOME or an ERROR.",
            sender="hub",
            stream=frame_of(kind),
            opened=False,
        )


def _kinds() -> Iterator[IpcRefusal]:
    for sender, never in (("client", NEVER_BY_CLIENTS), ("hub", NEVER_BY_HUBS)):
        for kind in never:
            yield IpcRefusal(
                name=f"{kind.lower()}-of-{sender}",
                description=f"A {sender} never sends it.",
                sender=sender,
                stream=frame_of(kind),
            )
        for kind in (0x00, 0x07, 0x0F, 0x1A, 0x2C, 0x2F, 0x34, 0x42, 0x7F):
            yield IpcRefusal(
                name=f"kind-{kind:02x}-of-{sender}",
                description="Kinds below 0x80 must be known.",
                sender=sender,
                stream=to_frame(kind, bytes(8)),
            )
    yield IpcRefusal(
        name="second-hello",
        description="There is one HELLO in a connection.",
        sender="client",
        stream=frame_of("HELLO"),
    )
    yield IpcRefusal(
        name="second-welcome",
        description="There is one WELCOME in a connection.",
        sender="hub",
        stream=frame_of("WELCOME"),
    )


def _cut_short() -> Iterator[Row]:
    for kind, fields in FIELDS.items():
        whole = b""
        for name, field in fields:
            text = f"The frame ends too early: {name} is missing, or cut."
            if len(field) > 1:
                yield f"cut-in-{name}", text, kind, whole + field[:-1]
            yield f"cut-before-{name}", text, kind, whole
            whole += field


def _too_long() -> Iterator[Row]:
    for kind in EXACT:
        content = b"".join(field for _, field in FIELDS[kind])
        yield "trailing-byte", "One byte too many.", kind, content + b"\0"
        yield "twice", "Its content twice.", kind, content + content
    with_envelopes = ("PUBLISH", "CALL", "DELIVER", "OFFER", "RETURNED", "APPEND", "RECORDS")
    for kind in (*with_envelopes, "DELIVERIES"):
        content = b"".join(field for _, field in FIELDS[kind])
        for size in (1, 3):
            text = "No further envelope begins with so few bytes."
            yield f"{size}-trailing-bytes", text, kind, content + bytes(size)
    for kind in ("RECEIPTS", "CREDIT", "SETTLE"):
        content = b"".join(field for _, field in FIELDS[kind])
        yield "trailing-byte", "No further entry has so few.", kind, content + b"\0"


def _messages() -> Iterator[Row]:
    """Yield messages that contradict themselves, in each kind of frame that has some."""
    address = CREATED.encode()
    envelope = number(len(ENVELOPE), 4) + ENVELOPE

    def message(*, claimed: int = 17, reply: int = 0, rest: bytes = envelope) -> bytes:
        return number(claimed, 2) + number(reply, 2) + address + rest

    faulty = (
        ("no-address", "Nowhere to go.", number(0, 4) + envelope),
        ("no-address-but-reply", "Nowhere.", number(0, 2) + number(17, 2) + address + envelope),
        ("long-address", "An address of 64 KiB in a small frame.", message(claimed=0xFFFF)),
        ("long-reply", "A reply address of 64 KiB in a small frame.", message(reply=0xFFFF)),
        ("no-envelope", "Messages are one or more.", message(rest=b"")),
        ("empty-envelope", "An envelope has a byte.", message(rest=number(0, 4))),
        ("empty-second-envelope", "Each of them.", message(rest=envelope + number(0, 4))),
        ("empty-first-envelope", "Each of them.", message(rest=number(0, 4) + envelope)),
        ("long-envelope", "One byte longer than the frame.", message(rest=number(2, 4) + b"{")),
        ("4-gib-envelope", "A length is a claim.", message(rest=number(U32, 4) + b"{")),
        ("2-gib-envelope", "The sign of others.", message(rest=number(2**31, 4) + b"{")),
        ("long-second", "The second one.", message(rest=envelope + number(9, 4) + b"{")),
    )
    for kind, before in (
        ("PUBLISH", b""),
        ("CALL", number(1, 4)),
        ("DELIVER", number(1, 2) + number(7, 4)),
        ("OFFER", number(1, 4) + number(1, 2) + number(7, 4)),
        ("RETURNED", b"\1"),
    ):
        for name, description, content in faulty:
            yield name, description, kind, before + content
    for name, description, content in faulty:
        before = number(1, 4) + b"\0" + number(0, 8)
        yield name, description, "APPEND", before + number(len(content), 4) + content


def _entries() -> Iterator[Row]:
    for kind, before in (("DELIVER", b""), ("OFFER", number(1, 4))):
        for name, count in (("one-too-many", 3), ("65535", 0xFFFF)):
            content = before + number(count, 2) + number(7, 4) + number(8, 4) + BLOCK
            yield f"count-{name}", "More subscriptions than there are.", kind, content
        content = before + number(2, 2) + number(7, 4) + number(8, 4)
        yield "count-without-messages", "Subscriptions, no message.", kind, content
    call = number(1, 4)
    for name, expect in (("minus-2", -2), ("lowest", -(2**63))):
        content = call + b"\0" + number(expect, 8, signed=True) + number(len(BLOCK), 4) + BLOCK
        yield f"expect-{name}", "Below -1 there is no meaning.", "APPEND", content
    head = call + b"\0" + number(0, 8)
    for name, description, rest in (
        ("empty-block", "A length of 0.", number(0, 4)),
        ("long-block", "A block that is longer than the frame.", number(len(BLOCK) + 1, 4) + BLOCK),
        ("4-gib-block", "A length is a claim.", number(U32, 4) + BLOCK),
        ("short-block", "The block ends in its envelope.", number(len(BLOCK) - 1, 4) + BLOCK),
        ("long-second-block", "The second.", 2 * (number(len(BLOCK), 4) + BLOCK) + number(9, 4)),
    ):
        yield name, description, "APPEND", head + rest
    record = number(1, 8) + number(1, 8)
    for name, description, rest in (
        ("empty-envelope", "An envelope has a byte.", record + number(0, 4)),
        ("long-envelope", "Longer than the frame.", record + number(2, 4) + b"{"),
        ("4-gib-envelope", "A length is a claim.", record + number(U32, 4) + b"{"),
    ):
        yield name, description, "RECORDS", call + rest
    delivery = number(1, 8) + number(1, 8) + number(1, 4)
    for name, description, rest in (
        ("empty-envelope", "An envelope has a byte.", delivery + number(0, 4)),
        ("long-envelope", "Longer than the frame.", delivery + number(2, 4) + b"{"),
        ("4-gib-envelope", "A length is a claim.", delivery + number(U32, 4) + b"{"),
    ):
        yield name, description, "DELIVERIES", call + b"\0" + rest
    yield "more-of-none", "More follows nothing.", "DELIVERIES", call + b"\1"
    yield from _settlements(call + number(1, 4) + number(1, 8) + number(1, 4))
    yield "nothing", "At least one.", "FETCH", call + number(1, 4) + number(0, 4)


def _settlements(before: bytes) -> Iterator[Row]:
    """Yield what cannot become of a delivery."""
    nothing = number(0, 2)
    texts = nothing + nothing
    for outcome in (0, 6, 255):
        content = before + bytes([outcome]) + number(0, 8) + texts
        yield f"outcome-{outcome}", "1 to 5.", "SETTLE", content
    for name, delay in (("63-bits", 2**62 + 1), ("64-bits", 2**64 - 1)):
        content = before + b"\2" + number(delay, 8) + texts
        yield f"delay-{name}", "At most 2^62 ns.", "SETTLE", content
    known = before + b"\2" + number(0, 8)
    for name, code, reason in (("code", b"\xff", b""), ("reason", b"", b"\xed\xa0\x80")):
        content = known + number(len(code), 2) + code + number(len(reason), 2) + reason
        yield f"{name}-no-utf-8", "Texts are UTF-8.", "SETTLE", content
    many = before[:8] + 1025 * (before[8:] + b"\1" + number(0, 8) + texts)
    yield "1025-entries", "At most 1,024.", "SETTLE", many
    yield "long-code", "Longer than the frame.", "SETTLE", known + number(9, 2) + nothing
    yield "long-reason", "Longer than the frame.", "SETTLE", known + nothing + number(9, 2)


def _bytes_of_two_values() -> Iterator[Row]:
    for value in (2, 255):
        content = number(1, 4) + bytes([value])
        yield f"accepted-{value}", "0 or 1.", "VERDICT", content + document(FULL_QUEUE)
        yield f"more-{value}", "0 or 1.", "ANSWER", content + b"{}"
        yield f"more-{value}", "0 or 1.", "DELIVERIES", content


_BEFORE_JSON: Mapping[str, bytes] = {
    "HELLO": b"",
    "WELCOME": b"",
    "BYE": b"",
    "SUBSCRIBE": number(1, 4),
    "READ": number(1, 4),
    "CONSUME": number(1, 4),
    "ASK": number(1, 4),
    "ANSWER": number(1, 4) + b"\0",
}


def _documents() -> Iterator[Row]:
    """Yield what is no JSON object. FAILED, ERROR and VERDICT are absent: they are read anyway."""
    for kind, before in _BEFORE_JSON.items():
        good = example(kind)[len(before) :]
        for name, description, text in (
            ("json-empty", "Nothing.", b""),
            ("json-cut", "The last brace is missing.", good[:-1]),
            ("json-trailing", "Two objects.", good + good),
            ("json-trailing-nul", "A NUL behind the object.", good + b"\0"),
            ("json-bom", "A byte order mark.", b"\xef\xbb\xbf" + good),
            ("json-array", "No object.", b"[]"),
            ("json-null", "No object.", b"null"),
            ("json-text", "No object.", b'"hello"'),
            ("json-words", "No JSON.", b"hello"),
            (
                "json-deep",
                "Nested 20,000 deep.",
                b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
            ),
            ("json-not-a-number", "JSON has no NaN.", good[:-1] + _comma(good) + b'"x":NaN}'),
        ):
            yield name, description, kind, before + text


def _comma(good: bytes) -> bytes:
    return b"" if good == b"{}" else b","


def _members() -> Iterator[Row]:
    yield from _of("HELLO", HELLO, _wrong_in_hello(), required=tuple(HELLO))
    required = ("protocol", "envelope", "codecs", "hub", "client", "limits")
    yield from _of("WELCOME", WELCOME, _wrong_in_welcome(), required=required)
    subscribe = {"subscription": 7, "pattern": "a"}
    yield from _of("SUBSCRIBE", subscribe, _wrong_in_subscribe(), required=tuple(subscribe))
    yield from _of("READ", {}, _wrong_in_read())
    yield from _of("ASK", {"op": "verify"}, _wrong_in_ask(), required=("op",))
    yield from _of("ASK", {}, durable_cases.wrong_in_redrive())
    consume = {"consumer": 1, "name": "a", "pattern": "a"}
    wrong = durable_cases.wrong_in_consume()
    yield from _of("CONSUME", consume, wrong, required=tuple(consume))
    yield from _of("BYE", {}, [("reason-number", {"reason": 5})])
    for kind, text in (("HELLO", b'"\xff"'), ("HELLO", b'"\xed\xa0\x80"')):
        good = document(HELLO).replace(b'"small"', text)
        yield f"name-{text[1:-1].hex()}", "Texts are UTF-8.", kind, good
    broken = number(1, 4) + b'{"subscription":7,"pattern":"\xc0\xaf"}'
    yield "pattern-c0af", "Texts are UTF-8.", "SUBSCRIBE", broken
    lone = document(HELLO).replace(b'"small"', b'"\\ud800"')
    yield "name-half-a-pair", "Half a surrogate pair is no character.", "HELLO", lone


Wrong = Iterator[tuple[str, Mapping[str, Any]]]


def _of(
    kind: str,
    good: Mapping[str, Any],
    wrong: "Wrong | list[tuple[str, dict[str, Any]]]",
    required: tuple[str, ...] = (),
) -> Iterator[Row]:
    before = _BEFORE_JSON[kind]
    for member in required:
        rest = {name: value for name, value in good.items() if name != member}
        yield f"without-{member}", f"{member} is required.", kind, before + document(rest)
    for name, members in wrong:
        text = f"Cannot be: {json.dumps(members, ensure_ascii=False)}."
        yield name, text, kind, before + document({**good, **members})


def _wrong_in_hello() -> Wrong:
    for name, value in (
        ("one-number", [1]),
        ("three-numbers", [1, 1, 1]),
        ("number", 1),
        ("text", "1"),
        ("texts", ["1", "1"]),
        ("fraction", [1, 1.5]),
        ("negative", [-1, 1]),
        ("huge", [1, 2**64]),
        ("null", None),
    ):
        yield f"protocol-{name}", {"protocol": value}
    yield "envelope-number", {"envelope": 1.0}
    yield "codecs-none", {"codecs": []}
    yield "codecs-text", {"codecs": "json"}
    yield "codecs-numbers", {"codecs": [1]}
    yield "client-text", {"client": "small"}
    yield "client-without-name", {"client": {"pid": 1}}
    yield "client-name-number", {"client": {"name": 1}}
    yield "client-pid-text", {"client": {"name": "small", "pid": "1"}}
    yield "token-number", {"token": 1}
    yield "log-number", {"log": 1}
    yield "schemas-array", {"schemas": ["hms.orders"]}
    yield "schemas-number", {"schemas": {"hms.orders": 1}}


def _wrong_in_welcome() -> Wrong:
    yield "protocol-range", {"protocol": [1, 1]}
    yield "codecs-text", {"codecs": "json"}
    yield "hub-text", {"hub": "agents"}
    yield "hub-without-instance", {"hub": {"name": "a", "pid": 1, "version": "1", "started_ns": 1}}
    yield "limits-number", {"limits": 16777216}
    yield "max-frame-text", {"limits": {**WELCOME["limits"], "max_frame": "16 MiB"}}
    yield "max-frame-negative", {"limits": {**WELCOME["limits"], "max_frame": -1}}
    yield "heartbeat-0", {"limits": {**WELCOME["limits"], "heartbeat_s": 0}}
    yield "log-text", {"log": "memory:"}
    yield "log-without-identity", {"log": {"url": "memory:", "capabilities": []}}


def _wrong_in_subscribe() -> Wrong:
    for name, value in (
        ("negative", -1),
        ("33-bits", U32 + 1),
        ("fraction", 1.5),
        ("text", "7"),
        ("boolean", True),
        ("null", None),
    ):
        yield f"subscription-{name}", {"subscription": value}
    yield "pattern-number", {"pattern": 1}
    yield "group-number", {"group": 1}
    yield "answers-text", {"answers": "yes"}
    yield "overflow-unknown", {"overflow": "explode"}
    yield "block-without-credit", {"overflow": "block"}
    yield "credit-negative", {"overflow": "block", "credit": -1}
    yield "credit-33-bits", {"overflow": "block", "credit": U32 + 1}


def _wrong_in_read() -> Wrong:
    yield "first-text", {"first": "1"}
    yield "last-fraction", {"last": 1.5}
    yield "first-negative", {"first": -1}
    yield "first-65-bits", {"first": 2**64}
    yield "types-text", {"types": "order.created"}
    yield "pattern-number", {"pattern": 1}
    yield "follow-number", {"follow": 1}
    yield "backwards-text", {"backwards": "yes"}
    yield "codec-number", {"codec": 1}
    yield "credit-negative", {"credit": -1}


def _wrong_in_ask() -> Wrong:
    yield "op-number", {"op": 1}
    yield "expected-number", {"expected": 1}
    yield "expected-without-hash", {"expected": {"position": 1, "recorded_ns": 1}}
    head = {"position": -1, "hash": "00", "recorded_ns": 1, "format": "hms-bus-head/1"}
    yield "expected-negative", {"expected": head}
    yield "expected-format", {"expected": {**head, "position": 1, "format": "hms-bus-head/2"}}
