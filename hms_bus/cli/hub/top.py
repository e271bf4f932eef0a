"""`hms-bus hub top`."""

import os
import sys
from collections.abc import Callable
from contextlib import aclosing

import click
import msgspec

from hms_bus.cli.commands import command
from hms_bus.cli.hub.asking import statuses
from hms_bus.cli.hub.figures import Status, client_rates, hub_rates
from hms_bus.cli.hub.naming import hub_url
from hms_bus.cli.hub.options import hub_argument
from hms_bus.cli.hub.picture import moving_facts, moving_tables
from hms_bus.cli.options import DURATION, format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import show_facts, show_table
from hms_bus.errors import UsageError

Show = Callable[[Status, Status | None], None]
"""Told a status and the one before it; the rates are those of the time between."""

_SHORTEST_S = 0.1


@command(
    "top",
    examples="""
    hms-bus hub top
    hms-bus hub top shop --interval 5s
    hms-bus hub top shop -c 12 --interval 5s --format json > minute.jsonl
    """,
    endings={1: "no hub listens there, or it has ended"},
)
@hub_argument
@click.option(
    "--interval", type=DURATION, default=1.0, help="How often, and rates over what. [default: 1s]"
)
@click.option("-c", "-n", "--count", type=click.IntRange(1), help="End after so many pictures.")
@format_option("text", "json")
def top(*, name: str | None, interval: float, count: int | None, form: str) -> None:
    """Watch the hub NAME: messages per second of each client, what is queued, what was dropped.

    The busiest client comes first; below stand the subscriptions that are behind, or have lost
    messages. A terminal is redrawn in place until q or Ctrl-C. Elsewhere a picture per interval is
    printed, the first one after one interval.
    """
    if interval < _SHORTEST_S:
        raise UsageError(f"--interval is {interval:g}: the shortest is {_SHORTEST_S:g} seconds")
    url = hub_url(name)
    if form == "text" and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from hms_bus.cli.hub.live import redraw  # noqa: PLC0415 - only a terminal needs it

        run(lambda: redraw(url, interval, count))
    else:
        run(lambda: _print(url, interval, count, _show_json if form == "json" else _show_text))


async def _print(url: str, interval_s: float, count: int | None, show: Show) -> None:
    before: Status | None = None
    shown = 0
    async with aclosing(statuses(url, interval_s)) as answers:
        async for now in answers:
            if before is not None:
                show(now, before)
                sys.stdout.flush()
                shown += 1
            if shown == count:
                return
            before = now


def _show_text(now: Status, before: Status | None) -> None:
    show_facts(moving_facts(now, before))
    for columns, rows in moving_tables(now, before):
        click.echo()
        show_table(columns, rows, "text", headed=True)
    click.echo()


def _show_json(now: Status, before: Status | None) -> None:
    own = client_rates(now, before)
    picture = {
        "taken_ns": now.taken_ns,
        "rates": hub_rates(now, before),
        "totals": now.totals,
        "clients": [
            {
                "number": client.number,
                "name": client.name,
                "pid": client.pid,
                "rates": own.get(client.number),
                "queued": client.queued,
                "queued_bytes": client.queued_bytes,
                "dropped": client.dropped,
            }
            for client in now.clients
        ],
    }
    click.echo(msgspec.json.encode(picture))
