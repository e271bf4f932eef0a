"""The conversations of durable consumption in spec/vectors/ipc-sessions.json."""

from collections.abc import Iterator
from typing import Any

from ipc_durable_cases import CREATED, RECORDED, Content, document, settled
from ipc_steps import Session, Side, Step, any_


def _append(writer: Side, call: int, number: int) -> list[Step]:
    messages = {"address": CREATED, "envelopes": [{"text": document(number)}]}
    receipt = {"call": call, "position": str(number), "flags": 2}
    entries = [{"messages": messages}]
    return [
        writer.says("APPEND", call=call, flags=0, expect="-1", entries=entries),
        writer.hears("RECEIPTS", entries=[receipt]),
    ]


def _consume(worker: Side, call: int, **members: Any) -> list[Step]:
    content = {"consumer": 1, "name": "billing", "pattern": "orders.>", **members}
    return [worker.says("CONSUME", call=call, json=content), worker.is_done(call)]


def _gets(worker: Side, call: int, *numbers: int, attempt: int = 1) -> Step:
    entries = [
        {
            "position": str(number),
            "recorded": any_("integer", RECORDED),
            "attempt": attempt,
            "envelope": {"text": document(number)},
        }
        for number in numbers
    ]
    return worker.hears("DELIVERIES", call=call, more=0, entries=entries)


def _fetch(worker: Side, call: int, limit: int = 10) -> Step:
    return worker.says("FETCH", call=call, consumer=1, limit=limit)


def _settle(worker: Side, call: int, *entries: Content) -> list[Step]:
    return [
        worker.says("SETTLE", call=call, consumer=1, entries=list(entries)),
        worker.is_done(call),
    ]


def durable_sessions() -> Iterator[Session]:
    """Yield the conversations."""
    writer, worker = Side("writer", number=2), Side("worker")
    yield Session(
        name="consume",
        description="Fetched, handled, tried again, handed back: attempts are counted by the log.",
        log=True,
        steps=[
            *writer.opens(log=True),
            *_append(writer, 1, 1),
            *_append(writer, 2, 2),
            *worker.opens(log=True),
            *_consume(worker, 1),
            _fetch(worker, 2, 1),
            _gets(worker, 2, 1),
            *_settle(worker, 3, settled("1", 1)),
            _fetch(worker, 4),
            _gets(worker, 4, 2),
            *_settle(worker, 5, settled("2", 2, why="busy")),
            _fetch(worker, 6),
            _gets(worker, 6, 2, attempt=2),
            worker.says("RELEASE", call=7, consumer=1, flags=0),
            worker.is_done(7),
            *_consume(worker, 8),
            _fetch(worker, 9),
            _gets(worker, 9, 2, attempt=2),
            *_settle(worker, 10, settled("2", 1, attempt=2)),
            *worker.leaves(),
        ],
    )
    yield Session(
        name="consume-waiting",
        description="A FETCH waits for what is appended; STOP ends it.",
        log=True,
        steps=[
            *worker.opens(log=True),
            *_consume(worker, 1),
            _fetch(worker, 2),
            *writer.opens(log=True),
            *_append(writer, 1, 1),
            _gets(worker, 2, 1),
            *_settle(worker, 3, settled("1", 1)),
            _fetch(worker, 4),
            worker.says("STOP", call=4),
            _gets(worker, 4),
            worker.says("STOP", call=4),
            *worker.is_still_there(),
        ],
    )
    other = Side("other", number=2)
    asked = {"consumer": 1, "name": "billing", "pattern": "orders.>"}
    missing = {"op": "forget", "name": "no-such"}
    yield Session(
        name="consume-refused",
        description="In use; another pattern; no consumer; a durable that is not there.",
        log=True,
        steps=[
            *worker.opens(log=True),
            *_consume(worker, 1),
            *other.opens(log=True),
            other.says("CONSUME", call=1, json=asked),
            other.fails(1, "FAILED_PRECONDITION", "log", name="billing"),
            other.says("CONSUME", call=2, json={**asked, "pattern": "quotes.>"}),
            other.fails(2, "INVALID_ARGUMENT", "usage"),
            other.says("FETCH", call=3, consumer=1, limit=1),
            other.fails(3, "INVALID_ARGUMENT", "usage"),
            other.says("ASK", call=4, json=missing),
            other.fails(4, "INVALID_ARGUMENT", "usage"),
            *other.is_still_there(),
        ],
    )
