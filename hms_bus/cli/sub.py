"""`hms-bus sub`."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import click

from hms_bus.bus import MessageStream
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.connecting import OTHER_BUS, load, make_bus, require_others
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.options import DURATION, PATTERN, bus_options, format_option
from hms_bus.cli.records import Printer
from hms_bus.cli.running import run
from hms_bus.cli.screen import note


@command(
    "sub",
    examples="""
    hms-bus sub 'orders.>' --bus ipc://agents
    hms-bus sub 'orders.*.created' -c 10 --format json --bus ipc://agents
    hms-bus sub work.todo --group helpers --raw --bus ipc://agents
    """,
    endings={1: "fewer than -c messages came within --timeout"},
)
@click.argument("pattern", type=PATTERN)
@click.option("-c", "-n", "--count", type=click.IntRange(1), help="End after so many messages.")
@click.option("--timeout", type=DURATION, help="End after this time.")
@click.option("--group", help="Share the messages with the other members of this group.")
@click.option("--raw", is_flag=True, help="Print payloads only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every attribute.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say when it begins to listen.")
@format_option("text", "json", "csv")
@bus_options
def sub(
    *,
    pattern: str,
    count: int | None,
    timeout: float | None,
    group: str | None,
    raw: bool,
    verbose: bool,
    quiet: bool,
    form: Any,
    settings: Mapping[str, Any],
    config: str | None,
) -> int:
    """Print the messages whose topic matches PATTERN, from now on.

    In a pattern * stands for one token and > for the rest: orders.*.created, orders.>

    It needs a bus that other processes can join, such as --bus ipc://agents: direct:// stays within
    one process.
    """
    chosen = load(settings, config)
    require_others(
        chosen,
        pattern,
        "subscribing to messages of",
        instead=f"read its log (`hms-bus log tail -f run.db`); {OTHER_BUS}",
    )
    printer = Printer(
        sys.stdout.buffer,
        "raw" if raw else form,
        coloured=is_coloured(sys.stdout),
        verbose=verbose,
    )

    async def listen() -> int:
        async with make_bus(chosen) as bus, bus.subscribe(pattern, group=group) as messages:
            if not quiet:
                note(f"listening on {pattern} at {chosen.url}")
            try:
                async with asyncio.timeout(timeout):
                    await _print(messages, printer, count)
            except TimeoutError:
                return OK if count is None else NEGATIVE
        return OK

    return run(listen)


async def _print(messages: MessageStream, printer: Printer, count: int | None) -> None:
    shown = 0
    async for message in messages:
        printer.show(message.envelope)
        printer.flush()
        shown += 1
        if shown == count:
            return
