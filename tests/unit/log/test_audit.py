"""The check of a whole log, record by record."""

from typing import Any

import pytest

from hms_bus.abc import Head
from hms_bus.log.audit import Audit, Kept
from hms_bus.log.chain import GENESIS, cut, link, payload_hash
from hms_bus.log.documents import make_entry
from tests.support.events import event


def kept_records(count: int = 4) -> list[Kept]:
    """Return a sound log."""
    records: list[Kept] = []
    previous = GENESIS
    for position in range(1, count + 1):
        entry = make_entry(event(f"t{position}", {"n": position}))
        previous = link(previous, position, position * 10, entry.document)
        records.append(
            Kept(
                position,
                position * 10,
                entry.topic,
                entry.id,
                entry.source,
                previous,
                None,
                entry.document,
            )
        )
    return records


def audit(records: list[Kept], expected: Head | None = None) -> Audit:
    audited = Audit(expected)
    for record in records:
        audited.feed(record)
        if audited.has_problem:
            break
    return audited


def head_of(record: Kept) -> Head:
    assert isinstance(record.position, int)
    assert isinstance(record.recorded_ns, int)
    assert isinstance(record.hash, bytes)
    return Head(position=record.position, hash=record.hash, recorded_ns=record.recorded_ns)


def test_a_sound_log() -> None:
    records = kept_records()
    audited = audit(records)
    found = audited.conclude()
    assert found.is_sound
    assert (found.records, found.head) == (4, head_of(records[-1]))
    assert audited.last_on == {"t1": 1, "t2": 2, "t3": 3, "t4": 4}


def test_an_empty_log() -> None:
    assert Audit().conclude().head == Head(position=0, hash=GENESIS, recorded_ns=0)


def test_a_record_whose_payload_was_taken_out() -> None:
    records = kept_records()
    document = records[1].document
    assert isinstance(document, bytes)
    without = document[: cut(document)] + b"}"
    records[1] = records[1]._replace(document=without, redacted=payload_hash(document))
    assert audit(records).conclude().is_sound


OTHER_HASH = bytes(31) + b"\x01"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"position": 3}, "position 2 is missing"),
        ({"position": None}, "position 2 is missing"),
        ({"position": 2.0}, "position 2 is missing"),
        ({"recorded_ns": 9}, "time is before"),
        ({"recorded_ns": 21}, "hash does not follow"),
        ({"recorded_ns": 20.0}, "wrong type"),
        ({"topic": "t1"}, "filed under"),
        ({"topic": None}, "filed under"),
        ({"id": "other"}, "filed under"),
        ({"source": "other"}, "filed under"),
        ({"hash": OTHER_HASH}, "hash does not follow"),
        ({"hash": None}, "hash does not follow"),
        ({"redacted": OTHER_HASH}, "holds a payload, and the hash"),
        ({"redacted": b""}, "is no hash"),
        ({"redacted": 0}, "is no hash"),
        ({"document": None}, "wrong type"),
        ({"document": b""}, "no JSON object"),
        ({"document": b'{"id":"1"} '}, "no JSON object"),
        ({"document": b'{"id":"1"}'}, "hash does not follow"),
    ],
    ids=str,
)
def test_the_first_contradiction_is_reported(damage: dict[str, Any], problem: str) -> None:
    records = kept_records()
    records[1] = records[1]._replace(**damage)
    found = audit(records).conclude()
    assert found.problem is not None
    assert problem in found.problem
    assert (found.position, found.head.position) == (2, 1)


def test_a_document_that_was_replaced_with_its_hash() -> None:
    """Whoever rewrites a record must rewrite all that follow, and then the head differs."""
    records = kept_records(1)
    document = b'{"specversion":"1.0"}'
    forged = records[0]._replace(document=document, hash=link(GENESIS, 1, 10, document))
    assert "cannot be read" in (audit([forged]).conclude().problem or "")


def test_a_log_that_reaches_the_expected_head() -> None:
    records = kept_records()
    for record in records:
        assert audit(records, head_of(record)).conclude().is_sound
    assert audit(records, Head(position=0, hash=GENESIS, recorded_ns=0)).conclude().is_sound


def test_a_log_that_lost_its_end() -> None:
    records = kept_records()
    found = audit(records[:2], head_of(records[3])).conclude()
    assert found.position == 3
    assert "the last 2 records are lost" in (found.problem or "")


def test_a_log_that_was_rewritten() -> None:
    expected = head_of(kept_records()[1])
    found = audit(kept_records(), expected).conclude()
    assert found.position == 2
    assert "rewritten" in (found.problem or "")


def test_an_empty_log_with_another_beginning() -> None:
    found = Audit(Head(position=0, hash=OTHER_HASH, recorded_ns=0)).conclude()
    assert not found.is_sound


def test_what_was_found_elsewhere_counts_unless_something_came_before() -> None:
    audited = audit(kept_records())
    audited.report("first", 7)
    audited.report("second", 8)
    assert (audited.conclude().problem, audited.conclude().position) == ("first", 7)
