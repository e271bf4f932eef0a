"""`hms-bus stats`."""

import sys
from typing import Any, get_args

import click
import msgspec

from hms_bus.abc import Selector
from hms_bus.cli.analysis.reading import passing
from hms_bus.cli.commands import command
from hms_bus.cli.log.opening import open_reading
from hms_bus.cli.options import format_option, log_argument, selector_options
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, byte_count, show_facts, show_table
from hms_bus.replay.statistics_of_runs import Figures, Grouping, RunStatistics

_MS = 1000.0


@command(
    "stats",
    examples="""
    hms-bus stats run.db
    hms-bus stats run.db --by agent --since 1h
    hms-bus stats run.db --format json | jq '.groups[] | select(.errors > 0)'
    """,
)
@log_argument
@selector_options
@click.option(
    "--by",
    type=click.Choice(get_args(Grouping)),
    default="topic",
    help="What a row stands for. [default: topic]",
)
@format_option("text", "json", "csv")
def stats(*, log: str | None, selector: Selector, by: Grouping, form: Form) -> None:
    """Tell rates, sizes, errors and latencies of the run in LOG.

    A latency is the time from a cause to its effect, by the clock of the log: both were recorded,
    and the effect is counted under its own topic, agent or type. Agents are told apart without the
    number of their instance: /agents/reader-3 is one of /agents/reader. In text and CSV latencies
    are in milliseconds. A pipe gets rows without a head, CSV has one.
    """

    async def count() -> RunStatistics:
        counted = RunStatistics(by)
        async with open_reading(log) as opened:
            async for record in passing(opened, selector):
                counted.add(record)
        return counted

    counted = run(count)
    if form == "json":
        facts = {
            "by": by,
            "span_s": counted.span_s,
            "total": counted.total(),
            "groups": counted.groups(),
        }
        click.echo(msgspec.json.encode(facts))
        return
    if form == "text" and sys.stdout.isatty():
        show_facts(_total(counted))
        click.echo()
    show_table(_columns(by), [_row(by, figures) for figures in counted.groups()], form)


def _total(counted: RunStatistics) -> list[tuple[str, str]]:
    total = counted.total()
    rate = "" if total.rate is None else f", {_short(total.rate)}/s"
    facts = [
        ("records", f"{total.count:,} in {_duration(counted.span_s)}{rate}"),
        ("payload", f"{byte_count(total.bytes)}, at most {byte_count(total.largest)}"),
        ("errors", f"{total.errors:,}"),
    ]
    if total.latency is not None:
        latency = total.latency
        ranks = {"p50": latency.p50_s, "p90": latency.p90_s, "p99": latency.p99_s}
        ranks["max"] = latency.max_s
        text = ", ".join(f"{name} {_duration(value_s)}" for name, value_s in ranks.items())
        facts.append(("latency", f"{text} of {latency.count:,} effects"))
    return facts


def _duration(time_s: float) -> str:
    return f"{_short(time_s)} s" if time_s >= 1 else f"{_short(time_s * _MS)} ms"


def _short(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - 3 digits


def _columns(by: Grouping) -> tuple[Column, ...]:
    numbers = ("count", "rate", "bytes", "size", "largest", "errors")
    spare = {"rate": 3, "bytes": 5, "largest": 6, "size": 4}
    return (
        Column(name=by, style="yellow", least=20),
        *(Column(name=name, kind="number", spare=spare.get(name, 0)) for name in numbers),
        Column(name="effects", kind="number", spare=2),
        *(Column(name=name, kind="number", spare=1) for name in ("p50", "p90", "p99")),
        Column(name="max", kind="number"),
    )


def _row(by: Grouping, figures: Figures) -> dict[str, Any]:
    latency = figures.latency
    return {
        by: figures.name,
        "count": figures.count,
        "rate": figures.rate,
        "bytes": figures.bytes,
        "size": figures.size,
        "largest": figures.largest,
        "errors": figures.errors,
        "effects": 0 if latency is None else latency.count,
        "p50": latency and latency.p50_s * _MS,
        "p90": latency and latency.p90_s * _MS,
        "p99": latency and latency.p99_s * _MS,
        "max": latency and latency.max_s * _MS,
    }
