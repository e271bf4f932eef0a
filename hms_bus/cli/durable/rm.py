"""`hms-bus durable rm`."""

import click

from hms_bus.abc import DurableInfo
from hms_bus.cli.commands import command
from hms_bus.cli.durable.confirming import is_confirmed, yes_option
from hms_bus.cli.durable.place import Place, open_place, place_options, read_info
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.running import run
from hms_bus.cli.screen import note


@command(
    "rm",
    examples="""
    hms-bus durable rm billing run.db
    hms-bus durable rm billing --bus ipc://agents --yes
    """,
    endings={1: "it has a consumer, or another process is writing the log, or the answer was no"},
)
@click.argument("name")
@place_options
@yes_option
def rm(*, name: str, place: Place, yes: bool) -> int:
    """Remove the durable NAME: where it stands, what was tried, what is dead.

    Records stay in the log, dead letters too. Who consumes a durable of that name begins anew.
    """

    async def look() -> DurableInfo:
        async with open_place(place) as log:
            info, _ = await read_info(place, log, name)
            return info

    async def remove() -> None:
        async with open_place(place, writes=True) as log:
            await log.forget(name)

    info = run(look)
    lost = f"{info.unacked:,} unsettled deliveries and {len(info.dead):,} open dead letters"
    if not is_confirmed(f"remove {name} ({info.durable.pattern}) with {lost}", yes=yes):
        note("nothing was removed")
        return NEGATIVE
    run(remove)
    click.echo(f"removed {name}, which had settled all up to position {info.floor}")
    return OK
