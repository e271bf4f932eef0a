"""`hms-bus log ls` and `hms-bus log info`: what a log holds, in figures."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from hms_bus.abc import EventLog, Head, Record, Selector
from hms_bus.cli.commands import command
from hms_bus.cli.log.opening import file_of, log_url, open_reading
from hms_bus.cli.options import format_option, log_argument, selector_options
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, byte_count, local_time, progress, show_table
from hms_bus.ids import format_time
from hms_bus.log.schema import CURRENT

_REPORT_EACH = 10_000
_SHOWN_AT_MOST = 20


class Group:
    """The records of one topic, or of all: how many, from where to where, of which types."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Record | None = None
        self.last: Record | None = None
        self.types: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Count a record; they come in the order of positions."""
        self.count += 1
        self.first = self.first or record
        self.last = record
        self.types[record.envelope.type] += 1
        self.sources[record.envelope.source] += 1

    def row(self, topic: str) -> dict[str, Any]:
        """Return the figures under the names of `_COLUMNS`."""
        first, last = self.first, self.last
        return {
            "topic": topic,
            "count": self.count,
            "first": first and first.position,
            "last": last and last.position,
            "since": first and first.recorded_ns,
            "until": last and last.recorded_ns,
            "rate": self.rate(),
            "types": [name for name, _ in self.types.most_common()],
        }

    def rate(self) -> float | None:
        """Return records per second between the first and the last one."""
        if self.first is None or self.last is None:
            return None
        span_s = (self.last.recorded_ns - self.first.recorded_ns) / 1e9
        return (self.count - 1) / span_s if span_s else None


_COLUMNS = (
    Column(name="topic", style="yellow", least=20),
    Column(name="count", kind="number"),
    Column(name="first", kind="number", spare=1),
    Column(name="last", kind="number"),
    Column(name="since", kind="time", spare=4),
    Column(name="until", kind="time", spare=3),
    Column(name="rate", kind="number", spare=2),
    Column(name="types", style="green", least=12, spare=5),
)


@command(
    "ls",
    examples="""
    hms-bus log ls run.db
    hms-bus log ls run.db --sort count
    hms-bus log ls run.db --topic 'orders.>' --since 1h --format json
    """,
)
@log_argument
@selector_options
@click.option(
    "--sort",
    type=click.Choice(["topic", "count", "last"]),
    default="topic",
    help="By name, most records first, or newest first. [default: topic]",
)
@format_option("text", "json", "csv")
def ls(*, log: str | None, selector: Selector, sort: str, form: Form) -> None:
    """List the topics of LOG.

    For each: how many records, the positions and times of the first and last one, records per
    second between them, and the event types, the most frequent first.
    """

    async def survey() -> dict[str, Group]:
        async with open_reading(log) as opened:
            return await _by_topic(opened, selector)

    rows = [group.row(topic) for topic, group in sorted(run(survey).items())]
    if sort != "topic":
        rows.sort(key=lambda row: row[sort], reverse=True)
    show_table(_COLUMNS, rows, form)


async def _by_topic(log: EventLog, selector: Selector) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    total = (await log.head()).position
    with progress("reading", "records") as advance:
        async for record in log.read(selector):
            topic = record.envelope.topic
            group = groups.get(topic)
            if group is None:
                group = groups[topic] = Group()
            group.add(record)
            if record.position % _REPORT_EACH == 0:
                advance(record.position, total)
    return groups


@command(
    "info",
    examples="""
    hms-bus log info run.db
    hms-bus log info run.db --format json
    """,
)
@log_argument
@format_option("text", "json")
def info(*, log: str | None, form: str) -> None:
    """Tell how large LOG is, what it spans, who wrote to it and which types it holds."""

    async def survey() -> tuple[Group, int, Head]:
        async with open_reading(log) as opened:
            everything = Group()
            topics: set[str] = set()
            head = await opened.head()
            with progress("reading", "records") as advance:
                async for record in opened.read(Selector(last=head.position)):
                    everything.add(record)
                    topics.add(record.envelope.topic)
                    if everything.count % _REPORT_EACH == 0:
                        advance(everything.count, head.position)
            return everything, len(topics), head

    everything, topics, head = run(survey)
    facts = _facts(log, everything, topics, head)
    if form == "json":
        click.echo(msgspec.json.encode(facts))
    else:
        _show_facts(facts, everything)


def _facts(log: str | None, everything: Group, topics: int, head: Head) -> dict[str, Any]:
    file = file_of(log)
    row = everything.row("")
    return {
        "log": log_url(log),
        "bytes": None if file is None else _size(file),
        # Of any other version than the current one the file could not have been opened.
        "schema": None if file is None else CURRENT.version,
        "records": everything.count,
        "topics": topics,
        "since": row["since"] and format_time(row["since"]),
        "until": row["until"] and format_time(row["until"]),
        "rate": row["rate"],
        "head": {"position": head.position, "hash": head.hash.hex()},
        "sources": dict(everything.sources.most_common()),
        "types": dict(everything.types.most_common()),
    }


def _size(file: Path) -> int:
    """Return the bytes of the log with its write-ahead log, what was not checkpointed yet."""
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _show_facts(facts: dict[str, Any], everything: Group) -> None:
    is_terminal = sys.stdout.isatty()
    row = everything.row("")
    shown = {
        **facts,
        "bytes": byte_count(facts["bytes"]) if is_terminal and facts["bytes"] else facts["bytes"],
        "head": f"{facts['head']['position']} {facts['head']['hash']}",
        "rate": None if facts["rate"] is None else f"{facts['rate']:.6g}",
    }
    if is_terminal:
        for name in ("since", "until"):
            shown[name] = row[name] and local_time(row[name])
    for name in ("sources", "types"):
        del shown[name]
    for name, value in shown.items():
        _fact(name, value)
    _show_counts("source", everything.sources)
    _show_counts("type", everything.types)


def _show_counts(name: str, counts: Counter[str]) -> None:
    for value, count in counts.most_common(_SHOWN_AT_MOST):
        _fact(name, f"{value} ({count})")
    if len(counts) > _SHOWN_AT_MOST:
        _fact(name, f"… and {len(counts) - _SHOWN_AT_MOST} more (--format json lists all)")


def _fact(name: str, value: object) -> None:
    text = "-" if value is None else str(value)
    if sys.stdout.isatty():
        click.echo(f"{click.style(f'{name:<8}', bold=True)} {text}")
    else:
        click.echo(f"{name}\t{text}")
