"""`hms-bus diff`."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from msgspec import UNSET

from hms_bus.abc import Record, Selector
from hms_bus.cli.analysis.reading import Run, read_run
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, NEGATIVE, OK
from hms_bus.cli.options import LOG, PATTERN, format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.errors import EnvironmentFailure, UsageError
from hms_bus.replay.comparing import Comparison, Divergence, compare
from hms_bus.replay.describing import amount, describe
from hms_bus.replay.values import Change, value_of

_COLOURS = {"-": "red", "+": "green", "~": "yellow"}


@command(
    "diff",
    examples="""
    hms-bus diff before.db after.db
    hms-bus diff before.db after.db --ignore '$.ts' --ignore '$.items[*].id'
    hms-bus diff before.db after.db --topic 'orders.>' --format json
    """,
    endings={
        0: "both say the same",
        1: "they differ",
        2: "the command line is wrong, a log cannot be opened, or there was nothing to compare",
        3: "records could not be read, and were left out of the comparison",
    },
)
@click.argument("left", metavar="A", type=LOG)
@click.argument("right", metavar="B", type=LOG)
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATH",
    help="Leave this out: $.ts, $.items[*].ts, $..ts, subject, order; repeatable.",
)
@click.option("--topic", "pattern", type=PATTERN, help="Only differences on topics that match.")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0),
    default=20,
    help="List so many in each part of the text; 0: all. [default: 20]",
)
@format_option("text", "json")
def diff(
    *, left: str, right: str, ignore: tuple[str, ...], pattern: str | None, count: int, form: str
) -> int:
    """Tell what differs between the runs in the logs A and B.

    Events are aligned by their causes, not by time: two are the same when their causes are, and the
    same agent sent them on the same topic, in the same order. Compared are topic, type, subject,
    partition key, media type, cause, order and payload; never id, time, trace and hops. The first
    difference and what follows from it stand apart from what is independent of it.
    """
    mine, theirs = _read(left), _read(right)
    comparison = compare(_envelopes(mine), _envelopes(theirs), ignore=ignore)
    if pattern is not None:
        comparison = comparison.only(pattern)
    if not comparison.same and comparison.is_same and not (mine.unreadable or theirs.unreadable):
        raise UsageError(_nothing(mine, theirs, pattern))
    if form == "json":
        click.echo(msgspec.json.encode(_facts(comparison, mine.records, theirs.records)))
    else:
        _show(comparison, mine.records, theirs.records, count or None)
    if mine.unreadable or theirs.unreadable:
        unread = f"{amount(mine.unreadable, 'record')} of A and {theirs.unreadable} of B"
        note(f"{unread} could not be read")
        return DISCARDED
    return OK if comparison.is_same else NEGATIVE


def _read(log: str) -> Run:
    try:
        return run(lambda: read_run(log, Selector(), skip_unreadable=True))
    except EnvironmentFailure as error:
        # 1 is said of logs that were compared.
        raise UsageError(str(error)) from error


def _nothing(left: Run, right: Run, pattern: str | None) -> str:
    """Return why nothing was compared."""
    if pattern is not None and (left.records or right.records):
        return f"nothing to compare: no event of A or B is on {pattern}; `hms-bus log ls` lists all"
    return "nothing to compare: neither A nor B has a record; are the names right?"


def _envelopes(found: Run) -> list[Any]:
    return [record.envelope for record in found.records]


def _show(
    comparison: Comparison, left: Sequence[Record], right: Sequence[Record], limit: int | None
) -> None:
    text = describe(
        comparison,
        places=(lambda index: left[index].position, lambda index: right[index].position),
        limit=limit,
    )
    for line in text.splitlines():
        click.echo(_coloured(line) if is_coloured(sys.stdout) else line)


def _coloured(line: str) -> str:
    if line[:1] in _COLOURS:
        return click.style(line, fg=_COLOURS[line[0]])
    return line if line.startswith(" ") else click.style(line, bold=True)


def _facts(
    comparison: Comparison, left: Sequence[Record], right: Sequence[Record]
) -> dict[str, Any]:
    def told(found: Divergence) -> dict[str, Any]:
        return _divergence(comparison, found, left, right)

    first = comparison.first
    return {
        "same": comparison.is_same,
        "events": {"left": len(left), "right": len(right), "same": comparison.same},
        "counts": {k: comparison.count(k) for k in ("changed", "missing", "extra")},
        "first": None if first is None else told(first),
        "following": [told(found) for found in comparison.following],
        "independent": [told(found) for found in comparison.independent],
    }


def _divergence(
    comparison: Comparison, found: Divergence, left: Sequence[Record], right: Sequence[Record]
) -> dict[str, Any]:
    event = comparison.event(found)
    facts: dict[str, Any] = {
        "kind": found.kind,
        "topic": event.topic,
        "type": event.type,
        "source": event.source,
        "left": None if found.left is None else _place(left[found.left]),
        "right": None if found.right is None else _place(right[found.right]),
    }
    if found.kind == "changed":
        facts["changes"] = [_change(change) for change in found.changes]
    elif event.data is not UNSET:
        facts["data"] = value_of(event)
    return facts


def _place(record: Record) -> dict[str, Any]:
    return {"position": record.position, "id": record.envelope.id}


def _change(change: Change) -> dict[str, Any]:
    sides = {"left": change.left, "right": change.right}
    return {"path": change.path} | {side: v for side, v in sides.items() if v is not UNSET}
