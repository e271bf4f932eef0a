"""Carrying records from log to log as lines of JSON.

One line is one record, `{"position":12,"recorded_ns":1767225600000000000,"event":{...}}`, its event
in the CloudEvents JSON format. A line that is an event itself is imported too; it has a
`specversion`, and may have extensions that are called `event` and `position`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable

import msgspec
from msgspec import Raw, Struct

from hms_bus import jsonformat
from hms_bus.abc import EventLog, Selector
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError

_AT_ONCE = 500


class Imported(Struct, frozen=True, kw_only=True):
    """What became of imported lines.

    How many held an event, how many of those the log had already, and how many were refused.
    """

    events: int
    duplicates: int
    refused: int = 0


class _Line(Struct, frozen=True):
    """What is read of a line; what is not there is empty."""

    specversion: Raw = Raw()
    position: Raw = Raw()
    event: Raw = Raw()

    @property
    def is_record(self) -> bool:
        return bool(self.position) and bool(self.event) and not self.specversion


_lines = msgspec.json.Decoder(_Line)


async def export_lines(log: EventLog, selector: Selector) -> AsyncIterator[bytes]:
    """Yield the selected records as lines, each ended by a newline. Raises what `read` raises."""
    async for record in log.read(selector):
        event = jsonformat.encode(record.envelope)
        yield b'{"position":%d,"recorded_ns":%d,"event":%s}\n' % (
            record.position,
            record.recorded_ns,
            event,
        )


async def import_lines(
    log: EventLog,
    lines: AsyncIterable[bytes],
    *,
    on_refused: Callable[[DecodeError], None] | None = None,
) -> Imported:
    """Append the events of `lines` in their order; empty lines are passed over.

    Positions and recorded times are new: they say when *this* log took the event, while the event's
    own `time` stays. What the log has already (by `source` and `id`) is not appended again, so an
    import that was cut off is simply repeated. Raises what `append` raises, and, without
    `on_refused`, `DecodeError` that names the line (of those before it, some are imported then).
    With it a line that is no event is left out, and the function told why.
    """
    events = duplicates = number = refused = 0
    batch: list[Envelope] = []
    async for line in lines:
        number += 1
        if line.strip():
            try:
                batch.append(_read_line(line, number))
            except DecodeError as error:
                if on_refused is None:
                    raise
                on_refused(error)
                refused += 1
        if len(batch) == _AT_ONCE:
            duplicates += await _append(log, batch)
            events += len(batch)
            batch = []
    duplicates += await _append(log, batch)
    return Imported(events=events + len(batch), duplicates=duplicates, refused=refused)


def _read_line(line: bytes, number: int) -> Envelope:
    try:
        read = _lines.decode(line)
        return jsonformat.decode(bytes(read.event) if read.is_record else line)
    except (DecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, DecodeError) else "malformed"
        field = error.field if isinstance(error, DecodeError) else None
        raise DecodeError(f"line {number}: {error}", reason=reason, field=field) from error


async def _append(log: EventLog, batch: list[Envelope]) -> int:
    receipts = await log.append(batch)
    return sum(receipt.duplicate for receipt in receipts)
