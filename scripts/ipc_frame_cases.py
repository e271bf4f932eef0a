"""The frames of spec/vectors/ipc-frames.json: several of every kind, and other spellings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipc_durable_cases as durable_cases
from ipc_writer import KINDS, number, to_frame
from vector_cases import cbor_, protobuf_

Content = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame: who sends it, its kind, and its content as spec/vectors/README.md spells it.

    `others` are JSON texts that say the same in the place of its own.
    """

    name: str
    description: str
    sender: str
    kind: str
    content: Content
    others: Sequence[str] = ()


def document(topic: str, number: int = 1) -> str:
    """Return a small envelope in JSON."""
    return f'{{"specversion":"1.0","id":"{number}","source":"/shop","type":"t","topic":"{topic}"}}'


def block(address: str, *envelopes: str, reply_to: str = "") -> dict[str, Any]:
    """Return messages with JSON envelopes; without any, with one on the address."""
    spelled = [{"text": envelope} for envelope in envelopes or (document(address),)]
    return {
        "address": address,
        **({"reply_to": reply_to} if reply_to else {}),
        "envelopes": spelled,
    }


CREATED = "orders.eu.created"
CODECS = {
    "json": {"text": document(CREATED, 1)},
    "cbor": {"hex": cbor_(topic=CREATED).hex()},
    "protobuf": {"hex": protobuf_(attributes={"topic": {"ce_string": CREATED}}).hex()},
}
LONGEST = ".".join(["e" * 8, *["e" * 7] * 29])
U32 = 2**32 - 1
I64 = str(2**63 - 1)
HELLO: Content = {
    "protocol": [1, 1],
    "envelope": "1.0",
    "codecs": ["json"],
    "client": {"name": "small"},
}
WELCOME: Content = {
    "protocol": 1,
    "envelope": "1.0",
    "codecs": ["json", "cbor", "protobuf"],
    "hub": {
        "name": "agents",
        "pid": 4711,
        "version": "0.3.0",
        "started_ns": 1769860800000000000,
        "instance": "019c1373-1c80-7000-8000-000000000001",
    },
    "client": 1,
    "limits": {
        "max_frame": 16777216,
        "max_subscriptions": 65535,
        "max_topics": 65536,
        "max_reads": 64,
        "max_consumers": 256,
        "heartbeat_s": 15.0,
    },
    "log": None,
}
FULL_QUEUE: Content = {
    "code": "RESOURCE_EXHAUSTED",
    "message": "queue of 'orders.>' is full (64 messages)",
    "reason": "queue-full",
    "retryable": True,
    "details": {"queue": "orders.>", "limit": 64},
}
HEAD: Content = {"position": 0, "hash": "0" * 64, "recorded_ns": 0, "format": "hms-bus-head/1"}

Row = tuple[str, str, Content]
"""Name, description, content."""


def frames() -> Iterator[Frame]:
    """Yield all frames."""
    yield from _openings()
    kinds: list[tuple[str, str, Iterable[Row]]] = [
        ("ERROR", "hub", _errors()),
        ("ERROR", "client", _errors_of_clients()),
        ("PING", "client", _pings()),
        ("PING", "hub", [("any", "The hub asks as well.", {"bytes": "18d5a2b7c0000000"})]),
        ("PONG", "hub", _pings()),
        ("PONG", "client", [("any", "The answer.", {"bytes": "18d5a2b7c0000000"})]),
        ("BYE", "client", [("plain", "An object without members.", {"json": {}})]),
        ("BYE", "hub", [("reason", "Why, for people.", {"json": {"reason": "the hub ends"}})]),
        ("PUBLISH", "client", _publishing()),
        ("CALL", "client", _calls()),
        ("DELIVER", "hub", _deliveries()),
        ("OFFER", "hub", _offers()),
        ("VERDICT", "client", _verdicts()),
        ("RETURNED", "hub", _returned()),
        ("DONE", "hub", _done()),
        ("FAILED", "hub", _failed()),
        ("WINDOW", "hub", _windows()),
        ("FORGET", "client", _forgotten()),
        ("APPEND", "client", _appending()),
        ("RECEIPTS", "hub", _receipts()),
        ("READ", "client", _reads()),
        ("RECORDS", "hub", _records()),
        ("END", "hub", [("any", "The last frame of a READ.", {"call": 4})]),
        ("STOP", "client", [("any", "No more of this READ.", {"call": 4})]),
        ("MORE", "client", _more()),
        ("CONSUME", "client", durable_cases.consuming()),
        ("FETCH", "client", durable_cases.fetches()),
        ("DELIVERIES", "hub", durable_cases.deliveries()),
        ("SETTLE", "client", durable_cases.settling()),
        ("RELEASE", "client", durable_cases.releases()),
        ("SUBSCRIBE", "client", _subscribing()),
        ("UNSUBSCRIBE", "client", _unsubscribing()),
        ("CREDIT", "client", _credit()),
        ("GONE", "hub", [("inbox", "Nobody is there any more.", {"address": "$inbox.1"})]),
        ("ASK", "client", _questions()),
        ("ANSWER", "hub", _answers()),
    ]
    for kind, sender, rows in kinds:
        for name, description, content in rows:
            yield Frame(
                name=f"{kind.lower()}-of-{sender}-{name}",
                description=description,
                sender=sender,
                kind=kind,
                content=content,
            )
    yield from _other_spellings()


