"""Looking a log file over: what is wrong or unusual, and what to do about it."""

import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

from msgspec import Struct

from hms_bus.filelock import is_held, read_holder
from hms_bus.ids import format_time
from hms_bus.log.audit import Audit
from hms_bus.log.checking import audit_page
from hms_bus.log.failures import APPLICATION_ID, SQLITE_MAGIC
from hms_bus.log.file import find_file
from hms_bus.log.lock import lock_path
from hms_bus.log.reader import connect_read_only
from hms_bus.log.schema import CURRENT
from hms_bus.log.settings import Settings
from hms_bus.log.tools.remains import open_remains
from hms_bus.log.tools.steps import Report, silent
from hms_bus.log.tools.walfile import read_wal

Level = Literal["note", "problem"]

_RECORDS_AT_ONCE = 2000
_LISTED = 10
_NAMES = {"records", "records_by_id", "sources", "topics"}
_SLACK_NS = 60 * 10**9
_LARGE_WAL = 64 * 2**20
_MANY_FREE = 4  # a quarter of the pages
_STEPS_PER_REPORT = 1_000_000


class Finding(Struct, frozen=True, kw_only=True):
    """Something wrong (`problem`) or unusual (`note`), and the next step."""

    level: Level
    check: str
    message: str
    next: str


