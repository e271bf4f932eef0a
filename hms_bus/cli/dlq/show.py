"""`hms-bus dlq show`."""

import re
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, Literal

import click
import msgspec
from msgspec import Raw

from hms_bus import jsonformat
from hms_bus.abc import ConsumingLog, Selector
from hms_bus.attributes import to_values
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.dlq.letters import Letter, read_letters, to_letter
from hms_bus.cli.durable.place import Place, open_place, place_options
from hms_bus.cli.options import format_option
from hms_bus.cli.records import escape, highlight, payload_text, raw_payload
from hms_bus.cli.running import run
from hms_bus.cli.screen import local_time, show_facts
from hms_bus.envelope import Envelope
from hms_bus.errors import UsageError
from hms_bus.ids import format_time

State = Literal["open", "redriven", "forgotten"]

_STATES: dict[State, str] = {
    "open": "open",
    "redriven": "redriven since",
    "forgotten": "its durable was removed",
}
_POSITION = re.compile(r"[1-9][0-9]{0,17}")
_LISTED = 10


@command(
    "show",
    examples="""
    hms-bus dlq show 17 run.db
    hms-bus dlq show 01985b2e-7a3c run.db
    hms-bus dlq show 17 run.db --format json | jq .original.data
    hms-bus dlq show 17 run.db --raw > payload.bin
    """,
)
@click.argument("name", metavar="POSITION|ID")
@place_options
@format_option("text", "json")
@click.option("--raw", is_flag=True, help="Print the payload of the original only.")
def show(*, name: str, place: Place, form: str, raw: bool) -> None:
    """Show a dead letter with the original.

    It is named by its position, by its id, or by the start of that; or by the position or id of the
    original: then it is the last one of that record.
    """

    async def look() -> tuple[Letter, State]:
        async with open_place(place) as log:
            letter = await _find(log, name)
            return letter, await _state(log, letter)

    letter, state = run(look)
    if raw:
        sys.stdout.buffer.write(raw_payload(letter.original, None, None))
    elif form == "json":
        click.echo(msgspec.json.encode(_told(letter, state)))
    else:
        show_facts(_facts(letter, state))
        if payload := _payload(letter.original):
            click.echo(f"\n{payload}")


async def _find(log: ConsumingLog, name: str) -> Letter:
    """Return the letter that is meant. Raises `UsageError` when there is none, or several."""
    position = int(name) if _POSITION.fullmatch(name) else None
    if position is not None and (letter := await _letter_at(log, position)):
        return letter
    found: dict[tuple[str, int], Letter] = {}
    async with aclosing(read_letters(log)) as letters:
        async for letter in letters:
            if letter.record.envelope.id == name:
                return letter
            ids = letter.record.envelope.id, letter.original.id
            if letter.dead.position == position or any(one.startswith(name) for one in ids):
                found[letter.key] = letter
    if len(found) == 1:
        return next(iter(found.values()))
    raise UsageError(_ambiguous(name, list(found.values())) if found else _unknown(name))


async def _letter_at(log: ConsumingLog, position: int) -> Letter | None:
    if position > (await log.head()).position:
        return None
    async for record in log.read(Selector(first=position, last=position)):
        return to_letter(record)
    return None


def _unknown(name: str) -> str:
    return (
        f"there is no dead letter {name!r} in the log: `hms-bus dlq ls` lists those that are open"
    )


def _ambiguous(name: str, found: list[Letter]) -> str:
    lines = [
        f"  {letter.record.position}  {letter.dead.durable}  {escape(letter.original.id)}"
        for letter in found[:_LISTED]
    ]
    if len(found) > _LISTED:
        lines.append(f"  … and {len(found) - _LISTED} more")
    return "\n".join((f"{len(found)} dead letters fit {name!r}, take a position:", *lines))


async def _state(log: ConsumingLog, letter: Letter) -> State:
    infos = {info.durable.name: info for info in await log.durables()}
    info = infos.get(letter.dead.durable)
    if info is None:
        return "forgotten"
    if letter.dead.position not in info.dead:
        return "redriven"
    last = letter
    async with aclosing(read_letters(log, letter.dead.durable)) as letters:
        async for other in letters:
            last = other if other.key == letter.key else last
    return "open" if last.record.position == letter.record.position else "redriven"


def _told(letter: Letter, state: State) -> dict[str, Any]:
    dead = letter.dead
    return {
        "letter": letter.record.position,
        "id": letter.record.envelope.id,
        "when": format_time(letter.record.recorded_ns),
        "state": state,
        "durable": dead.durable,
        "position": dead.position,
        "recorded": format_time(dead.recorded_ns),
        "attempts": dead.attempts,
        "code": dead.code,
        "reason": dead.reason,
        "original": Raw(jsonformat.encode(letter.original)),
    }


def _facts(letter: Letter, state: State) -> Iterator[tuple[str, str]]:
    dead, original = letter.dead, letter.original
    record = letter.record
    yield "letter", f"position {record.position}, {_STATES[state]}, id {record.envelope.id}"
    yield "died", f"{_time(record.recorded_ns)} for {dead.durable}"
    yield "tried", "once" if dead.attempts == 1 else f"{dead.attempts} times"
    yield "why", f"{_code(escape(dead.code))} {escape(dead.reason)}"
    yield "original", f"position {dead.position}, recorded {_time(dead.recorded_ns)}"
    for name, value in to_values(original).items():
        yield name, f"<{value.hex()}>" if isinstance(value, bytes) else escape(str(value))


def _time(time_ns: int) -> str:
    return local_time(time_ns) if sys.stdout.isatty() else format_time(time_ns)


def _code(code: str) -> str:
    return click.style(code, fg="red", bold=True)


def _payload(original: Envelope) -> str:
    """Return the payload: JSON in lines, anything else in one."""
    text = payload_text(original)
    try:
        lines = msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        return text
    return highlight(lines) if is_coloured(sys.stdout) else lines
