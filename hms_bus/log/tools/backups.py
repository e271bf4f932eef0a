"""Copying a log that is in use, whole and proven."""

import sqlite3
from contextlib import closing
from pathlib import Path

from hms_bus.abc import Verification
from hms_bus.errors import LogCorruptError
from hms_bus.log.audit import Audit
from hms_bus.log.checking import audit_page
from hms_bus.log.reader import connect_read_only
from hms_bus.log.tools.rows import (
    check_free,
    make_file,
    making_failed,
    partial_of,
    publish,
    removed_on_failure,
)
from hms_bus.log.tools.steps import Report, silent
from hms_bus.log.tools.stored import open_source

_PAGES_AT_ONCE = 1024
_RECORDS_AT_ONCE = 2000


def back_up(
    path: Path, target: Path, *, copying: Report = silent, verifying: Report = silent
) -> Verification:
    """Copy the log `path` as it is now to a new file, durables and all, and verify the copy.

    Others may read and write it meanwhile: the copy is one view of it. `copying` is told pages,
    `verifying` records. Either the whole, sound copy is there at the end or nothing. Blocks. Raises
    `UsageError` when `target` exists, `LogCorruptError` when the log is not sound, `LogError`.
    """
    check_free(target)
    partial = partial_of(target)
    try:
        with removed_on_failure(partial):
            _copy(path, partial, target, copying)
            found = _verify(partial, verifying)
            if not found.is_sound:
                raise LogCorruptError(
                    f"log {path} is not sound ({found.problem}), nothing was written: "
                    f"`hms-bus log recover {path} -o NEW` saves what can be proven",
                    path=str(path),
                    position=found.position,
                )
            publish(partial, target)
    except (sqlite3.Error, OSError) as error:
        raise making_failed(error, target) from error
    return found


def _copy(path: Path, partial: Path, target: Path, report: Report) -> None:
    with open_source(path) as source:
        try:
            make_file(partial, [source.path])
            with closing(sqlite3.connect(partial)) as copy:
                # In one read transaction: otherwise the copying begins anew with each commit of the
                # writer.
                source.connection.execute("BEGIN")
                source.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                source.connection.backup(
                    copy,
                    pages=_PAGES_AT_ONCE,
                    progress=lambda _, remaining, total: report(total - remaining, total),
                    sleep=0,
                )
                source.connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as error:
            raise making_failed(error, target) from error


def _verify(partial: Path, report: Report) -> Verification:
    audit = Audit()
    with closing(connect_read_only(partial, busy_s=0, immutable=True)) as connection:
        is_last = False
        while not is_last:
            total, is_last = audit_page(connection, audit, _RECORDS_AT_ONCE)
            report(audit.records, total)
    return audit.conclude()
