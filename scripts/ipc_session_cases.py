"""The conversations of spec/vectors/ipc-sessions.json: small clients and a hub, frame by frame."""

from collections.abc import Iterator
from typing import Any

from ipc_durable_sessions import durable_sessions
from ipc_frame_cases import CREATED, HEAD, Content, block, document
from ipc_steps import Session, Side, Step, any_, failure
from ipc_writer import to_frame


def sessions() -> Iterator[Session]:
    """Yield all."""
    yield from _opening()
    yield from _refused()
    yield from _publishing()
    yield from _flow()
    yield from _requests()
    yield from _log()
    yield from durable_sessions()


def _opening() -> Iterator[Session]:
    client = Side()
    yield Session(
        name="opening-and-leaving",
        description="HELLO, WELCOME, BYE, BYE.",
        steps=[*client.opens(), *client.leaves()],
    )
    later = Side(protocol=[1, 9], codecs=["zip", "json"], compression=["zstd"])
    yield Session(
        name="later-client",
        description="The highest version that both know; an unknown codec or member is no reason "
        "to refuse.",
        steps=[*later.opens(), *later.leaves()],
    )
    yield Session(
        name="ping-and-optional-kinds",
        description="A PING is answered; a kind from 0x80 on is ignored, and a PONG that nobody "
        "asked for.",
        steps=[
            *client.opens(),
            *client.is_still_there(),
            Step(connection="client", sender="client", octets=to_frame(0x80, b"later")),
            client.says("PONG", bytes="ff" * 8),
            *client.is_still_there(),
            *client.leaves(),
        ],
    )


def _refused() -> Iterator[Session]:
    old = "FAILED_PRECONDITION"
    newest = Side(protocol=[7, 9])
    ranges = {"hub": any_("array", [1, 1]), "client": [7, 9]}
    yield Session(
        name="version-refused",
        description="The hub speaks none of the client's versions; it says both ranges.",
        steps=[newest.hello(), *newest.is_refused(old, "protocol-version", **ranges)],
    )
    ancient = Side(envelope="0.3")
    yield Session(
        name="envelope-refused",
        description="The hub does not know that specversion.",
        steps=[ancient.hello(), *ancient.is_refused(old, "envelope-version")],
    )
    for name, description, stranger in (
        ("token-missing", "A hub that asks for tokens, and a client without.", Side()),
        ("token-unknown", "A token that nobody was given.", Side(token="no-such-token")),
    ):
        refused = stranger.is_refused("UNAUTHENTICATED", "unauthenticated")
        yield Session(
            name=name, description=description, steps=[stranger.hello(), *refused], tokens=True
        )
    client = Side()
    publish = client.says("PUBLISH", messages=block(CREATED))
    yield Session(
        name="no-hello",
        description="A client that begins with something else.",
        steps=[publish, *client.is_refused(old, "no-hello")],
    )
    yield Session(
        name="publish-without-window",
        description="More messages than the window allows.",
        steps=[*client.opens(), publish, *client.is_refused("INVALID_ARGUMENT", "bad-frame")],
    )
    bad = block("orders..eu", document(CREATED))
    yield Session(
        name="bad-topics",
        description="What can be answered fails and the connection lives; a PUBLISH ends it.",
        steps=[
            *client.opens(),
            client.says("SUBSCRIBE", call=1, json={"subscription": 7, "pattern": "orders..eu"}),
            client.hears("FAILED", call=1, json=_bad_topic()),
            client.calls(2, bad),
            client.hears("FAILED", call=2, json=_bad_topic()),
            *client.is_still_there(),
            client.says("PUBLISH", messages=block("$a..b", document(CREATED))),
            *client.is_refused("INVALID_ARGUMENT", "bad-topic"),
        ],
    )


def _bad_topic() -> dict[str, Any]:
    return failure("INVALID_ARGUMENT", "bad-topic", {})


