"""`hms-bus schedule ls`."""

from typing import Any

from hms_bus.cli.commands import command
from hms_bus.cli.durable.place import Place, open_place, place_options
from hms_bus.cli.options import format_option
from hms_bus.cli.records import escape, payload_text
from hms_bus.cli.running import run
from hms_bus.cli.schedule.finding import Open, read_open
from hms_bus.cli.screen import Column, Form, note, show_table

_WHEN = (
    Column(name="name", style="cyan", least=12),
    Column(name="due", kind="time"),
    Column(name="cron", least=9),
    Column(name="timezone", least=8, spare=3),
)
_COLUMNS = (
    *_WHEN,
    Column(name="topic", style="yellow", least=12, spare=1),
    Column(name="type", style="green", least=8, spare=4),
    Column(name="source", least=8, spare=5),
    Column(name="payload", least=20, spare=2),
)
_WHOLE = (*_WHEN, Column(name="position", kind="number"), Column(name="event"))
_TEXTS = ("cron", "timezone", "type", "source")


@command(
    "ls",
    examples="""
    hms-bus schedule ls run.db
    hms-bus schedule ls --bus ipc://agents
    hms-bus schedule ls run.db --format json | jq 'select(.event.topic == "reminders.tea")'
    """,
)
@place_options
@format_option("text", "json", "csv")
def ls(*, place: Place, form: Form) -> None:
    """List the schedules of LOG that are to be sent, the next one first.

    For each: its name, when it is `due` next, `cron` and time zone if it comes again, then topic,
    type, source and payload of the message. JSON has the whole message as `event`, and the position
    of the schedule. One whose time is over is sent by the next bus or hub that opens the log.
    """

    async def look() -> list[Open]:
        async with open_place(place) as log:
            return await read_open(log)

    found = run(look)
    if not found:
        note(f"no schedules in {place.title}")
    if form == "json":
        show_table(_WHOLE, map(_row, found), form)
    elif found or form == "csv":
        show_table(_COLUMNS, map(_row if form == "csv" else _shown, found), form)


def _row(found: Open) -> dict[str, Any]:
    schedule, message = found.schedule, found.message
    return {
        "name": found.name,
        "due": found.due_ns,
        "cron": schedule.cron,
        "timezone": schedule.timezone if schedule.cron else None,
        "position": found.position,
        "event": schedule.envelope,
        "topic": message.topic,
        "type": message.type,
        "source": message.source,
        "payload": payload_text(message),
    }


def _shown(found: Open) -> dict[str, Any]:
    row = _row(found)
    return row | {name: row[name] and escape(row[name]) for name in _TEXTS}
