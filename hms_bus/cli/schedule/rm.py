"""`hms-bus schedule rm`."""

import click

from hms_bus.cli.commands import command
from hms_bus.cli.durable.place import Place, open_place, place_options
from hms_bus.cli.log.working import by_option, sender
from hms_bus.cli.running import run
from hms_bus.cli.schedule.finding import Open, read_open
from hms_bus.errors import UsageError
from hms_bus.ids import format_time
from hms_bus.schedules import schedule_record

_NAMED = 5
"""How many of those that are there an error names."""


@command(
    "rm",
    examples="""
    hms-bus schedule rm tea run.db
    hms-bus schedule rm tea --bus ipc://agents
    """,
    endings={1: "another process is writing the log, or something outside failed"},
)
@click.argument("name")
@place_options
@by_option
def rm(*, name: str, place: Place, by: str | None) -> None:
    """End the schedule NAME: what it would still send is not sent.

    Its record stays in the log, and one that ends it is appended. `ls` tells the names: without one
    of its own, that of a message is its id.
    """
    source = sender(by)

    async def look() -> Open:
        async with open_place(place) as log:
            return _named(name, await read_open(log), place)

    async def end() -> None:
        async with open_place(place, writes=True) as log:
            await log.append([schedule_record(name, source, None)])

    found = run(look)
    run(end)
    click.echo(
        f"ended {name}, which was due for {found.message.topic} at {format_time(found.due_ns)}"
    )


def _named(name: str, schedules: list[Open], place: Place) -> Open:
    for each in schedules:
        if each.name == name:
            return each
    names = [each.name for each in schedules]
    known = ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])]) or "none"
    raise UsageError(f"{place.title} has no schedule {name!r} that is open: it has {known}")