def _publishing() -> Iterator[Session]:
    publisher, subscriber = Side("publisher", number=2), Side("subscriber")
    one = block(CREATED)
    yield Session(
        name="publish-and-deliver",
        description="The smallest conversation: one subscribes, the other publishes.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>"),
            *publisher.opens(),
            publisher.calls(1, one),
            publisher.is_done(1, 1024),
            subscriber.gets(one, 7),
            *publisher.leaves(),
            *subscriber.leaves(),
        ],
    )
    yield Session(
        name="two-subscriptions",
        description="Messages travel once, however many subscriptions of a client get them.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>"),
            *subscriber.subscribes(8, "orders.*.created", 2),
            *publisher.opens(),
            publisher.calls(1, one),
            publisher.is_done(1, 1024),
            subscriber.gets(one, 7, 8),
        ],
    )
    paid = block("orders.eu.paid", document("orders.eu.paid", 2))
    yield Session(
        name="unsubscribe",
        description="Nothing is delivered after the DONE; a number that is not there is no error.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>"),
            *publisher.opens(),
            publisher.calls(1, one),
            publisher.is_done(1, 1024),
            subscriber.gets(one, 7),
            subscriber.says("UNSUBSCRIBE", call=2, subscription=7),
            subscriber.hears("DONE", call=2, window=0),
            publisher.calls(2, paid),
            publisher.is_done(2, 1024),
            subscriber.says("UNSUBSCRIBE", call=3, subscription=7),
            subscriber.hears("DONE", call=3, window=0),
            *subscriber.is_still_there(),
        ],
    )
    two = block(CREATED, document(CREATED, 2), document(CREATED, 3))
    window = publisher.says("PUBLISH", messages=two)
    yield Session(
        name="window",
        description="The first message is a CALL; its DONE gives a window, which a PUBLISH uses.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>"),
            *publisher.opens(),
            publisher.calls(1, one),
            publisher.is_done(1, 1024),
            subscriber.gets(one, 7),
            Step(
                connection=window.connection,
                sender="client",
                kind="PUBLISH",
                content=window.content,
                needs_window=2,
            ),
            subscriber.gets(two, 7),
            publisher.says("FORGET", address=""),
            publisher.calls(2, block(CREATED, document(CREATED, 4))),
            publisher.is_done(2, 1024),
            subscriber.gets(block(CREATED, document(CREATED, 4)), 7),
        ],
    )


def _flow() -> Iterator[Session]:
    publisher, subscriber = Side("publisher", number=2), Side("subscriber")
    first, second = (block(CREATED, document(CREATED, number)) for number in (1, 2))
    granted = {"subscription": 7, "credit": 8, "handled": 1}
    yield Session(
        name="credit",
        description="A subscriber with room for one: the second CALL is answered once it says that "
        "there is more. (That it is not answered before cannot be seen here.)",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>", overflow="block", credit=1),
            *publisher.opens(),
            publisher.calls(1, first),
            subscriber.gets(first, 7),
            publisher.calls(2, second),
            subscriber.says("CREDIT", entries=[granted]),
            subscriber.gets(second, 7),
            publisher.is_done(1),
            publisher.is_done(2, 7),
        ],
    )
    full = {
        "code": "RESOURCE_EXHAUSTED",
        "message": "queue of 'orders.>' is full (1 messages)",
        "reason": "queue-full",
        "retryable": True,
        "details": {"queue": "orders.>", "limit": 1},
    }
    ask = any_("integer", 1, "first")
    other = any_("integer", 2, "second")
    offered = {"subscriptions": [7]}
    accept: Content = {"ask": 1, "accepted": 1, "json": {}}
    refuse = {"ask": 2, "accepted": 0, "json": full}
    yield Session(
        name="verdicts",
        description="A subscriber that refuses when it is full: each message is an OFFER.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>", overflow="error"),
            *publisher.opens(),
            publisher.calls(1, first),
            subscriber.hears("OFFER", ask=ask, messages=first, **offered),
            Step(
                connection="subscriber",
                sender="client",
                kind="VERDICT",
                content=accept,
                put={"first": 5},
            ),
            publisher.hears("DONE", call=1, window=0),
            publisher.calls(2, second),
            subscriber.hears("OFFER", ask=other, messages=second, **offered),
            Step(
                connection="subscriber",
                sender="client",
                kind="VERDICT",
                content=refuse,
                put={"second": 5},
            ),
            publisher.hears("FAILED", call=2, json={**full, "message": any_("text", "full")}),
        ],
    )
    yield Session(
        name="late-verdict",
        description="The subscription ends while an OFFER is under way: the verdict is ignored.",
        steps=[
            *subscriber.opens(),
            *subscriber.subscribes(7, "orders.>", overflow="error"),
            *publisher.opens(),
            publisher.calls(1, first),
            subscriber.hears("OFFER", ask=ask, messages=first, **offered),
            subscriber.says("UNSUBSCRIBE", call=2, subscription=7),
            subscriber.hears("DONE", call=2, window=0),
            publisher.is_done(1, 1024),
            Step(
                connection="subscriber",
                sender="client",
                kind="VERDICT",
                content=accept,
                put={"first": 5},
            ),
            *subscriber.is_still_there(),
        ],
    )