def optional_frames() -> Iterator[tuple[str, str, str, bytes]]:
    """Yield name, description, sender and bytes of frames that are ignored."""
    for sender in ("client", "hub"):
        for kind, content in ((0x80, b""), (0x80, b"{}"), (0xC0, bytes(300)), (0xFF, b"\xff")):
            yield (
                f"optional-of-{sender}-{kind:02x}-{len(content)}",
                "A kind that this version does not know, and need not.",
                sender,
                to_frame(kind, content),
            )


def example(kind: str) -> bytes:
    """Return the content of the first frame of a kind."""
    found = next(frame for frame in frames() if frame.kind == kind)
    return KINDS[kind][1](found.content)


def example_from(kind: str) -> str:
    """Return who sends the first frame of a kind."""
    return next(frame.sender for frame in frames() if frame.kind == kind)


def frame_of(kind: str) -> bytes:
    """Return the first frame of a kind, with its length."""
    content = example(kind)
    return number(1 + len(content), 4) + bytes([KINDS[kind][0]]) + content


def _openings() -> Iterator[Frame]:
    full = {
        "protocol": [1, 1],
        "envelope": "1.0",
        "codecs": ["cbor", "json"],
        "client": {"name": "Zürich 😀", "pid": 4711, "sdk": "small/1.0 (Ruby)"},
        "token": "s3cret",
        "log": "sqlite:/var/lib/shop/events.db",
        "schemas": {"hms.orders": "1.2"},
    }
    log = {"url": "memory:", "identity": "memory:#1", "capabilities": ["log-batch", "log-expect"]}
    for name, description, kind, content in (
        ("hello-smallest", "The members that are required.", "HELLO", HELLO),
        ("hello-full", "All members.", "HELLO", full),
        ("hello-range", "A client of several versions.", "HELLO", {**HELLO, "protocol": [1, 9]}),
        ("welcome-without-log", "A hub that keeps no log.", "WELCOME", WELCOME),
        ("welcome-with-log", "A hub that keeps one.", "WELCOME", {**WELCOME, "log": log}),
    ):
        yield Frame(
            name=name,
            description=description,
            sender="client" if kind == "HELLO" else "hub",
            kind=kind,
            content={"json": content},
        )


def _errors() -> Iterator[Row]:
    version = {
        "code": "FAILED_PRECONDITION",
        "message": "the hub speaks version 1, the client 7 to 9",
        "reason": "protocol-version",
        "details": {"hub": [1, 1], "client": [7, 9]},
    }
    yield "version", "With both ranges in its details.", {"json": version}
    plain = {"code": "INVALID_ARGUMENT", "message": "a length of 0", "reason": "bad-frame"}
    yield "plain", "Members that may be absent are.", {"json": plain}
    yield "bug", "No reason: internal.", {"json": {"code": "INTERNAL", "message": "KeyError: 1"}}


