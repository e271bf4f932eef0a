"""`hms-bus why`."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from msgspec import Raw

from hms_bus.abc import Record
from hms_bus.cli.analysis.finding import find_record, read_around
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.log.opening import open_reading
from hms_bus.cli.options import format_option, log_argument
from hms_bus.cli.records import json_line, payload_text
from hms_bus.cli.running import run
from hms_bus.replay.causality import Causality

_PAYLOAD = 60


class Story:
    """An event among others: `chain` leads to it, `effects` lead on."""

    def __init__(self, records: Sequence[Record], target: Record) -> None:
        self._records = records
        self._causality = Causality([record.envelope for record in records])
        at = self._causality.find(target.envelope.id)
        assert at is not None  # noqa: S101 - it is one of them
        self._at = at
        self._chain = self._causality.chain(at)

    @property
    def chain(self) -> list[Record]:
        """The causes, the root first, and the event itself as the last one."""
        return [self._records[index] for index in self._chain]

    @property
    def effects(self) -> list[tuple[Record, int]]:
        """What followed, depth first, each with how many causes lie between: 1 for none."""
        followed = list(self._causality.descend(self._at))[1:]
        return [(self._records[index], depth) for index, depth in followed]

    @property
    def absent_cause(self) -> str | None:
        """The id of the cause of the first of the chain, which the log does not have."""
        root = self.chain[0].envelope
        return None if root.causationid == root.id else root.causationid


@command(
    "why",
    examples="""
    hms-bus why 17 run.db
    hms-bus why 01985b2e-7a3c run.db --effects
    hms-bus why 17 run.db --format json | jq -r '.chain[].event.topic'
    """,
)
@click.argument("name", metavar="ID")
@log_argument
@click.option("-d", "--effects", "--down", "down", is_flag=True, help="Also what followed from it.")
@format_option("text", "json")
def why(*, name: str, log: str | None, down: bool, form: str) -> None:
    """Show the chain of causes that led to the event ID in LOG, the first one on top.

    ID is a position, or the start of an id that no other event has. With each event stands how long
    after its cause it was recorded.
    """

    async def find() -> Story:
        async with open_reading(log) as opened:
            record = await find_record(opened, name)
            return Story(await read_around(opened, record, effects=down), record)

    story = run(find)
    if form == "json":
        click.echo(msgspec.json.encode(_facts(story, down=down)))
    else:
        _show(story, down=down)


def _show(story: Story, *, down: bool) -> None:
    if story.absent_cause is not None:
        click.echo(f"(its cause {story.absent_cause} is not in the log)")
    times = {record.envelope.id: record.recorded_ns for record in story.chain}
    for depth, record in enumerate(story.chain):
        is_it = depth == len(story.chain) - 1
        click.echo(_line(record, depth, times, marked=is_it))
    if not down:
        return
    below = len(story.chain) - 1
    for record, depth in story.effects:
        times.setdefault(record.envelope.id, record.recorded_ns)
        click.echo(_line(record, below + depth, times))


def _line(record: Record, depth: int, times: dict[str, int], *, marked: bool = False) -> str:
    event = record.envelope
    caused_ns = times.get(event.causationid or "")
    after = "" if caused_ns is None or not depth else _duration(record.recorded_ns - caused_ns)
    text = payload_text(event)
    text = text if len(text) <= _PAYLOAD else f"{text[: _PAYLOAD - 1]}…"
    indent = "   " * (depth - 1) + "└─ " if depth else ""
    cells = (f"{after:>9}", f"{record.position:>6}", f"{indent}{event.topic}", event.source, text)
    if not is_coloured(sys.stdout):
        return "  ".join(cells).rstrip()
    styles: tuple[dict[str, Any], ...] = (
        {"dim": True},
        {"fg": "blue"},
        {"fg": "yellow", "bold": marked},
        {"dim": True},
        {},
    )
    shown = (click.style(cell, **style) for cell, style in zip(cells, styles, strict=True))
    return "  ".join(shown).rstrip()


def _duration(time_ns: int) -> str:
    """Return a duration with the unit that suits it: +1.2 ms."""
    amount = time_ns / 1000
    for unit in ("µs", "ms"):
        if amount < 1000:  # noqa: PLR2004 - what the units are about
            return f"+{amount:.3g} {unit}"
        amount /= 1000
    return f"+{amount:,.3g} s" if amount < 1000 else f"+{amount:,.0f} s"  # noqa: PLR2004


def _facts(story: Story, *, down: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "chain": [_record(record) for record in story.chain],
        "absent_cause": story.absent_cause,
    }
    if down:
        facts["effects"] = [
            {"depth": depth, "record": _record(record)} for record, depth in story.effects
        ]
    return facts


def _record(record: Record) -> Raw:
    return Raw(json_line(record.envelope, record.position, record.recorded_ns).strip())
