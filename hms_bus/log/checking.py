"""Feeding an audit from a log file: every column of every record, then what finds the records."""

import sqlite3

from hms_bus.log.audit import Audit, Kept

_ANY_POSITION = -(2**63)

# A reader with bytes for texts cannot tell TEXT from BLOB, so that the statement must: a value of
# the wrong type comes as NULL, or as 0 where NULL is allowed.
_PAGE = """
SELECT position, recorded_ns, topics.name, CASE typeof(records.id) WHEN 'text' THEN records.id END,
       sources.name, CASE typeof(hash) WHEN 'blob' THEN hash END,
       CASE typeof(payload_hash) WHEN 'blob' THEN payload_hash WHEN 'null' THEN NULL ELSE 0 END,
       CASE typeof(document) WHEN 'text' THEN document END
FROM records LEFT JOIN topics ON topics.id = topic LEFT JOIN sources ON sources.id = source
WHERE position > ? ORDER BY position LIMIT ?
"""


def audit_page(connection: sqlite3.Connection, audit: Audit, limit: int) -> tuple[int, bool]:
    """Feed up to `limit` records; return how many there are, and whether these were the last.

    After the last ones the whole file is checked, all in one view.
    """
    try:
        [total] = connection.execute("SELECT coalesce(max(position), 0) FROM records").fetchone()
        count = 0
        for row in connection.execute(_PAGE, (audit.position or _ANY_POSITION, limit)):
            audit.feed(_kept(row))
            if audit.has_problem:
                return total, True
            count += 1
        if count == limit:
            return total, False
        _check_topics(connection, audit)
        _check_pages(connection, audit)
    except sqlite3.Error as error:
        audit.report(f"the file is damaged: {error}", audit.position + 1)
        return audit.position, True
    return total, True


def _kept(row: tuple[object, ...]) -> Kept:
    position, recorded_ns, topic, id_, source, hash_, redacted, document = row
    return Kept(
        position, recorded_ns, _text(topic), _text(id_), _text(source), hash_, redacted, document
    )


def _text(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _check_topics(connection: sqlite3.Connection, audit: Audit) -> None:
    for name, last in connection.execute("SELECT name, last FROM topics"):
        if audit.last_on.pop(str(_text(name)), None) != last:
            audit.report(f"the last position of topic {_text(name)!r} is wrong", None)


def _check_pages(connection: sqlite3.Connection, audit: Audit) -> None:
    """Let SQLite compare pages and indexes: a damaged index would let a duplicate in."""
    [found] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != b"ok":
        audit.report(f"the file is damaged: {_text(found)}", None)