def _errors_of_clients() -> Iterator[Row]:
    content = {"code": "INVALID_ARGUMENT", "message": "no kind of a hub", "reason": "bad-frame"}
    yield "plain", "A client refuses what a hub sends.", {"json": content}


def _pings() -> Iterator[Row]:
    for name, spelled in (("zeros", "00" * 8), ("ones", "ff" * 8), ("any", "0123456789abcdef")):
        yield name, "Eight bytes that mean nothing to who answers.", {"bytes": spelled}


def _publishing() -> Iterator[Row]:
    two = block(CREATED, document(CREATED, 1), document(CREATED, 2))
    yield "one", "One envelope.", {"messages": block(CREATED)}
    yield "two", "Two envelopes with one address.", {"messages": two}
    asking = block("quotes.get", reply_to="$inbox.1")
    yield "request", "With a reply address.", {"messages": asking}
    answer = block("$inbox.1", document("$reply.quotes.get"))
    yield "reply", "To an inbox: the address is not the topic.", {"messages": answer}
    for codec, envelope in CODECS.items():
        content = {"address": CREATED, "envelopes": [envelope]}
        yield codec, "An envelope in this codec.", {"messages": content}
    mixed = {"address": CREATED, "envelopes": list(CODECS.values())}
    yield "mixed", "One codec each.", {"messages": mixed}
    byte = {"address": "a", "envelopes": [{"text": "{"}]}
    yield "smallest", "What is in an envelope is nobody's business here.", {"messages": byte}
    longest = block(LONGEST, document("a"), reply_to=f"$inbox.{'i' * 249}")
    yield "longest", "Addresses of 240 and 256 bytes.", {"messages": longest}


def _calls() -> Iterator[Row]:
    for name, call in (("first", 1), ("lowest", 0), ("highest", U32)):
        yield name, "Calls are numbers of 32 bits.", {"call": call, "messages": block(CREATED)}
    asking = block("quotes.get", reply_to="$inbox.1")
    yield "request", "With a reply address.", {"call": 2, "messages": asking}
    many = block(CREATED, *(document(CREATED, number) for number in range(1, 6)))
    yield "many", "Five envelopes, one answer.", {"call": 3, "messages": many}


def _deliveries() -> Iterator[Row]:
    for name, numbers in (
        ("one", [7]),
        ("extremes", [0, U32]),
        ("many", list(range(1, 41))),
    ):
        content = {"subscriptions": numbers, "messages": block(CREATED)}
        yield name, "The subscriptions that get it.", content
    asking = block("quotes.get", reply_to="$inbox.1")
    yield "request", "To be answered.", {"subscriptions": [2], "messages": asking}
    two = block(CREATED, document(CREATED, 1), document(CREATED, 2))
    yield "two", "Two envelopes.", {"subscriptions": [2], "messages": two}


def _offers() -> Iterator[Row]:
    for name, ask in (("first", 1), ("highest", U32)):
        content = {"ask": ask, "subscriptions": [7], "messages": block(CREATED)}
        yield name, "To be accepted, or not.", content


def _verdicts() -> Iterator[Row]:
    yield "accepted", "With an empty object.", {"ask": 1, "accepted": 1, "json": {}}
    yield "refused", "With the error.", {"ask": U32, "accepted": 0, "json": FULL_QUEUE}


def _returned() -> Iterator[Row]:
    asking = block("quotes.get", reply_to="$inbox.1")
    yield "no-responders", "Nobody answers there.", {"reason": 1, "messages": asking}
    yield "denied", "Without the right to.", {"reason": 2, "messages": block(CREATED)}
    yield "dropped", "A full queue has dropped it.", {"reason": 3, "messages": asking}


def _done() -> Iterator[Row]:
    for name, call, window in (("nothing", 1, 0), ("window", 2, 1024), ("highest", U32, U32)):
        yield name, "A call, and what the window grows by.", {"call": call, "window": window}


