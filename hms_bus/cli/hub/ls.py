"""`hms-bus hub ls`."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hms_bus.cli.commands import command
from hms_bus.cli.hub.asking import ask_status
from hms_bus.cli.hub.figures import Status
from hms_bus.cli.hub.locks import Watch
from hms_bus.cli.hub.picture import span, used
from hms_bus.cli.options import format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, note, show_table
from hms_bus.errors import BusError, ConfigError, ConnectError
from hms_bus.filelock import read_holder
from hms_bus.ipc.places import Place, find_place

_COLUMNS = (
    Column(name="hub", style="cyan", least=12),
    Column(name="state"),
    Column(name="pid", spare=1),
    Column(name="clients", kind="number"),
    Column(name="up", kind="number", spare=2),
    Column(name="log", least=12, spare=3),
    Column(name="problem", least=20, wraps=True, style="red"),
)
_PATIENCE_S = 2.0


@command(
    "ls",
    examples="""
    hms-bus hub ls
    hms-bus hub ls --format json | jq -r 'select(.state == "running").hub'
    """,
)
@format_option("text", "json", "csv")
def ls(*, form: Form) -> None:
    """List the hubs of this user: those whose sockets are in the runtime folder.

    A hub is running; or it refuses (it wants another token, an admin's, or is of another version);
    or it is silent: there is a process, and it does not answer. What a process that was killed has
    left is stale; the next client that comes replaces it.

    The runtime folder is $HMS_BUS_RUNTIME_DIR, else $XDG_RUNTIME_DIR/hms-bus, else hms-bus-UID in
    the folder for temporary files.
    """
    folder = find_place("any").folder
    rows = run(lambda: _look(folder))
    if not rows:
        note(f"no hubs in {folder}")
    if rows or form != "text":
        show_table(used(_COLUMNS, rows) if form == "text" else _COLUMNS, rows, form, headed=True)


async def _look(folder: Path) -> list[dict[str, Any]]:
    places = await asyncio.to_thread(lambda: list(_places(folder)))
    return await asyncio.gather(*map(_row, places))


def _places(folder: Path) -> Iterator[Place]:
    """Yield the places in `folder` that have a door. Blocks."""
    for name in sorted({path.stem for end in ("sock", "tcp") for path in folder.glob(f"*.{end}")}):
        with suppress(ConfigError):  # a file of somebody else
            yield find_place(name)


async def _row(place: Place) -> dict[str, Any]:
    try:
        return _running(await ask_status(place.url, timeout_s=_PATIENCE_S))
    except ConnectError as error:
        state = "refuses" if error.refused else await asyncio.to_thread(_silent_or_stale, place)
        holder = await asyncio.to_thread(read_holder, place.lock)
        problem = holder if state == "silent" else None if state == "stale" else str(error)
        return _NOTHING | {"hub": place.url, "state": state, "problem": problem}
    except BusError as error:  # it answers, but not what was asked; the others are listed still
        return _NOTHING | {"hub": place.url, "state": "refuses", "problem": str(error)}


_NOTHING = dict.fromkeys(column.name for column in _COLUMNS)


def _running(status: Status) -> dict[str, Any]:
    return _NOTHING | {
        "hub": status.hub.url,
        "state": "running",
        "pid": status.hub.pid,
        "clients": len(status.clients),
        "up": span(status.up_s),
        "log": None if status.log is None else status.log.url,
    }


def _silent_or_stale(place: Place) -> str:
    with Watch(place.lock) as watch:
        return "silent" if watch.is_held else "stale"
