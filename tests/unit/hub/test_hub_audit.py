"""The hub's record of refusals: what stands in it, what bounds it, and that it is no danger."""

import asyncio
import json
import logging
import os
import resource
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hms_bus.hub.audit import MAX_WAITING, Audit, AuditFile, Line
from hms_bus.hub.refusals import MAX_TOPICS, Refusal
from hms_bus.ids import parse_time
from tests.support.programs import run_program

DENIED = Refusal(
    what="denied",
    reason="no right to publish there",
    client=3,
    name="scout",
    pid=41,
    uid=1000,
    token="till",
    topic="payments.eu",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.audit.jsonl"


@pytest.fixture
def make() -> Iterator[Callable[..., Audit]]:
    """Make audits that are closed when the test is over."""
    made: list[Audit] = []

    def make_one(path: Path | None, **options: Any) -> Audit:
        made.append(Audit(path, hub="shop", **options))
        return made[-1]

    yield make_one
    for audit in made:
        audit.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does; the test's own timeout bounds it."""
    while not condition():
        time.sleep(0.002)


def has_lines(path: Path, number: int) -> bool:
    return path.exists() and path.read_text().count("\n") >= number


# -- what stands in it ---------------------------------------------------------------------------


def test_a_refusal_is_a_line_of_json(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)
    before = time.time_ns()
    audit.refuse(DENIED)
    audit.close()
    [line] = lines_of(path)
    assert before <= parse_time(line.pop("time")) <= time.time_ns()
    assert line == {
        "hub": "shop",
        "what": "denied",
        "reason": "no right to publish there",
        "client": 3,
        "name": "scout",
        "pid": 41,
        "uid": 1000,
        "token": "till",
        "topic": "payments.eu",
    }


def test_what_is_not_known_is_left_out(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)
    audit.refuse(Refusal(what="peer", reason="user 7 is not allowed here", uid=7))
    audit.close()
    [line] = lines_of(path)
    assert set(line) == {"time", "hub", "what", "reason", "uid"}


def test_it_is_written_without_being_asked_to(path: Path, make: Callable[..., Audit]) -> None:
    make(path).refuse(DENIED)
    wait_until(lambda: has_lines(path, 1))


def test_repetitions_are_counted(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)
    for _ in range(1000):
        audit.refuse(DENIED)
    audit.close()
    first, later = lines_of(path)
    assert "repeated" not in first
    assert later.pop("repeated") == 999
    assert later.pop("time") >= first.pop("time")
    assert later == first


def test_the_count_is_told_while_the_hub_runs(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path, repeat_s=0.01)
    audit.refuse(DENIED)
    audit.refuse(DENIED)
    wait_until(lambda: has_lines(path, 2))
    assert lines_of(path)[1]["repeated"] == 1


def test_who_tries_every_topic_cannot_fill_the_file(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)
    for number in range(5000):
        audit.refuse(Refusal(what="denied", reason="no", client=3, topic=f"t.{number}"))
    audit.close()
    lines = lines_of(path)
    assert len(lines) == MAX_TOPICS + 2
    assert sum(1 + line.get("repeated", 0) for line in lines) == 5000 + 1
    assert "topic" not in lines[-1]


def test_what_a_client_calls_itself_breaks_no_line(
    path: Path, make: Callable[..., Audit], caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(path)
    forged = 'x"}\n{"what": "forged"}\r\n\x1b[31m\ud800' + "y" * 10_000
    audit.refuse(Refusal(what="denied", reason=forged, client=1, name=forged, topic=forged))
    audit.close()
    [line] = lines_of(path)
    assert line["name"].startswith('x"}\n{"what"')
    assert len(line["name"]) == 300
    [record] = caplog.records
    assert record.getMessage().isprintable()


# -- the logger ----------------------------------------------------------------------------------


def test_every_line_goes_to_the_log_too(
    path: Path, make: Callable[..., Audit], caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(path)
    for _ in range(3):
        audit.refuse(DENIED)
    audit.close()
    assert [(record.name, record.levelname) for record in caplog.records] == 2 * [
        ("hms_bus.hub", "WARNING")
    ]
    first, later = caplog.messages
    assert first == (
        "hub 'shop' refused (denied; client 3, name 'scout', pid 41, uid 1000, token 'till', "
        "topic 'payments.eu'): 'no right to publish there'"
    )
    assert later.startswith("hub 'shop' refused 2 more times (denied; ")


def test_without_a_file_there_is_the_log(
    make: Callable[..., Audit], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(None)
    audit.refuse(DENIED)
    audit.refuse(DENIED)
    audit.close()
    assert len(caplog.messages) == 2
    assert list(tmp_path.iterdir()) == []


# -- the file ------------------------------------------------------------------------------------


def test_the_file_is_only_for_its_user(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)
    audit.refuse(DENIED)
    audit.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_can_read_is_closed_to_them(
    path: Path, make: Callable[..., Audit]
) -> None:
    path.touch(0o644)
    path.chmod(0o644)
    audit = make(path)
    audit.refuse(DENIED)
    audit.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_are_appended_to_those_of_earlier_hubs(
    path: Path, make: Callable[..., Audit]
) -> None:
    for topic in ("a", "b"):
        audit = make(path)
        audit.refuse(Refusal(what="denied", reason="no", topic=topic))
        audit.close()
    assert [line["topic"] for line in lines_of(path)] == ["a", "b"]


def test_half_a_line_of_a_hub_that_was_killed_does_not_swallow_the_next(
    path: Path, make: Callable[..., Audit]
) -> None:
    path.write_text('{"time":"2026-')
    audit = make(path)
    audit.refuse(DENIED)
    audit.close()
    half, whole = path.read_text().splitlines()
    assert half == '{"time":"2026-'
    assert json.loads(whole)["what"] == "denied"


def test_a_full_file_is_renamed_and_the_one_before_is_gone(
    path: Path, make: Callable[..., Audit]
) -> None:
    audit = make(path, max_bytes=2000)
    for number in range(60):
        audit.refuse(Refusal(what="denied", reason="no", client=number, topic="payments.eu"))
    audit.close()
    before = path.with_name(f"{path.name}.1")
    assert sorted(path.parent.iterdir()) == [path, before]
    assert path.stat().st_size <= 2000
    assert 1500 < before.stat().st_size <= 2000
    clients = [line["client"] for line in lines_of(before) + lines_of(path)]
    assert clients == list(range(60 - len(clients), 60)), "the newest, in order"
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, before)} == {0o600}


def test_a_line_that_is_longer_than_the_limit_is_written_all_the_same(
    path: Path, make: Callable[..., Audit]
) -> None:
    audit = make(path, max_bytes=10)
    for client in (1, 2):
        audit.refuse(Refusal(what="denied", reason="no", client=client))
    audit.close()
    assert [line["client"] for line in lines_of(path)] == [2]


def delete(file: Path) -> None:
    file.unlink()


def rename(file: Path) -> None:
    file.rename(f"{file}.9")


@pytest.mark.parametrize("take", [delete, rename])
def test_a_file_that_was_taken_away_is_begun_anew(
    path: Path, make: Callable[..., Audit], take: Callable[[Path], object]
) -> None:
    audit = make(path)
    audit.refuse(DENIED)
    wait_until(lambda: has_lines(path, 1))
    take(path)
    audit.refuse(Refusal(what="denied", reason="no", topic="other"))
    audit.close()
    assert [line["topic"] for line in lines_of(path)] == ["other"]


# -- what goes wrong -----------------------------------------------------------------------------


def line(client: int) -> Line:
    return Line(time="2026-01-31T12:00:00Z", hub="shop", what="denied", reason="no", client=client)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def test_a_file_that_cannot_be_written_is_told_once(
    path: Path, make: Callable[..., Audit], caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(path / "no-such-folder" / "x")
    for client in range(20):
        audit.refuse(Refusal(what="denied", reason="no", client=client))
    audit.close()
    [told] = errors(caplog)
    assert "cannot write the audit file" in told
    assert "No such file or directory" in told
    assert len(caplog.messages) == 21, "the log has the refusals"


def test_a_file_that_can_be_written_again_says_how_much_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "late"
    file = AuditFile(folder / "audit.jsonl", max_bytes=10_000)
    file.write([line(1), line(2)])
    file.write([line(3)])
    folder.mkdir()
    file.write([line(4), line(5)])
    file.close()
    lost, *rest = lines_of(folder / "audit.jsonl")
    assert (lost["what"], lost["reason"]) == ("lost", "3 lines are missing here")
    assert [entry["client"] for entry in rest] == [4, 5]
    assert len(errors(caplog)) == 1


def make_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def make_folder(path: Path, target: Path) -> None:
    path.mkdir()


def make_pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("place", [make_link, make_folder, make_pipe])
def test_what_is_no_regular_file_is_not_written_to(
    path: Path,
    make: Callable[..., Audit],
    caplog: pytest.LogCaptureFixture,
    place: Callable[[Path, Path], object],
) -> None:
    target = path.with_name("somebody's")
    target.write_text("precious")
    place(path, target)
    audit = make(path)
    audit.refuse(DENIED)
    audit.close()
    assert target.read_text() == "precious"
    assert len(errors(caplog)) == 1


def test_a_file_that_cannot_be_renamed_grows_no_further(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.with_name(f"{path.name}.1").mkdir()
    file = AuditFile(path, max_bytes=300)
    for client in range(50):
        file.write([line(client)])
    file.close()
    assert path.stat().st_size <= 300
    assert len(errors(caplog)) == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from hms_bus.hub.audit import AuditFile, Line

def line(client):
    return Line(time="2026-01-31T12:00:00Z", hub="shop", what="denied", reason="no", client=client)

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

file = AuditFile(Path(sys.argv[1]), max_bytes=10_000)
allow(130)
file.write([line(1), line(2), line(3)])
allow(resource.RLIM_INFINITY)
file.write([line(4)])
file.close()
"""


def test_a_disk_that_is_full_in_the_middle_of_a_line(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "audit.jsonl"
    run = run_program([sys.executable, "-c", FULL_DISK, path], cwd=tmp_path)
    assert run.succeeded, run
    assert run.stderr.count("cannot write the audit file") == 1
    assert "File too large" in run.stderr
    first, half, lost, last = path.read_text().splitlines()
    assert json.loads(first)["client"] == 1
    assert len(first) + 1 + len(half) == 130
    assert json.loads(lost)["reason"] == "2 lines are missing here"
    assert json.loads(last)["client"] == 4


class Stuck(logging.Handler):
    """A log that takes nothing until it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck = threading.Event()
        self.go_on = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.is_stuck.set()
        self.go_on.wait()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    handler = Stuck()
    logger = logging.getLogger("hms_bus.hub")
    logger.addHandler(handler)
    yield handler
    handler.go_on.set()
    logger.removeHandler(handler)


async def test_the_hub_goes_on_while_nothing_can_be_written(
    path: Path, make: Callable[..., Audit], stuck: Stuck
) -> None:
    audit = make(path)
    audit.refuse(DENIED)
    stuck.is_stuck.wait()
    for client in range(MAX_WAITING + 500):
        audit.refuse(Refusal(what="denied", reason="no", client=client))
    stuck.go_on.set()
    await asyncio.to_thread(audit.close)
    lines = lines_of(path)
    assert len(lines) == 1 + MAX_WAITING + 1
    assert (lines[-1]["what"], lines[-1]["reason"]) == ("lost", "500 lines are missing here")


def test_many_threads_may_refuse(path: Path, make: Callable[..., Audit]) -> None:
    audit = make(path)

    def refuse(client: int) -> None:
        for _ in range(100):
            audit.refuse(Refusal(what="denied", reason="no", client=client))

    threads = [threading.Thread(target=refuse, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.close()
    assert sum(entry.get("repeated", 1) for entry in lines_of(path)) == 800


# -- the end -------------------------------------------------------------------------------------


def test_closing_again_and_refusing_afterwards_do_nothing(
    path: Path, make: Callable[..., Audit], caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(path)
    audit.refuse(DENIED)
    audit.close()
    audit.close()
    audit.refuse(Refusal(what="denied", reason="no", topic="late"))
    audit.close()
    assert len(lines_of(path)) == 1
    assert len(caplog.messages) == 1


def test_an_audit_without_refusals_leaves_no_file_and_no_thread(
    path: Path, make: Callable[..., Audit]
) -> None:
    make(path).close()
    assert not path.exists()
    assert not [thread for thread in threading.enumerate() if "audit" in thread.name]
