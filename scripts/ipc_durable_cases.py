"""The vectors of durable consumption: frames, and what is refused in their JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

Content = Mapping[str, Any]
Row = tuple[str, str, Content]
"""Name, description, content."""

U32 = 2**32 - 1
I64 = str(2**63 - 1)
LONGEST_DELAY = str(2**62)
CREATED = "orders.eu.created"
RECORDED = "1769860800000000000"


def document(number: int) -> str:
    """Return a small envelope in JSON."""
    return (
        f'{{"specversion":"1.0","id":"{number}","source":"/shop","type":"t","topic":"{CREATED}"}}'
    )


# -- frames ------------------------------------------------------------------------------------


def consuming() -> Iterator[Row]:
    """Yield CONSUMEs."""
    needed = {"consumer": 1, "name": "billing", "pattern": "orders.>"}
    every = {
        "consumer": U32,
        "name": "billing",
        "pattern": "orders.>",
        "group": "workers",
        "start": 12,
        "ack_wait_s": 2.5,
        "max_deliveries": 0,
        "max_unacked": 64,
        "codec": "cbor",
    }
    since = {**needed, "start_ns": 1769860800000000000}
    yield "smallest", "The members that are required.", {"call": 1, "json": needed}
    yield "full", "All members but one.", {"call": U32, "json": every}
    yield "end", "What is appended from now on.", {"call": 1, "json": {**needed, "start": "end"}}
    yield "since", "From a time on.", {"call": 1, "json": since}


def fetches() -> Iterator[Row]:
    """Yield FETCHes."""
    for name, number in (("one", 1), ("highest", U32)):
        yield name, "At most so many.", {"call": number, "consumer": number, "limit": number}


def deliveries() -> Iterator[Row]:
    """Yield DELIVERIES."""

    def delivery(position: str, attempt: int, envelope: Content) -> Content:
        members = {"position": position, "recorded": RECORDED, "attempt": attempt}
        return {**members, "envelope": envelope}

    json_, other = {"text": document(1)}, {"hex": "d9d9f7a0"}
    first = [delivery("1", 1, json_)]
    several = [delivery("1", 3, json_), delivery(I64, U32, other)]
    yield "one", "The first try of one record.", {"call": 2, "more": 0, "entries": first}
    yield "several", "What is tried again comes first.", {"call": 2, "more": 0, "entries": several}
    yield (
        "more",
        "Another frame answers the same FETCH.",
        {"call": U32, "more": 1, "entries": first},
    )
    yield "none", "The FETCH was stopped.", {"call": 2, "more": 0, "entries": []}


def settled(
    position: str, outcome: int, *, attempt: int = 1, delay: str = "0", why: str = ""
) -> Content:
    """Return one entry of a SETTLE."""
    return {
        "position": position,
        "attempt": attempt,
        "outcome": outcome,
        "delay": delay,
        "code": "UNAVAILABLE" if why else "UNKNOWN",
        "reason": why,
    }


def settling() -> Iterator[Row]:
    """Yield SETTLEs."""
    one = {"call": 3, "consumer": 1}
    yield "ack", "It was handled.", {**one, "entries": [settled("1", 1)]}
    nak = settled("1", 2, attempt=2, delay="1500000000", why="the printer is out of paper")
    yield "nak", "Again in 1.5 s.", {**one, "entries": [nak]}
    term = settled("1", 3, attempt=U32, why="Zürich 😀")
    yield "term", "It will never succeed.", {**one, "entries": [term]}
    several = [settled("1", 1), settled("2", 4), settled("3", 5, delay=LONGEST_DELAY)]
    yield "several", "Handled, under way, later.", {**one, "entries": several}
    highest = {**settled(I64, 1), "code": "", "attempt": 0}
    extremes = {"call": U32, "consumer": U32, "entries": [highest]}
    yield "highest", "The last position, and no code.", extremes


def releases() -> Iterator[Row]:
    """Yield RELEASEs."""
    yield "back", "What it has is handed back.", {"call": 4, "consumer": 1, "flags": 0}
    yield "abandoned", "It is not.", {"call": U32, "consumer": U32, "flags": 1}


def questions() -> Iterator[Row]:
    """Yield ASKs about durables."""
    redrive = {"op": "redrive", "name": "billing", "positions": [3, 17]}
    yield "durables", "A question.", {"call": 8, "json": {"op": "durables"}}
    yield "forget", "A question.", {"call": 8, "json": {"op": "forget", "name": "billing"}}
    yield "redrive", "A question.", {"call": 8, "json": redrive}


# -- what is refused ---------------------------------------------------------------------------


def wrong_in_consume() -> Iterator[tuple[str, Content]]:
    """Yield members of a CONSUME that cannot be."""
    for name, value in (
        ("negative", -1),
        ("33-bits", U32 + 1),
        ("text", "1"),
        ("null", None),
    ):
        yield f"consumer-{name}", {"consumer": value}
    yield "name-number", {"name": 1}
    yield "pattern-number", {"pattern": 1}
    yield "group-number", {"group": 1}
    yield "start-unknown", {"start": "middle"}
    yield "start-0", {"start": 0}
    yield "start-boolean", {"start": True}
    yield "start-ns-text", {"start_ns": "now"}
    yield "ack-wait-0", {"ack_wait_s": 0}
    yield "ack-wait-text", {"ack_wait_s": "30s"}
    yield "ack-wait-century", {"ack_wait_s": 3.2e9}
    yield "max-deliveries-negative", {"max_deliveries": -1}
    yield "max-unacked-0", {"max_unacked": 0}
    yield "codec-number", {"codec": 1}


def wrong_in_redrive() -> Iterator[tuple[str, Content]]:
    """Yield members of an ASK that cannot be."""
    yield "name-number", {"op": "forget", "name": 1}
    yield "positions-number", {"op": "redrive", "positions": 1}
    yield "positions-texts", {"op": "redrive", "positions": ["1"]}
    yield "positions-negative", {"op": "redrive", "positions": [-1]}
