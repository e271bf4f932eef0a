"""What an agent reads of its log in a replay: the record up to now, and what it has just said."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.replay.recording import batches_of
from hms_bus.replay.renaming import Renaming
from hms_bus.topics import Pattern, parse_pattern


async def read_as_of_now(
    log: EventLog, selector: Selector, *, last: int, own: Sequence[Record], renaming: Renaming
) -> AsyncGenerator[Record]:
    """Yield the selected records of `log` up to position `last`, renamed, and behind them `own`.

    Raises what `EventLog.read` raises.
    """
    wanted = _Wanted(selector)
    said = [record for record in own if wanted(record)]
    yielded = 0
    async with (
        aclosing(_recorded(log, selector, last, wanted, renaming)) as recorded,
        aclosing(_in_order(recorded, said, backwards=selector.backwards)) as records,
    ):
        async for record in records:
            yield record
            yielded += 1
            if yielded == selector.limit:
                return


async def _in_order(
    recorded: AsyncGenerator[Record], said: list[Record], *, backwards: bool
) -> AsyncGenerator[Record]:
    for record in reversed(said) if backwards else ():
        yield record
    async for record in recorded:
        yield record
    for record in () if backwards else said:
        yield record


async def _recorded(
    log: EventLog, selector: Selector, last: int, wanted: "_Wanted", renaming: Renaming
) -> AsyncGenerator[Record]:
    selector = replace(selector, last=last if selector.last is None else min(selector.last, last))
    if renaming.is_needed:  # names are looked at when they are changed
        selector = replace(selector, limit=None, pattern=None, types=frozenset(), source=None)
    async with aclosing(batches_of(log, selector)) as batches:
        async for batch in batches:
            if not renaming.is_needed:
                for record in batch:
                    yield record
                continue
            for record in map(renaming.record, batch):
                if wanted(record):
                    yield record


class _Wanted:
    """Whether a record is selected, apart from `limit`."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._pattern: Pattern | None = None
        if selector.pattern is not None:
            self._pattern = parse_pattern(selector.pattern)

    def __call__(self, record: Record) -> bool:
        selector, envelope = self._selector, record.envelope
        return (
            (self._pattern is None or self._pattern.matches(envelope.topic))
            and _is_within(selector.first, record.position, selector.last)
            and _is_within(selector.since_ns, record.recorded_ns, selector.until_ns)
            and (not selector.types or envelope.type in selector.types)
            and selector.correlation in (None, envelope.correlationid)
            and selector.source in (None, envelope.source)
        )


def _is_within(first: int | None, value: int, last: int | None) -> bool:
    return (first is None or value >= first) and (last is None or value <= last)
