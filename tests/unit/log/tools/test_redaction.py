"""`redact_log`: the payload is gone from the disk, the chain holds, and the log says who did it."""

import asyncio
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from hms_bus import new_envelope
from hms_bus.abc import Selector
from hms_bus.errors import (
    LogCorruptError,
    LogError,
    LogLockedError,
    LogReadOnlyError,
    UsageError,
)
from hms_bus.log.tools import redact_log
from hms_bus.plugins import open_log
from tests.support.tool_logs import fill, numbered, raising, records, verify

SECRET = "correct horse battery staple"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Five records, the third with a secret, the fourth without a payload."""
    return fill(
        tmp_path / "run.db",
        [
            *numbered(2),
            new_envelope("patients.7.seen", {"secret": SECRET}, source="/desk", id="seen"),
            new_envelope("patients.7.left", source="/desk", id="left"),
            *numbered(1, first=3),
        ],
    )


def test_the_payload_goes_and_the_chain_stays(log: Path) -> None:
    before = records(log)
    done = redact_log(log, Selector(), positions=[3], by="/ada", reason="request 42")
    assert done.positions == (3,)
    assert done.payload_bytes == len('"data":{"secret":""},') + len(SECRET)
    after = records(log)
    assert [one.hash for one in after[:5]] == [one.hash for one in before]
    assert verify(log).head == done.head
    assert SECRET.encode() not in after[2].document
    assert json.loads(after[2].document)["topic"] == "patients.7.seen"


def test_nothing_of_it_stays_on_the_disk(log: Path) -> None:
    fill(log, [new_envelope("patients.7.file", SECRET + "x" * 30_000, source="/desk")])
    done = redact_log(log, Selector(pattern="patients.>"), by="/ada")
    assert done.is_erased
    assert done.positions == (3, 6)
    for file in log.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()
        assert b"xxxxxxxx" not in file.read_bytes()


def test_while_somebody_reads_it_says_that_the_payload_is_still_there(log: Path) -> None:
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        assert not redact_log(log, Selector(), positions=[3], by="/ada").is_erased
    fill(log, numbered(1, first=4))
    for file in log.parent.iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_who_did_it_and_why_stands_in_the_log(log: Path) -> None:
    redact_log(log, Selector(), ids=["seen"], by="/ada", reason="request 42")
    last = records(log)[-1]
    assert (last.position, last.topic, last.source) == (6, "$log.redacted", "/ada")
    assert json.loads(last.document)["data"] == {
        "positions": [3],
        "reason": "request 42",
        "by": "/ada",
    }


def test_many_positions_take_more_than_one_record(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(1500))
    assert len(redact_log(log, Selector(pattern=">"), by="/ada").positions) == 1500
    notes = [json.loads(one.document)["data"]["positions"] for one in records(log)[1500:]]
    assert [len(positions) for positions in notes] == [1000, 500]
    assert [n for positions in notes for n in positions] == [*range(1, 1501)]
    assert verify(log).is_sound


def test_what_has_no_payload_is_passed_over(log: Path) -> None:
    assert redact_log(log, Selector(), ids=["left"], by="/ada").positions == ()
    assert verify(log).records == 5
    redact_log(log, Selector(), positions=[3], by="/ada")
    assert redact_log(log, Selector(), positions=[3], by="/ada").positions == ()
    assert verify(log).records == 6
    assert redact_log(log, Selector(pattern="$log.>"), by="/ada").positions == ()


def test_conditions_narrow_what_is_named(log: Path) -> None:
    done = redact_log(log, Selector(pattern="patients.>"), positions=[1, 2, 3], by="/ada")
    assert done.positions == (3,)
    assert redact_log(log, Selector(first=2, last=4), by="/ada").positions == (2,)


def test_a_trial_changes_nothing(log: Path) -> None:
    before = records(log)
    done = redact_log(log, Selector(pattern="patients.>"), by="/ada", is_trial=True)
    assert done.positions == (3,)
    assert records(log) == before


def test_the_log_must_have_no_other_writer(log: Path) -> None:
    async def while_open() -> None:
        async with open_log(f"sqlite:{log}"):
            with pytest.raises(LogLockedError):
                await asyncio.to_thread(redact_log, log, Selector(), positions=[3], by="/ada")

    asyncio.run(while_open())
    assert records(log)[2].payload_hash is None


def test_what_is_not_there_is_refused(log: Path) -> None:
    with pytest.raises(UsageError, match="position 6"):
        redact_log(log, Selector(), positions=[3, 6], by="/ada")
    with pytest.raises(UsageError, match="'nobody'"):
        redact_log(log, Selector(), ids=["seen", "nobody"], by="/ada")
    with pytest.raises(LogError, match="no log"):
        redact_log(log.with_name("none.db"), Selector(), positions=[3], by="/ada")
    assert not log.with_name("none.db").exists()
    assert verify(log).records == 5


def test_a_record_that_is_not_sound_is_not_covered_up(log: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute(
            "UPDATE records SET document = replace(document, 'horse', 'mouse') WHERE position = 3"
        )
    with pytest.raises(LogCorruptError, match="position 3"):
        redact_log(log, Selector(), positions=[3], by="/ada")


def test_a_full_disk_is_no_failure_to_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite may write out what has changed when the next record is read."""

    class Full(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "ORDER BY position LIMIT" in sql:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(sql, parameters)

    before = records(log)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Full))
        with pytest.raises(LogReadOnlyError, match=r"a write failed .*disk is full"):
            redact_log(log, Selector(), positions=[3], by="/ada")
    assert records(log) == before


def test_work_that_is_interrupted_changes_nothing(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(1500))
    before = records(log)
    with pytest.raises(KeyError):
        redact_log(log, Selector(pattern=">"), by="/ada", report=raising(KeyError()))
    assert records(log) == before


async def test_a_redacted_record_is_read_without_a_payload(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append([new_envelope("a", {"secret": 1}, source="/x")])
    await asyncio.to_thread(redact_log, path, Selector(), positions=[1], by="/ada")
    async with open_log(f"sqlite:{path}") as log:
        [first, note] = [record async for record in log.read(Selector())]
        assert first.envelope.data is UNSET
        assert note.envelope.topic == "$log.redacted"
        assert (await log.append([new_envelope("a", 2, source="/x")]))[0].position == 3
        assert (await log.verify()).is_sound
