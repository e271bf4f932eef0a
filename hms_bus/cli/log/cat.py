"""`hms-bus log cat` and `hms-bus log tail`."""

import sys
from typing import Any

import click
from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.log.opening import open_reading
from hms_bus.cli.options import AnyFunction, format_option, log_argument, selector_options
from hms_bus.cli.records import Printer
from hms_bus.cli.running import run
from hms_bus.errors import UsageError


def _printing_options(function: AnyFunction) -> AnyFunction:
    for option in (
        format_option("text", "json", "csv"),
        click.option("-v", "--verbose", is_flag=True, help="Print every attribute."),
        click.option("--raw", is_flag=True, help="Print payloads only."),
    ):
        function = option(function)
    return function


@command(
    "cat",
    examples="""
    hms-bus log cat run.db --topic 'orders.>' --since 1h
    hms-bus log cat run.db --seq 100..200 --format json
    hms-bus log cat run.db --type Order --reverse -n 5
    hms-bus log cat run.db --corr 01985b2e-7a3c-7000-8000-000000000000 -v
    hms-bus log cat run.db --seq 17 --raw > payload.bin
    """,
)
@log_argument
@selector_options
@click.option("-n", "-c", "--count", type=click.IntRange(0), help="End after so many records.")
@click.option("--reverse", is_flag=True, help="The last record first.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is appended.")
@_printing_options
def cat(
    *,
    log: str | None,
    selector: Selector,
    count: int | None,
    reverse: bool,
    follow: bool,
    raw: bool,
    verbose: bool,
    form: Any,
) -> None:
    """Print the records of LOG.

    On a pipe a line of text holds, with tabs between them: position, recorded time, topic, type,
    source, payload. In a JSON line stand `position`, `recorded` and the CloudEvent, `event`.
    """
    if reverse and follow:
        raise UsageError("--follow goes forwards, --reverse backwards: choose one")
    selector = replace(selector, backwards=reverse, limit=count)
    printer = _printer(raw=raw, verbose=verbose, form=form)

    async def show() -> None:
        async with open_reading(log) as opened:
            await _print(opened, selector, printer, follow=follow)

    run(show)


@command(
    "tail",
    examples="""
    hms-bus log tail run.db
    hms-bus log tail -n 3 run.db --topic 'orders.>'
    hms-bus log tail -f run.db --format json | jq .event.data
    """,
)
@log_argument
@selector_options
@click.option(
    "-n", "-c", "--count", type=click.IntRange(0), default=10, help="How many. [default: 10]"
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is appended, until Ctrl-C.")
@_printing_options
def tail(
    *,
    log: str | None,
    selector: Selector,
    count: int,
    follow: bool,
    raw: bool,
    verbose: bool,
    form: Any,
) -> None:
    """Print the last records of LOG that are selected, and follow it if wanted."""
    printer = _printer(raw=raw, verbose=verbose, form=form)

    async def show() -> None:
        async with open_reading(log) as opened:
            head = await opened.head()
            end = head.position if selector.last is None else min(head.position, selector.last)
            last = replace(selector, last=end, backwards=True, limit=count)
            for record in reversed([record async for record in opened.read(last)]):
                _show(printer, record)
            printer.flush()
            if follow:
                first = max(head.position + 1, selector.first or 0)
                await _print(opened, replace(selector, first=first), printer, follow=True)

    run(show)


def _printer(*, raw: bool, verbose: bool, form: Any) -> Printer:
    return Printer(
        sys.stdout.buffer,
        "raw" if raw else form,
        coloured=is_coloured(sys.stdout),
        verbose=verbose,
    )


async def _print(log: EventLog, selector: Selector, printer: Printer, *, follow: bool) -> None:
    try:
        async for record in log.read(selector, follow=follow):
            _show(printer, record)
            if follow:
                printer.flush()
    finally:
        # Also what was printed before the reading failed, or was interrupted.
        printer.flush()


def _show(printer: Printer, record: Record) -> None:
    printer.show(record.envelope, record.position, record.recorded_ns)