def _failed() -> Iterator[Row]:
    conflict = {
        "code": "ABORTED",
        "message": "last record on 'orders.eu.created' is at position 3, not 1",
        "reason": "conflict",
        "retryable": True,
        "details": {"topic": CREATED, "expected": 1, "actual": 3},
    }
    kept = {
        "code": "RESOURCE_EXHAUSTED",
        "message": "queue of 'orders.>' is full; the log keeps the message at position 9",
        "reason": "queue-full",
        "details": {**FULL_QUEUE["details"], "position": 9},
    }
    yield "conflict", "An APPEND that expected something else.", {"call": 9, "json": conflict}
    yield "full", "A CALL that somebody refused.", {"call": 2, "json": FULL_QUEUE}
    yield "kept", "The log has the message all the same.", {"call": 2, "json": kept}


def _windows() -> Iterator[Row]:
    for name, window, address in (("one", 1, CREATED), ("highest", U32, LONGEST)):
        yield name, "So many messages more.", {"window": window, "address": address}


def _forgotten() -> Iterator[Row]:
    yield "all", "No address: every window.", {"address": ""}
    yield "one", "The window of one address.", {"address": CREATED}


def _appending() -> Iterator[Row]:
    def appending(*entries: dict[str, Any], expect: str = "-1", flags: int = 0) -> Content:
        listed = [{"messages": entry} for entry in entries]
        return {"call": 5, "flags": flags, "expect": expect, "entries": listed}

    yield "one", "One message, whatever the log holds.", appending(block(CREATED))
    for name, expect in (("none", "0"), ("third", "3"), ("highest", I64)):
        yield name, "What the topic's last position is.", appending(block(CREATED), expect=expect)
    yield "again", "It was sent before, on a line that broke.", appending(block(CREATED), flags=1)
    two = block(CREATED, document(CREATED, 1), document(CREATED, 2))
    paid = block("orders.eu.paid", document("orders.eu.paid", 3))
    yield "batch", "Three messages with two addresses.", appending(two, paid)
    answer = block("$inbox.1", document("$reply.quotes.get", 4))
    yield "reply", "Kept under its topic, sent to an inbox.", appending(answer)


def _receipts() -> Iterator[Row]:
    def receipt(call: int, position: str, flags: int) -> Content:
        return {"call": call, "position": position, "flags": flags}

    yield "one", "Appended, and the last of its call.", {"entries": [receipt(5, "1", 2)]}
    yield "duplicate", "The log had it.", {"entries": [receipt(5, "1", 3)]}
    several = [receipt(5, "2", 0), receipt(5, "1", 1), receipt(5, "3", 2), receipt(6, I64, 2)]
    yield "several", "Of two calls.", {"entries": several}


def _reads() -> Iterator[Row]:
    selector = {
        "pattern": "orders.>",
        "first": 1,
        "last": 1000,
        "since_ns": 1769860800000000000,
        "until_ns": 1769864400000000000,
        "types": ["order.created", "order.paid"],
        "correlation": "c1",
        "source": "/shop",
        "backwards": True,
        "limit": 10,
        "codec": "cbor",
        "credit": 256,
    }
    yield "all", "Everything.", {"call": 4, "json": {}}
    yield "selected", "Every member of a selector.", {"call": 4, "json": selector}
    follow = {"first": 12, "follow": True, "credit": 64}
    yield "follow", "From a position on, and what comes.", {"call": 4, "json": follow}


def _records() -> Iterator[Row]:
    def record(position: str, envelope: Mapping[str, str]) -> Content:
        return {"position": position, "recorded": "1769860800000000000", "envelope": envelope}

    yield "one", "One record.", {"call": 4, "entries": [record("1", CODECS["json"])]}
    several = [record(str(place), each) for place, each in enumerate(CODECS.values(), 1)]
    yield "several", "Of three codecs.", {"call": U32, "entries": several}
    yield "highest", "The last position.", {"call": 4, "entries": [record(I64, CODECS["cbor"])]}


def _more() -> Iterator[Row]:
    for name, call, count in (("one", 4, 1), ("highest", U32, U32)):
        yield name, "So many records more.", {"call": call, "count": count}


