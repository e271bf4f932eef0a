"""From what a user calls an event, a position or the start of its id, to its record."""

import re

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.cli.analysis.reading import passing
from hms_bus.errors import UsageError
from hms_bus.replay.causality import Causality

_POSITION = re.compile(r"[1-9][0-9]{0,17}")
_LISTED = 10


async def find_record(log: EventLog, name: str) -> Record:
    """Return the record at the position `name`, else the one whose id begins with `name`.

    Raises `UsageError` when there is none, or when there are several: it lists them.
    """
    if _POSITION.fullmatch(name) and int(name) <= (await log.head()).position:
        position = int(name)
        async for record in log.read(Selector(first=position, last=position)):
            return record
    found: list[Record] = []
    async for record in passing(log, Selector()):
        if record.envelope.id == name:
            return record
        if record.envelope.id.startswith(name):
            found.append(record)
    if len(found) == 1:
        return found[0]
    raise UsageError(_ambiguous(name, found) if found else _unknown(name))


def _unknown(name: str) -> str:
    return f"there is no event {name!r} in the log: `hms-bus log cat LOG -v` shows the ids"


def _ambiguous(name: str, found: list[Record]) -> str:
    lines = [
        f"  {record.position}  {record.envelope.id}  {record.envelope.topic}"
        for record in found[:_LISTED]
    ]
    if len(found) > _LISTED:
        lines.append(f"  … and {len(found) - _LISTED} more")
    return "\n".join((f"{len(found)} events have an id that begins with {name!r}:", *lines))


async def read_around(log: EventLog, record: Record, *, effects: bool) -> list[Record]:
    """Return what may be a cause of `record`, itself among it, in recorded order.

    That is its conversation (correlationid); the whole log when it names none, or when its first
    cause belongs to another one. With `effects` what it may have caused, too: the whole log, since
    an effect may begin a conversation of its own.
    """
    correlation = record.envelope.correlationid
    if correlation is not None and not effects:
        records = [r async for r in passing(log, Selector(correlation=correlation))]
        causality = Causality([r.envelope for r in records])
        at = causality.find(record.envelope.id)
        if at is not None:
            root = records[causality.chain(at)[0]].envelope
            if root.causationid is None or root.causationid == root.id:
                return records
    return [r async for r in passing(log, Selector())]