def _requests() -> Iterator[Session]:
    caller, server = Side("caller", number=2), Side("server")
    asking = block("quotes.get", reply_to="$inbox.1")
    answer = block("$inbox.1", document("$reply.quotes.get", 2))
    yield Session(
        name="request-answered",
        description="The answer goes to the inbox with PUBLISH: addresses with `$` have no window.",
        steps=[
            *server.opens(),
            *server.subscribes(1, "quotes.get"),
            *caller.opens(),
            *caller.subscribes(1, "$inbox.1"),
            caller.calls(2, asking),
            caller.is_done(2, 1024),
            server.gets(asking, 1),
            server.says("PUBLISH", messages=answer),
            caller.gets(answer, 1),
        ],
    )
    listener = Side("listener")
    returned = caller.hears("RETURNED", reason=1, messages=asking)
    yield Session(
        name="request-returned",
        description="Nobody answers there: one listens, but does not answer, and gets nothing.",
        steps=[
            *listener.opens(),
            *listener.subscribes(1, ">", answers=False),
            *caller.opens(),
            *caller.subscribes(1, "$inbox.1"),
            caller.calls(2, asking),
            returned,
            caller.is_done(2),
            *listener.is_still_there(),
        ],
    )
    yield Session(
        name="caller-gone",
        description="The inbox is given up before the answer: the server learns it.",
        steps=[
            *server.opens(),
            *server.subscribes(1, "quotes.get"),
            *caller.opens(),
            *caller.subscribes(1, "$inbox.1"),
            caller.calls(2, asking),
            caller.is_done(2, 1024),
            server.gets(asking, 1),
            caller.says("UNSUBSCRIBE", call=3, subscription=1),
            caller.hears("DONE", call=3, window=0),
            server.hears("GONE", address="$inbox.1"),
        ],
    )


def _record(position: int, text: str) -> dict[str, Any]:
    return {
        "position": str(position),
        "recorded": any_("integer", "1769860800000000000"),
        "envelope": {"text": text},
    }


def _appended(call: int, position: int, flags: int) -> dict[str, Any]:
    return {"entries": [{"call": call, "position": str(position), "flags": flags}]}


