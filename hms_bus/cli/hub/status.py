"""`hms-bus hub status`."""

import click
import msgspec

from hms_bus.cli.commands import command
from hms_bus.cli.hub.asking import ask_status
from hms_bus.cli.hub.naming import hub_url
from hms_bus.cli.hub.options import hub_argument
from hms_bus.cli.hub.picture import (
    CLIENTS,
    SUBSCRIPTIONS,
    client_rows,
    facts,
    subscription_rows,
    used,
)
from hms_bus.cli.options import format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import show_facts, show_table


@command(
    "status",
    examples="""
    hms-bus hub status
    hms-bus hub status shop
    hms-bus hub status shop --format json | jq .totals
    """,
    endings={1: "no hub listens there"},
)
@hub_argument
@format_option("text", "json")
def status(*, name: str | None, form: str) -> None:
    """Show the hub NAME: its clients and subscriptions, and what they got, wait for and lost.

    Counts are messages since the hub began. `queued` waits in the hub, `load` was delivered and is
    not handled yet, `credit` is for how many more a client has said that it has room, `waiting` is
    how many publishers a client holds back. Inboxes, to which answers come, are left out unless
    they are behind.
    """
    url = hub_url(name)
    told = run(lambda: ask_status(url))
    if form == "json":
        click.echo(msgspec.json.encode(told))
        return
    show_facts(facts(told))
    for columns, rows in (
        (CLIENTS, client_rows(told)),
        (SUBSCRIPTIONS, subscription_rows(told)),
    ):
        if rows:
            click.echo()
            show_table(used(columns, rows), rows, "text", headed=True)
