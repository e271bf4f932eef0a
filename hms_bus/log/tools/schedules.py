"""Which schedules a copy of logs has: those that are still to be sent.

That one was sent is known from the durable that settles schedules, which a copy does not have, and
from the message, which a copy may lack: there the schedule would be sent again.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from hms_bus.errors import BusError
from hms_bus.log.documents import read_document
from hms_bus.log.durable.saved import State
from hms_bus.log.durable.tables import load
from hms_bus.log.failures import read_failed
from hms_bus.log.tools.stored import Source, Stored
from hms_bus.schedules import SCHEDULER, TOPIC, Schedule

PREFIX = f"{TOPIC}."
_BEHIND = f"{TOPIC}/"  # `/` follows `.`
_LAST_ON_EACH = """
SELECT CAST(topics.name AS TEXT), CAST(sources.name AS TEXT), CAST(records.id AS TEXT)
FROM topics
JOIN records ON records.position = (
  SELECT max(position) FROM records WHERE topic = topics.id AND position BETWEEN 1 AND ?)
JOIN sources ON sources.id = records.source
WHERE topics.name >= ? AND topics.name < ?
"""
_RECORD = """
SELECT recorded_ns, position, CAST(document AS TEXT)
FROM records JOIN sources ON sources.id = records.source
WHERE records.id = ? AND sources.name = ? AND position BETWEEN 1 AND ?
"""


class Key(Struct, frozen=True, gc=False):
    """What a record is known by in every log."""

    source: str
    id: str


class Schedules:
    """The schedules of logs that are copied into one. Making it reads them. Raises `LogError`.

    Of each name the last record in the order of the copy is kept, unless one of the logs has
    settled it, or has the message that it sends.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._logs = [_Log(source) for source in sources]
        newest: dict[str, tuple[tuple[int, int, int], Key]] = {}
        for log in self._logs:
            for topic, key in log.last_on_each():
                place = min(
                    (recorded_ns, index, position)
                    for index, other in enumerate(self._logs)
                    for recorded_ns, position, _ in other.find(key)
                )
                newest[topic] = max(newest.get(topic, (place, key)), (place, key), key=_place)
        self._open = {key for _, key in newest.values() if not self._is_over(key)}

    def keeps(self, stored: Stored) -> bool:
        """Whether this is a schedule that is still to be sent."""
        return stored.topic.startswith(PREFIX) and Key(stored.source, stored.id) in self._open

    def drops(self, stored: Stored) -> bool:
        """Whether this is a schedule that was sent, ended or replaced."""
        return stored.topic.startswith(PREFIX) and Key(stored.source, stored.id) not in self._open

    def _is_over(self, key: Key) -> bool:
        for log in self._logs:
            for _, position, document in log.find(key):
                if log.has_settled(position):
                    return True
                message = _sent_once(document)
                if message is not None and any(other.find(message) for other in self._logs):
                    return True
        return False


def _place(found: tuple[tuple[int, int, int], Key]) -> tuple[int, int, int]:
    return found[0]


class _Log:
    """What one log says of schedules."""

    def __init__(self, source: Source) -> None:
        self._source = source
        try:
            saved = load(source.connection, SCHEDULER.name, path=str(source.path))
        except sqlite3.Error as error:
            raise read_failed(error, str(source.path)) from error
        self._floor = saved[0].floor if saved else 0
        self._states = {row.position: row.state for each in saved for row in each.rows}

    def has_settled(self, position: int) -> bool:
        """Whether the durable is done with a position."""
        if position in self._states:
            return self._states[position] in {State.DONE, State.DEAD}
        return position <= self._floor

    def last_on_each(self) -> Iterator[tuple[str, Key]]:
        """Yield the last record of each schedule."""
        for row in self._read(_LAST_ON_EACH, self._source.head.position, PREFIX, _BEHIND):
            topic, source, id_ = (name.decode(errors="replace") for name in row)
            key = Key(source, id_)
            if self.find(key):  # otherwise the log is damaged, which copying it will show
                yield topic, key

    def find(self, key: Key) -> list[Any]:
        """Return recorded time, position and document of a record, if the log has it."""
        return self._read(_RECORD, key.id, key.source, self._source.head.position)

    def _read(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._source.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise read_failed(error, str(self._source.path)) from error


def _sent_once(document: bytes) -> Key | None:
    """Return what the message of a schedule is known by, unless it is sent again and again."""
    try:
        schedule = read_document(document).decode(Schedule)
        message = schedule.message()
    except BusError:
        return None  # it ends a schedule, its payload was taken out, or it is none
    return Key(message.source, message.id) if schedule.cron is None else None
