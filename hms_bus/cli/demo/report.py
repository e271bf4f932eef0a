"""What the demo prints: the report, the figures of the bus, the log and what to try on it."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from hms_bus.bus import BusStats
from hms_bus.cli.screen import Column, show_table
from hms_bus.demo import Function, Report

_SHOWN = 5


class Outcome(Struct, frozen=True):
    """The report, the seconds that it took, and what each agent's bus counted."""

    report: Report
    seconds: float
    stats: dict[str, BusStats]


def show_report(report: Report) -> None:
    """Print what the team found."""
    _title("What they found")
    click.echo(
        f"{report.files} files, {report.bytes / 1e6:.1f} MB, {report.functions} functions; "
        f"{report.unreadable} files could not be read as Python; {report.findings} findings"
    )
    _show_functions("Largest functions", "lines", report.largest)
    _show_functions("Most complex functions", "complexity", report.most_complex)
    _title("Import hubs")
    hubs = list(report.import_hubs.items())[:_SHOWN]
    columns = (
        Column(name="module", style="cyan", least=20),
        Column(name="importers", kind="number"),
    )
    show_table(columns, [{"module": name, "importers": n} for name, n in hubs], "text", headed=True)
    missing = report.without_docstring
    _title(f"Modules without a docstring: {len(missing)}")
    if missing:
        click.echo(", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else ""))


def _show_functions(title: str, measure: str, functions: list[Function]) -> None:
    _title(title)
    columns = (Column(name="function", style="cyan", least=20), Column(name=measure, kind="number"))
    rows = [{"function": f.name, measure: getattr(f, measure)} for f in functions[:_SHOWN]]
    show_table(columns, rows, "text", headed=True)


def show_figures(outcome: Outcome) -> None:
    """Print what the bus of each agent did."""
    sums = {name: _sum(stats) for name, stats in outcome.stats.items()}
    published = sum(stats.published + stats.requests for stats in outcome.stats.values())
    handled = sum(row.handled for row in sums.values())
    _title("What the bus did")
    click.echo(
        f"{published} messages and requests, {handled} times handled, in {outcome.seconds:.1f} s: "
        f"{published / outcome.seconds:,.0f} per second"
    )
    columns = (
        Column(name="agent", style="cyan"),
        Column(name="published", kind="number"),
        Column(name="requests", kind="number", spare=2),
        Column(name="handled", kind="number"),
        Column(name="failed", kind="number", spare=1),
        Column(name="mean ms", kind="number", spare=3),
    )
    show_table(
        columns,
        [row.row(name, outcome.stats[name]) for name, row in sums.items()],
        "text",
        headed=True,
    )


class _Sum(Struct, frozen=True):
    """What the handlers of one agent did."""

    handled: int
    failed: int
    handler_s: float

    def row(self, name: str, stats: BusStats) -> dict[str, Any]:
        """Return the agent's row of the table."""
        return {
            "agent": name,
            "published": stats.published,
            "requests": stats.requests,
            "handled": self.handled,
            "failed": self.failed,
            "mean ms": 1000 * self.handler_s / self.handled if self.handled else None,
        }


def _sum(stats: BusStats) -> _Sum:
    ran = [(s.handled + s.failed) * s.mean_handler_s for s in stats.subscriptions]
    failed = sum(s.failed for s in stats.subscriptions)
    return _Sum(stats.handled, failed, sum(ran))


def show_log(kept: str) -> None:
    """Print which log was kept, and what to do with it."""
    _title("The log, and three commands to try next")
    click.echo(kept)
    program, log = _program(), shlex.quote(kept)
    for line in (
        f"{program} log ls {log}",
        f"{program} log tail {log} --topic report.ready --raw -n 1",
        f"{program} log verify {log}",
    ):
        click.echo(f"  {click.style(line, fg='green')}")


def _program() -> str:
    """Return how the shell runs this program: by its name, or by the path that it was run by."""
    if shutil.which("hms-bus"):
        return "hms-bus"
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m hms_bus"
    return shlex.quote(str(called))


def _title(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")
