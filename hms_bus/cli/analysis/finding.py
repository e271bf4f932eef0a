"""From what a user calls an event, a position or the start of its id, to its record."""

import re

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.cli.analysis.reading import passing
from hms_bus.errors import UsageError

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
    """Return `record` and its causes, in recorded order; with `effects` what followed from it, too.

    Memory is for what is returned. Effects are looked for behind the record: a log holds a message
    before anybody has got it.
    """
    found = await _read_causes(log, record)
    if effects:
        found += await _read_effects(log, record)
    by_position = {each.position: each for each in found}  # in a circle a cause is an effect, too
    return [by_position[position] for position in sorted(by_position)]


async def _read_causes(log: EventLog, record: Record) -> list[Record]:
    """Return the record and its causes: in one pass where each lies before what it caused."""
    chain = {record.envelope.id: record}
    backwards = "log-read-backwards" in log.capabilities
    wanted = record.envelope.causationid
    selector = Selector(last=record.position, backwards=backwards)
    while wanted is not None and wanted not in chain:
        known = len(chain)
        async for candidate in log.read(selector):
            if candidate.envelope.id == wanted:
                chain[wanted] = candidate
                wanted = candidate.envelope.causationid
                if wanted is None or wanted in chain:
                    break
        if len(chain) == known and selector.last is None:
            break  # the log does not have it
        selector = Selector(backwards=backwards)
    return list(chain.values())


async def _read_effects(log: EventLog, record: Record) -> list[Record]:
    ids = {record.envelope.id}
    found: list[Record] = []
    async for candidate in passing(log, Selector(first=record.position + 1)):
        if candidate.envelope.causationid in ids:
            ids.add(candidate.envelope.id)
            found.append(candidate)
    return found
