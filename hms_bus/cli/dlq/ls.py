"""`hms-bus dlq ls`."""

from typing import Any

import click

from hms_bus.cli.commands import command
from hms_bus.cli.dlq.letters import Open, open_letters
from hms_bus.cli.durable.place import Place, open_place, place_options, read_info, read_infos
from hms_bus.cli.options import format_option
from hms_bus.cli.records import escape
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, note, show_table

_COLUMNS = (
    Column(name="letter", kind="number"),
    Column(name="durable", style="cyan", least=8),
    Column(name="position", kind="number"),
    Column(name="topic", style="yellow", least=12, spare=1),
    Column(name="type", style="green", least=8, spare=4),
    Column(name="attempts", kind="number", spare=3),
    Column(name="code", style="red"),
    Column(name="reason", least=20, wraps=True),
    Column(name="when", kind="time", spare=2),
)
_TEXTS = ("type", "code", "reason")


@command(
    "ls",
    examples="""
    hms-bus dlq ls run.db
    hms-bus dlq ls --durable billing --bus ipc://agents
    hms-bus dlq ls run.db --format json | jq -r .code | sort | uniq -c
    """,
)
@place_options
@click.option("--durable", "name", metavar="NAME", help="Only those of this durable.")
@format_option("text", "json", "csv")
def ls(*, place: Place, name: str | None, form: Form) -> None:
    """List the open dead letters of LOG, the oldest first.

    For each: the position of the letter, the durable, position, topic and event type of the
    original, how often it was tried, a status code, the reason, and when it died.
    """

    async def look() -> list[Open]:
        async with open_place(place) as log:
            if name is not None:
                infos = [await read_info(place, log, name)]
            else:
                infos = await read_infos(place, log)
            return await open_letters(log, (info for info, _ in infos))

    rows = [_row(each) for each in run(look)]
    if not rows:
        note(f"no open dead letters {f'of {name} ' if name else ''}in {place.title}")
    if form == "text":
        rows = [row | {key: row[key] and escape(row[key]) for key in _TEXTS} for row in rows]
    if rows or form != "text":
        show_table(_COLUMNS, rows, form)


def _row(opened: Open) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column.name for column in _COLUMNS)
    row |= {"durable": opened.durable, "position": opened.position}
    letter = opened.letter
    if letter is None:
        return row | {"reason": "its letter is not in the log any more"}
    return row | {
        "letter": letter.record.position,
        "topic": letter.original.topic,
        "type": letter.original.type,
        "attempts": letter.dead.attempts,
        "code": letter.dead.code,
        "reason": letter.dead.reason,
        "when": letter.record.recorded_ns,
    }