def _subscribing() -> Iterator[Row]:
    for name, description, members in (
        ("smallest", "The members that are required.", {}),
        ("group", "One of a group.", {"group": "billing"}),
        ("listening", "Requests are not answered here.", {"answers": False}),
        ("block", "Publishers wait.", {"overflow": "block", "credit": 64}),
        ("oldest", "The oldest is dropped.", {"overflow": "drop_oldest"}),
        ("error", "Each message needs a verdict.", {"overflow": "error"}),
    ):
        content = {"subscription": 7, "pattern": "orders.>", **members}
        yield name, description, {"call": 1, "json": content}
    extremes = {"subscription": U32, "pattern": "$inbox.1", "overflow": "block", "credit": U32}
    yield "highest", "Numbers of 32 bits.", {"call": U32, "json": extremes}


def _unsubscribing() -> Iterator[Row]:
    for name, call, subscription in (("any", 3, 7), ("highest", U32, U32)):
        yield name, "A call and a number.", {"call": call, "subscription": subscription}


def _credit() -> Iterator[Row]:
    def entry(subscription: int, credit: int, handled: int) -> Content:
        return {"subscription": subscription, "credit": credit, "handled": handled}

    yield "one", "Room for more.", {"entries": [entry(7, 32, 32)]}
    yield "handled", "Of a group that has no limit.", {"entries": [entry(7, 0, 5)]}
    yield "several", "Of three.", {"entries": [entry(1, 1, 0), entry(2, 0, 1), entry(0, U32, U32)]}


def _questions() -> Iterator[Row]:
    for op in ("head", "verify", "status", "stop"):
        yield op, "A question.", {"call": 8, "json": {"op": op}}
    yield "verify-against", "A known head.", {"call": 8, "json": {"op": "verify", "expected": HEAD}}
    yield from durable_cases.questions()


def _answers() -> Iterator[Row]:
    done = {"done": 500, "total": 1000}
    verified = {"records": 0, "head": HEAD, "problem": None, "position": None}
    yield "head", "Of an empty log.", {"call": 8, "more": 0, "json": HEAD}
    yield "progress", "Another answer follows.", {"call": 8, "more": 1, "json": done}
    yield "verified", "The last answer.", {"call": 8, "more": 0, "json": verified}
    yield "nothing", "To a stop.", {"call": 8, "more": 0, "json": {}}


_SPACED_HELLO = """ {
"protocol" : [1, 1],\t"envelope": "1.0", "codecs": ["json"],\r
"client": {"name": "small"} } """
_ESCAPED_HELLO = (
    '{"protocol":[1,1],"envelope":"1\\u002e0","codecs":["\\u006ason"],"client":{"name":"small"}}'
)
_LATER_HELLO = (
    '{"compression":["zstd",{"level":3}],"protocol":[1,1],"envelope":"1.0","codecs":["json"],'
    '"client":{"name":"small","host":null}}'
)


def _other_spellings() -> Iterator[Frame]:
    yield Frame(
        name="hello-spelled-otherwise",
        description="White space, another order, escapes, and members that nobody knows yet.",
        sender="client",
        kind="HELLO",
        content={"json": HELLO},
        others=(
            _SPACED_HELLO,
            '{"client":{"name":"small"},"codecs":["json"],"envelope":"1.0","protocol":[1,1]}',
            _ESCAPED_HELLO,
            _LATER_HELLO,
        ),
    )
    yield Frame(
        name="subscribe-spelled-otherwise",
        description="White space, another order, defaults, and a member that nobody knows yet.",
        sender="client",
        kind="SUBSCRIBE",
        content={"call": 1, "json": {"subscription": 7, "pattern": "orders.>"}},
        others=(
            '{"pattern":"orders.>","subscription":7}',
            '{ "subscription" : 7 , "pattern" : "orders.\\u003e" }',
            '{"subscription":7,"pattern":"orders.>","answers":true,"overflow":"drop_newest"}',
            '{"subscription":7,"pattern":"orders.>","filter":"data.total > 5"}',
        ),
    )
    yield Frame(
        name="failed-spelled-otherwise",
        description="Members at their defaults, and one that nobody knows yet.",
        sender="hub",
        kind="FAILED",
        content={
            "call": 2,
            "json": {"code": "UNAVAILABLE", "message": "it ends", "reason": "closing"},
        },
        others=(
            '{"code":"UNAVAILABLE","message":"it ends","reason":"closing","details":{}}',
            '{"message":"it ends","hint":[],"reason":"closing","code":"UNAVAILABLE"}',
        ),
    )
