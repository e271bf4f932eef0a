"""`hms-bus durable ls` and `hms-bus durable show`."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from hms_bus.abc import Durable, DurableInfo
from hms_bus.cli.commands import command
from hms_bus.cli.durable.place import Place, open_place, place_options, read_info, read_infos
from hms_bus.cli.options import format_option
from hms_bus.cli.records import escape
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, note, show_facts, show_table
from hms_bus.ids import format_time

_COLUMNS = (
    Column(name="name", style="cyan", least=12),
    Column(name="pattern", style="yellow", least=12),
    Column(name="group", least=8, spare=4),
    Column(name="floor", kind="number", spare=5),
    Column(name="delivered", kind="number", spare=3),
    Column(name="lag", kind="number"),
    Column(name="unacked", kind="number"),
    Column(name="redelivered", kind="number", spare=6),
    Column(name="consumers", kind="number", spare=1),
    Column(name="dead", kind="number", spare=2),
)


@command(
    "ls",
    examples="""
    hms-bus durable ls run.db
    hms-bus durable ls --bus ipc://agents
    hms-bus durable ls run.db --format json | jq 'select(.lag > 1000).name'
    """,
)
@place_options
@format_option("text", "json", "csv")
def ls(*, place: Place, form: Form) -> None:
    """List the durables of LOG.

    All that a durable selects is settled up to `floor`; `delivered` is the last position that was
    delivered. `lag` records wait for their first delivery, behind that or behind an unsettled one
    of their key. `unacked` deliveries are not settled, `redelivered` of them were tried more than
    once; `dead` records are open dead letters (`hms-bus dlq ls`). How many `consumers` there are is
    known where the log is written: a hub's log is asked with --bus.
    """

    async def look() -> list[dict[str, Any]]:
        async with open_place(place) as log:
            return [_row(*found) for found in await read_infos(place, log)]

    rows = run(look)
    if not rows:
        note(f"no durables in {place.title}")
    if form == "text":
        rows = [row | {"group": row["group"] and escape(row["group"])} for row in rows]
    if rows or form != "text":
        show_table(_COLUMNS, rows, form)


def _row(info: DurableInfo, consumers: int | None) -> dict[str, Any]:
    return {
        "name": info.durable.name,
        "pattern": info.durable.pattern,
        "group": info.durable.group,
        "floor": info.floor,
        "delivered": info.delivered,
        "lag": info.lag,
        "unacked": info.unacked,
        "redelivered": info.redelivered,
        "consumers": consumers,
        "dead": len(info.dead),
    }


@command(
    "show",
    examples="""
    hms-bus durable show billing run.db
    hms-bus durable show billing --bus ipc://agents --format json
    """,
)
@click.argument("name")
@place_options
@format_option("text", "json")
def show(*, name: str, place: Place, form: str) -> None:
    """Tell how the durable NAME stands, and what it was told when it was last consumed."""

    async def look() -> tuple[DurableInfo, int | None]:
        async with open_place(place) as log:
            return await read_info(place, log, name)

    info, consumers = run(look)
    if form == "json":
        told = {**msgspec.to_builtins(info.durable), **_row(info, consumers), "dead": info.dead}
        click.echo(msgspec.json.encode(told))
    else:
        show_facts(_facts(info, consumers))


def _facts(info: DurableInfo, consumers: int | None) -> Iterator[tuple[str, str]]:
    durable = info.durable
    yield "durable", durable.name
    yield "pattern", durable.pattern
    yield (
        "group",
        "none, one consumer at a time" if durable.group is None else escape(durable.group),
    )
    yield "began", _start(durable)
    yield "floor", f"{info.floor:,}: settled up to there"
    yield "delivered", f"{info.delivered:,}, with {info.lag:,} to come"
    yield "unacked", f"{info.unacked:,} of at most {durable.max_unacked:,}"
    yield "redelivered", f"{info.redelivered:,} of these, tried more than once"
    yield "consumers", _consumers(consumers)
    yield "ack wait", f"{durable.ack_wait_s:g} s"
    yield "deliveries", f"{durable.max_deliveries or 'any number'} for a record, at most"
    yield "dead letters", f"{len(info.dead):,} open{_hint(info)}"


def _start(durable: Durable) -> str:
    if durable.start_ns is not None:
        return f"at what was recorded since {format_time(durable.start_ns)}"
    match durable.start:
        case int(position):
            return f"at position {position:,}"
        case "beginning":
            return "at the beginning of the log"
        case "end":
            return "at what was appended after it"


def _consumers(count: int | None) -> str:
    if count is None:
        return "not known: another process is writing the log, ask it with --bus"
    return f"{count:,}"


def _hint(info: DurableInfo) -> str:
    return f": hms-bus dlq ls --durable {info.durable.name}" if info.dead else ""
