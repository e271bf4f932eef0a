"""What is said of durables: members and entries, from their types to the wire and back."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hms_bus.abc import Durable, DurableInfo, Settlement
from hms_bus.errors import DurableInUseError, FrameError, UsageError
from hms_bus.ipc import durables
from hms_bus.ipc.durables import Consume, DurableEntry, consume_of, durable_of, infos_of, parts_of
from hms_bus.ipc.failures import to_error, to_failure
from hms_bus.ipc.session import from_json, to_json

DURABLE = Durable(
    name="d",
    pattern="a.>",
    group="g",
    start="end",
    start_ns=-1,
    ack_wait_s=0.5,
    max_deliveries=None,
    max_unacked=7,
)
SETTLED = Settlement(
    position=1, attempt=2, outcome="nak", delay_s=1.5, code="ABORTED", reason="Zürich 😀"
)


def read_back(*settled: Settlement) -> list[Settlement]:
    whole = durables.settle(3, 4, [durables.settlement(each) for each in settled])
    call, consumer, found = durables.read_settle(whole[4:])
    assert (call, consumer) == (3, 4)
    return list(found)


@pytest.mark.parametrize("durable", [DURABLE, Durable(name="e", pattern="a", start=12)])
def test_a_durable_comes_over_as_it_is(durable: Durable) -> None:
    asked = consume_of(durable, 9, "cbor")
    found = from_json(to_json(asked), Consume)
    assert (found, found.consumer, found.codec) == (asked, 9, "cbor")
    assert durable_of(found) == durable


def test_how_durables_stand_comes_over_as_it_is() -> None:
    figures = {"floor": 1, "delivered": 5, "unacked": 3, "redelivered": 2, "lag": 4, "consumers": 6}
    infos = [
        DurableInfo(durable=replace(DURABLE, name=name), dead=tuple(range(1, dead + 1)), **figures)
        for name, dead in (("a", 0), ("b", 1), ("c", 2500), ("d", 1000))
    ]
    parts = [part for info in infos for part in parts_of(info)]
    assert [len(part["dead"]) for part in parts] == [0, 1, 1000, 1000, 500, 1000]
    document = msgspec.json.encode(parts)
    assert infos_of(msgspec.json.decode(document, type=list[DurableEntry])) == infos


@pytest.mark.parametrize(
    "members",
    [
        {"start": 0},
        {"ack_wait_s": 0.0},
        {"ack_wait_s": 1e10},
        {"max_deliveries": -1},
        {"max_deliveries": 0},
        {"max_unacked": 0},
        {"start_ns": 2**63},
    ],
)
def test_a_durable_that_cannot_be_is_the_callers_fault(members: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="durable 'd'"):
        consume_of(replace(DURABLE, **members), 1, "json")


def test_settlements_come_over_as_they_are() -> None:
    settled = [replace(SETTLED, outcome=outcome) for outcome in durables.OUTCOMES]
    assert read_back(*settled) == settled


@pytest.mark.parametrize(
    ("delay_s", "expected_s"), [(0.0, 0.0), (1e-9, 1e-9), (1e30, 2**62 / 1e9), (1 / 3, 0.333333333)]
)
def test_delays_are_cut_to_what_the_wire_can_say(delay_s: float, expected_s: float) -> None:
    [found] = read_back(replace(SETTLED, delay_s=delay_s))
    assert found.delay_s == expected_s


def test_texts_are_cut_where_a_character_ends() -> None:
    [found] = read_back(replace(SETTLED, reason="ä" * 40_000, code="\ud800"))
    assert found.reason == "ä" * 32_767
    assert found.code == "?"
    whole = durables.settle(3, 4, [durables.settlement(SETTLED, max_text=9)])
    [short] = durables.read_settle(whole[4:])[2]
    assert (short.code, short.reason) == ("ABORTED", "Zürich ")


@pytest.mark.parametrize(
    "members",
    [
        {"position": -1},
        {"position": 2**64},
        {"attempt": 2**32},
        {"delay_s": -1.0},
        {"delay_s": float("nan")},
    ],
)
def test_a_settlement_of_nothing_is_the_callers_fault(members: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="names no delivery"):
        durables.settlement(replace(SETTLED, **members))


def test_errors_of_durables_come_over_as_they_are() -> None:
    in_use = DurableInUseError("it is in use", path="p", name="d")
    found = to_error(to_failure(in_use), url="ipc://x")
    assert isinstance(found, DurableInUseError)
    assert (found.message, found.path, found.name) == ("it is in use", "p", "d")
    usage = to_error(to_failure(UsageError("not so")), url="ipc://x")
    assert (type(usage), usage.message) == (UsageError, "not so")


def test_a_settle_has_no_more_entries_than_the_hub_reads_at_once() -> None:
    most = [SETTLED] * durables.MAX_SETTLED
    assert read_back(*most) == most
    with pytest.raises(FrameError, match="more than 1024"):
        read_back(*most, SETTLED)