def _log() -> Iterator[Session]:
    writer, subscriber, reader = Side("writer"), Side("subscriber"), Side("reader")

    def append(call: int, *numbers: int, expect: int = -1) -> Step:
        messages = block(CREATED, *(document(CREATED, number) for number in numbers))
        entries = [{"messages": messages}]
        return writer.says("APPEND", call=call, flags=0, expect=str(expect), entries=entries)

    conflict = {"topic": CREATED, "expected": 5, "actual": 1}
    yield Session(
        name="append",
        description="Appended, delivered; a duplicate is neither; a wrong expectation fails.",
        log=True,
        steps=[
            *subscriber.opens(log=True),
            *subscriber.subscribes(7, "orders.>"),
            *writer.opens(log=True),
            append(1, 1, expect=0),
            writer.hears("RECEIPTS", **_appended(1, 1, 2)),
            subscriber.gets(block(CREATED), 7),
            append(2, 1),
            writer.hears("RECEIPTS", **_appended(2, 1, 3)),
            append(3, 2, expect=5),
            writer.fails(3, "ABORTED", "conflict", **conflict),
            append(4, 2, expect=1),
            writer.hears("RECEIPTS", **_appended(4, 2, 2)),
            subscriber.gets(block(CREATED, document(CREATED, 2)), 7),
            *writer.is_still_there(),
        ],
    )
    elsewhere = block("orders.eu.paid", document(CREATED, 1))
    refused = [{"messages": elsewhere}]
    nowhere = [{"messages": block("$a..b", document(CREATED, 2))}]
    yield Session(
        name="append-refused",
        description="An envelope on another topic than its address, and an address that is none.",
        log=True,
        steps=[
            *writer.opens(log=True),
            writer.says("APPEND", call=1, flags=0, expect="-1", entries=refused),
            writer.fails(1, "INVALID_ARGUMENT", "bad-envelope"),
            writer.says("APPEND", call=2, flags=0, expect="-1", entries=nowhere),
            writer.fails(2, "INVALID_ARGUMENT", "bad-topic"),
            append(3, 1, expect=0),
            writer.hears("RECEIPTS", **_appended(3, 1, 2)),
        ],
    )
    yield Session(
        name="read",
        description="With room for one record at first; END comes last.",
        log=True,
        steps=[
            *writer.opens(log=True),
            append(1, 1),
            writer.hears("RECEIPTS", **_appended(1, 1, 2)),
            append(2, 2),
            writer.hears("RECEIPTS", **_appended(2, 2, 2)),
            *reader.opens(log=True),
            reader.says("READ", call=4, json={"pattern": "orders.>", "credit": 1}),
            reader.hears("RECORDS", call=4, entries=[_record(1, document(CREATED, 1))]),
            reader.says("MORE", call=4, count=9),
            reader.hears("RECORDS", call=4, entries=[_record(2, document(CREATED, 2))]),
            reader.hears("END", call=4),
            reader.says("STOP", call=4),
            *reader.is_still_there(),
        ],
    )
    yield Session(
        name="follow",
        description="What is appended during the READ comes, too; STOP ends it.",
        log=True,
        steps=[
            *reader.opens(log=True),
            reader.says("READ", call=4, json={"follow": True, "credit": 64}),
            *writer.opens(log=True),
            append(1, 1),
            writer.hears("RECEIPTS", **_appended(1, 1, 2)),
            reader.hears("RECORDS", call=4, entries=[_record(1, document(CREATED, 1))]),
            append(2, 2),
            writer.hears("RECEIPTS", **_appended(2, 2, 2)),
            reader.hears("RECORDS", call=4, entries=[_record(2, document(CREATED, 2))]),
            reader.says("STOP", call=4),
            reader.hears("END", call=4),
        ],
    )
    client = Side()
    yield Session(
        name="head",
        description="The head of an empty log, and a question that nobody knows.",
        log=True,
        steps=[
            *client.opens(log=True),
            client.says("ASK", call=1, json={"op": "head"}),
            client.hears("ANSWER", call=1, more=0, json=HEAD),
            client.says("ASK", call=2, json={"op": "weather"}),
            client.fails(2, "UNIMPLEMENTED", "unsupported"),
        ],
    )
    nothing = "FAILED_PRECONDITION", "no-log"
    yield Session(
        name="no-log",
        description="A hub that keeps no log: every question about it fails.",
        steps=[
            *writer.opens(),
            append(1, 1),
            writer.fails(1, *nothing),
            writer.says("READ", call=2, json={}),
            writer.fails(2, *nothing),
            writer.says("ASK", call=3, json={"op": "head"}),
            writer.fails(3, *nothing),
            writer.says("CONSUME", call=4, json={"consumer": 1, "name": "a", "pattern": "a"}),
            writer.fails(4, *nothing),
            writer.says("ASK", call=5, json={"op": "durables"}),
            writer.fails(5, *nothing),
            *writer.is_still_there(),
        ],
    )
