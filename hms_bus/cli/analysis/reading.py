"""Reading a run from a log, whole, or what of it can be read."""

from collections.abc import AsyncIterator

from msgspec import Struct
from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.cli.log.opening import open_reading
from hms_bus.cli.screen import note, progress
from hms_bus.errors import LogCorruptError

_REPORT_EACH = 10_000


class Run(Struct, frozen=True, kw_only=True):
    """The records of a log, and how many more there are that could not be read."""

    records: list[Record]
    unreadable: int = 0


async def read_run(log: str | None, selector: Selector, *, skip_unreadable: bool = False) -> Run:
    """Read the selected records of the log `log`, showing how far that is.

    A record that cannot be read is told on stderr and left out if that is wanted. Raises what
    opening and reading raise, for such a record `LogCorruptError`.
    """
    async with open_reading(log) as opened:
        if not skip_unreadable:
            return Run(records=[record async for record in passing(opened, selector)])
        return await _read_rest(opened, selector)


async def passing(log: EventLog, selector: Selector) -> AsyncIterator[Record]:
    """Yield the selected records and show how many of all have passed."""
    total = (await log.head()).position
    with progress("reading", "records") as advance:
        async for record in log.read(selector):
            yield record
            if record.position % _REPORT_EACH == 0:
                advance(record.position, total)


async def _read_rest(log: EventLog, selector: Selector) -> Run:
    records: list[Record] = []
    unreadable = 0
    while True:
        try:
            async for record in passing(log, selector):
                records.append(record)  # noqa: PERF401 - what came before an error is kept
        except LogCorruptError as error:
            if error.position is None or error.position < (selector.first or 1):
                raise
            note(f"left out: {error}")
            unreadable += 1
            selector = replace(selector, first=error.position + 1)
        else:
            return Run(records=records, unreadable=unreadable)
