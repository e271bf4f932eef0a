"""`hms-bus bisect`."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from msgspec import Raw

from hms_bus.abc import Record, Selector
from hms_bus.cli.analysis.loading import load_function
from hms_bus.cli.analysis.reading import read_run
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.options import format_option, log_argument, selector_options
from hms_bus.cli.records import Printer, json_line
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.replay.describing import amount
from hms_bus.replay.minimizing import Break, Checking


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What breaks the invariant, and the smallest slice of the run that does, if it was wanted."""

    broken: Break | None
    records: list[Record]
    checks: int


@command(
    "bisect",
    examples="""
    hms-bus bisect run.db --check checks:no_order_is_paid_twice
    hms-bus bisect run.db --check checks.py:stock_is_never_negative --minimize
    hms-bus bisect run.db --check checks:balanced --linear --topic 'accounts.>'
    """,
    endings={0: "the invariant holds", 1: "a record breaks it, or the log cannot be read"},
)
@log_argument
@selector_options
@click.option(
    "--check",
    "name",
    metavar="MODULE:FUNCTION",
    required=True,
    help="The invariant; MODULE may be a file, checks.py.",
)
@click.option("--minimize", is_flag=True, help="Find the smallest slice that still breaks it.")
@click.option("--linear", is_flag=True, help="Check after each record, not by halves.")
@format_option("text", "json")
def bisect(
    *,
    log: str | None,
    selector: Selector,
    name: str,
    minimize: bool,
    linear: bool,
    form: str,
) -> int:
    """Find the first record of LOG that breaks an invariant.

    The invariant is a function that is called with a list of messages (`hms_bus.Message`), the
    beginning of the run in recorded order, and builds what it knows from them anew each time. It is
    broken when it raises AssertionError or returns what is false; None counts as holding.

    Found by halves: what is broken is taken to stay broken. With --minimize, records are then taken
    out with their effects, as long as the last one still breaks the invariant; what is left stands
    with its causes.
    """
    invariant = load_function(name)
    records = run(lambda: read_run(log, selector)).records
    with progress("checking", "checks") as advance:
        checking = Checking(records, invariant, lambda count: advance(count, None))
        broken = checking.first_break(monotonic=not linear)
        kept: Sequence[int] = () if broken is None else (broken.index,)
        if broken is not None and minimize:
            kept = checking.smallest_slice(broken)
    found = Found(broken=broken, records=[records[at] for at in kept], checks=checking.count)
    if form == "json":
        click.echo(msgspec.json.encode(_facts(found, len(records), minimize=minimize)))
    else:
        _show(found, len(records), minimize=minimize)
    return OK if broken is None else NEGATIVE


def _show(found: Found, total: int, *, minimize: bool) -> None:
    if found.broken is None:
        counts = f"{amount(total, 'record')}, {amount(found.checks, 'check')}"
        click.echo(f"{click.style('holds', fg='green')}: {counts}")
        return
    last = found.records[-1]
    words = click.style("BROKEN", fg="red", bold=True)
    click.echo(f"{words} by the record at position {last.position}: {found.broken.reason}")
    if minimize:
        size = f"{len(found.records)} of {amount(total, 'record')}"
        click.echo(f"the smallest slice that breaks it, {size}:")
    # The printer writes the octets of stdout, behind what was printed as text.
    sys.stdout.flush()
    printer = Printer(sys.stdout.buffer, "text", coloured=is_coloured(sys.stdout))
    for record in found.records:
        printer.show(record.envelope, record.position, record.recorded_ns)
    printer.flush()


def _facts(found: Found, total: int, *, minimize: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "holds": found.broken is None,
        "records": total,
        "checks": found.checks,
        "position": None,
        "reason": None,
    }
    if found.broken is not None:
        facts |= {"position": found.records[-1].position, "reason": found.broken.reason}
    if minimize:
        facts["slice"] = [
            Raw(json_line(r.envelope, r.position, r.recorded_ns).strip()) for r in found.records
        ]
    return facts
