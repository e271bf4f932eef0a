"""What the writer of a file knows: against a model, for any ids, over restarts."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.log import ledger as ledger_module
from hms_bus.log.admission import admit
from hms_bus.log.audit import Audit
from hms_bus.log.checking import audit_page
from hms_bus.log.documents import Entry
from hms_bus.log.ledger import SqliteLedger
from hms_bus.log.schema import prepare_file

ids = st.sampled_from(["", "a", "ab", "b", "ü", "\U0001f600", "~", "01a1", "01a2", "ff"]) | st.text(
    st.characters(codec="utf-8"), max_size=2
)
entries = st.builds(
    Entry,
    id=ids,
    source=st.sampled_from(["s", "t", "u"]),
    topic=st.sampled_from(["x", "x.y", "z"]),
    document=st.just(b"{}"),
)
# A transaction of batches, or None for a restart.
steps = st.lists(st.none() | st.lists(st.lists(entries, max_size=4), max_size=4), max_size=8)


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare_file(connection, Path("unused"))
    return connection


@given(steps=steps)
def test_it_finds_what_the_whole_history_holds_and_nothing_else(
    steps: list[list[list[Entry]] | None],
) -> None:
    with closing(connect()) as connection:
        ledger = SqliteLedger(connection, "events.db")
        known: dict[tuple[str, str], int] = {}
        last_on: dict[str, int] = {}
        for step in steps:
            if step is None:
                ledger = SqliteLedger(connection, "events.db")
                continue
            connection.execute("BEGIN")
            for batch in step:
                receipts, fresh = admit(batch, "any", ledger, ledger.position)
                for entry in fresh:
                    ledger.add(entry, 1)
                    known[entry.source, entry.id] = ledger.position
                    last_on[entry.topic] = ledger.position
                expected = [known[entry.source, entry.id] for entry in batch]
                assert [receipt.position for receipt in receipts] == expected
                assert sum(not receipt.duplicate for receipt in receipts) == len(fresh)
                for topic in ("x", "x.y", "z"):
                    assert ledger.last_on(topic) == last_on.get(topic, 0)
            ledger.flush()
            connection.execute("COMMIT")
            ledger.settle()
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (len(known),)


def test_topics_and_sources_that_it_has_forgotten_are_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_CACHED", 3)
    with closing(connect()) as connection:
        ledger = SqliteLedger(connection, "events.db")
        for n in range(40):
            connection.execute("BEGIN")
            ledger.add(Entry(f"{n}", f"s{n % 8}", f"t{n % 9}", b"{}"), 1)
            ledger.flush()
            connection.execute("COMMIT")
            ledger.settle()
        for n in range(40):
            assert ledger.find(f"s{n % 8}", f"{n}") == n + 1
            assert ledger.find(f"s{(n + 1) % 8}", f"{n}") is None
        assert [ledger.last_on(f"t{n}") for n in range(9)] == [37, 38, 39, 40, 32, 33, 34, 35, 36]


def test_a_batch_of_any_size_is_written_whole() -> None:
    for size in (0, 1, 63, 64, 65, 128, 200):
        with closing(connect()) as connection:
            ledger = SqliteLedger(connection, "events.db")
            for n in range(size):
                ledger.add(Entry(f"{n}", "s", f"t{n % 70}", b"{}"), 1)
            ledger.flush()
            rows = connection.execute("SELECT position, id FROM records ORDER BY 1").fetchall()
            assert rows == [(n + 1, f"{n}") for n in range(size)]
            assert SqliteLedger(connection, "events.db").head() == ledger.head()


def test_names_of_a_refused_batch_leave_no_trace() -> None:
    with closing(connect()) as connection:
        ledger = SqliteLedger(connection, "events.db")
        assert ledger.find("never", "x") is None
        assert ledger.last_on("never") == 0
        ledger.add(Entry("a", "s", "t", b"{}"), 1)
        ledger.flush()
        assert connection.execute("SELECT name FROM topics").fetchall() == [("t",)]
        assert connection.execute("SELECT name FROM sources").fetchall() == [("s",)]
        audit = Audit()
        connection.text_factory = bytes
        audit_page(connection, audit, 10)
        assert audit.records == 1


def test_ids_of_sources_that_were_never_looked_up_are_found_after_it_has_forgotten_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_CACHED", 2)
    with closing(connect()) as connection:
        append(SqliteLedger(connection, "events.db"), connection, Entry("zzz", "old", "t", b"{}"))
        ledger = SqliteLedger(connection, "events.db")
        for n in range(4):
            append(ledger, connection, Entry(f"a{n}", f"new{n}", "t", b"{}"))
        assert ledger.find("old", "zzz") == 1


def append(ledger: SqliteLedger, connection: sqlite3.Connection, entry: Entry) -> None:
    connection.execute("BEGIN")
    ledger.add(entry, 1)
    ledger.flush()
    connection.execute("COMMIT")
    ledger.settle()