class Checkup(Struct, frozen=True, kw_only=True):
    """What a look over a log has found. Sizes are in bytes; `records` were read and are sound.

    With a problem of the `format` no record was looked at.
    """

    path: str
    file_bytes: int
    wal_bytes: int
    records: int
    head: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether there is no problem."""
        return all(finding.level == "note" for finding in self.findings)

    @property
    def is_read(self) -> bool:
        """Whether the records were looked at."""
        return all(finding.check != "format" for finding in self.findings)


def examine(path: Path, report: Report = silent) -> Checkup:
    """Look over the log file `path`, which is only read; also while another process writes it.

    `report` is told records. Blocks. Raises `LogError` when there is no such file, or it may not be
    read; `OSError` when it cannot be.
    """
    path = find_file(Settings(path=path, is_read_only=True))
    findings = [*_around(path)]
    audit = Audit()
    header = _read_header(path)
    fatal = [*_header_problems(path, header)]
    findings += fatal
    if not any(finding.check == "format" for finding in fatal):
        findings += _inside(path, audit, report)
    found = audit.conclude()
    return Checkup(
        path=str(path),
        file_bytes=path.stat().st_size,
        wal_bytes=_size(_beside(path, "-wal")),
        records=found.head.position,
        head=found.head.hash.hex(),
        findings=tuple(findings),
    )


def _note(check: str, message: str, step: str) -> Finding:
    return Finding(level="note", check=check, message=message, next=step)


def _problem(check: str, message: str, step: str) -> Finding:
    return Finding(level="problem", check=check, message=message, next=step)


def _recover(path: Path) -> str:
    name = shlex.quote(str(path))
    return f"hms-bus log recover {name} -o NEW saves what can be proven; or restore a copy"


def _around(path: Path) -> Iterator[Finding]:
    """Look at the files beside the log, and at the room for them."""
    yield from _lock(path)
    yield from _wal(path)
    for left in sorted(path.parent.iterdir()):
        if left.name.startswith(f".{path.name}.") or left.name.startswith(f"..{path.name}."):
            yield _note("leftover", f"{left.name} is left of work that was killed", f"rm {left}")
        if left.name.startswith(f"{path.name}.v") and left.name.endswith(".bak"):
            yield _note("leftover", f"{left.name} is the copy before a migration", f"rm {left}")
    free = shutil.disk_usage(path.parent).free
    if free < path.stat().st_size // 10:
        yield _note(
            "disk",
            f"the disk has {_count(free, 'byte')} left, less than a tenth of the log",
            "make room, before the log turns read-only",
        )
    if not os.access(path, os.W_OK):
        yield _note("permission", "the file may be read only", "change its owner or mode to append")


def _wal(path: Path) -> Iterator[Finding]:
    wal_path = _beside(path, "-wal")
    size = _size(wal_path)
    if is_held(lock_path(path)):
        if size > _LARGE_WAL:
            yield _note(
                "wal",
                f"{wal_path.name} has grown to {_count(size, 'byte')}: programs that read for long "
                "in one go keep the writer from beginning it anew, or a lot was appended at once",
                "end such programs, if there are any; it is removed when the writer ends",
            )
        return
    if not size:
        return
    wal = read_wal(wal_path)
    if wal.dropped:
        yield _problem(
            "wal",
            f"{wal_path.name} is damaged, or commits in it did not reach the disk whole: the next "
            f"opening drops {_count(len(wal.dropped), 'frame')}, and the records in them",
            f"before anybody opens it for writing: {_recover(path)}",
        )
        return
    yield _note(
        "wal",
        f"nobody writes, and {_count(size, 'byte')} are left in {wal_path.name} with "
        f"{_count(len(wal.committed), 'page')} that may not be in the file yet: a writer was "
        "killed, maybe in the middle of a commit, or somebody reads",
        f"keep {wal_path.name} with the file; the next opening for writing takes it in",
    )


def _lock(path: Path) -> Iterator[Finding]:
    lock = lock_path(path)
    if not lock.exists():
        return
    if is_held(lock):
        yield _note("lock", f"it is open for writing by {read_holder(lock)}", "nothing to do")
    else:
        yield _note(
            "lock",
            f"{lock.name} is left by {read_holder(lock)}, which was killed",
            "nothing to do: it locks nobody out, and the next writer takes it over",
        )


def _read_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100)


def _header_problems(path: Path, header: bytes) -> Iterator[Finding]:
    if problem := _format_problem(header):
        yield _problem("format", *_left_without_header(path, problem))
        return
    size, stated = path.stat().st_size, int.from_bytes(header[16:18])
    page_bytes = 65536 if stated == 1 else stated
    pages = int.from_bytes(header[28:32])
    # With a WAL the header in the file may be older than its length.
    if size < pages * page_bytes and not _size(_beside(path, "-wal")):
        yield _problem(
            "truncated",
            f"the file has {size} bytes, its header says {pages * page_bytes}: it was cut off",
            _recover(path),
        )
    elif page_bytes and size % page_bytes:
        yield _problem("truncated", "the file ends in the middle of a page", _recover(path))


def _format_problem(header: bytes) -> str | None:
    if not header:
        return "the file is empty"
    if not header.startswith(SQLITE_MAGIC) or len(header) < 100:  # noqa: PLR2004 - the header's size
        return "the file does not begin as a SQLite file does"
    if header[68:72] != APPLICATION_ID.to_bytes(4):
        return "it is a database of another program"
    return None


def _left_without_header(path: Path, problem: str) -> tuple[str, str]:
    """Return what is the matter with a file that does not say that it is a log, and what to do."""
    with open_remains(path) as remains:
        if remains.has_rows():
            return f"{problem}, but there are records of a log in it", _recover(path)
    step = "give the name of a log; restore a copy if this was one"
    return f"{problem}, and no record of a log is in it", step


def _inside(path: Path, audit: Audit, report: Report) -> Iterator[Finding]:
    seen: set[str] = set()
    try:
        immutable = not os.access(path.parent, os.W_OK) and not _beside(path, "-wal").exists()
        with closing(connect_read_only(path, busy_s=5, immutable=immutable)) as connection:
            for check in (
                _version(connection, path),
                _schema(connection, path),
                _pages(connection, path, report),
                _chain(connection, path, audit, report),
                _positions(connection, path),
                _contents(connection),
            ):
                yield from _unless_damaged(check, path, seen)
    except sqlite3.Error as error:
        yield _problem("pages", f"the file is damaged: {error}", _recover(path))


def _unless_damaged(check: Iterator[Finding], path: Path, seen: set[str]) -> Iterator[Finding]:
    """Yield what `check` finds, also when it cannot go on; the same damage once."""
    try:
        yield from check
    except sqlite3.Error as error:
        if str(error) not in seen:
            seen.add(str(error))
            yield _problem("pages", f"the file is damaged: {error}", _recover(path))


def _version(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > CURRENT.version:
        yield _problem(
            "version",
            f"it has schema version {version}, this release knows up to {CURRENT.version}",
            "upgrade hms-bus",
        )
    elif version < CURRENT.version:
        yield _problem(
            "version",
            f"it has schema version {version}, this release reads {CURRENT.version}",
            "open it once for writing, which migrates it after a copy",
        )
    [mode] = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != b"wal":
        yield _note(
            "journal",
            f"its journal mode is {_text(mode)}, not wal: another program has changed it",
            f"the next opening for writing sets it; do not write {path.name} with other programs",
        )


def _schema(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    there = {_text(name) for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for name in sorted(_NAMES - there):
        yield _problem("schema", f"the table or index {name} is missing", _recover(path))


def _pages(connection: sqlite3.Connection, path: Path, report: Report) -> Iterator[Finding]:
    stopped: list[BaseException] = []

    def tick() -> int:
        try:
            report(0, None)
        except BaseException as error:  # noqa: BLE001 - SQLite would swallow it
            stopped.append(error)
        return len(stopped)

    connection.set_progress_handler(tick, _STEPS_PER_REPORT)
    try:
        rows = connection.execute(f"PRAGMA integrity_check({_LISTED})").fetchall()
    except sqlite3.Error:
        for error in stopped:
            raise error from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    for (found,) in rows:
        if found != b"ok":
            yield _problem("pages", f"the file is damaged: {_text(found)}", _recover(path))
    [free] = connection.execute("PRAGMA freelist_count").fetchone()
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    if free * _MANY_FREE > pages:
        yield _note(
            "space", f"{free} of {pages} pages are empty", "nothing to do: the log fills them again"
        )


def _chain(
    connection: sqlite3.Connection, path: Path, audit: Audit, report: Report
) -> Iterator[Finding]:
    is_last = False
    while not is_last:
        total, is_last = audit_page(connection, audit, _RECORDS_AT_ONCE)
        report(audit.records, total)
    found = audit.conclude()
    if found.problem is not None:
        where = "" if found.position is None else f"at position {found.position}: "
        yield _problem("chain", f"{where}{found.problem}", _recover(path))


def _positions(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    gaps = connection.execute(
        "SELECT before + 1, position - 1 FROM (SELECT position, lag(position, 1, 0) OVER "
        "(ORDER BY position) AS before FROM records) WHERE position <> before + 1 LIMIT ?",
        (_LISTED,),
    ).fetchall()
    for first, last in gaps:
        yield _problem("gap", f"positions {first} to {last} are missing", _recover(path))


def _contents(connection: sqlite3.Connection) -> Iterator[Finding]:
    [redacted, latest] = connection.execute(
        "SELECT count(payload_hash), max(recorded_ns) FROM records"
    ).fetchone()
    if redacted:
        yield _note(
            "redacted",
            f"{_count(redacted, 'record')} had the payload taken out",
            "nothing to do: hms-bus log cat LOG --topic '$log.redacted' tells who did it, and why",
        )
    if type(latest) is int and latest > time.time_ns() + _SLACK_NS:
        yield _note(
            "time",
            f"the last record is from {format_time(latest)}, which is in the future",
            "set the clock; new records get that time until it has come",
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
