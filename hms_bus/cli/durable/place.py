"""Which log's durables are meant, that of a file or that of a hub, and opening it."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from hms_bus.abc import ConsumingLog, DurableInfo, EventLog
from hms_bus.cli.hub.locks import Watch
from hms_bus.cli.hub.naming import is_behind_hub
from hms_bus.cli.log.opening import configured, file_of, log_url, reading_url
from hms_bus.cli.options import AnyFunction, log_argument
from hms_bus.errors import ConnectError, LogLockedError, UnsupportedError, UsageError
from hms_bus.log.lock import lock_path
from hms_bus.plugins import get_codec, open_log, open_transport, parse_address

_THROUGH_THE_HUB = (
    "if that is a hub, go through it, --bus ipc://NAME in place of the file (`hms-bus hub ls` "
    "tells its name)"
)


class Place(Struct, frozen=True, kw_only=True):
    """The log behind `bus`, or at `log`, both URLs; with both, at `log` when there is no hub."""

    bus: str | None = None
    log: str | None = None

    @property
    def title(self) -> str:
        """What the user calls it."""
        return parse_address(self.bus or self.log or "").bare_url


def place_options(function: AnyFunction) -> AnyFunction:
    """Add what names a log: the argument LOG, and `--bus`; the function gets them as `place`."""

    @wraps(function)
    def gathered(*args: Any, log: str | None, bus: str | None, **others: Any) -> Any:
        return function(*args, place=find_place(log, bus), **others)

    option = click.option(
        "--bus", metavar="URL", help="The log of this bus's hub, in place of LOG."
    )
    return log_argument(option(gathered))


def find_place(log: str | None, bus: str | None) -> Place:
    """Return where the durables are: in LOG, behind the bus, or where the configuration says.

    Raises `UsageError`.
    """
    if log is not None and bus is not None:
        raise UsageError("LOG and --bus both name a log: write one of them")
    if bus is not None:
        return Place(bus=bus)
    if log is None and is_behind_hub((config := configured()).url):
        return Place(bus=config.url, log=config.log and log_url(config.log))
    return Place(log=log_url(log))


@asynccontextmanager
async def open_place(place: Place, *, writes: bool = False) -> AsyncGenerator[ConsumingLog]:
    """Open the log; a file for reading only, unless something `writes`. Never starts a hub.

    Raises `UnsupportedError` for a log that keeps no durables, and what opening raises.
    """
    async with AsyncExitStack() as scope:
        log = await _open_hub(scope, place)
        if log is None:
            log = await _open_file(scope, place.log or "", writes=writes)
        if not isinstance(log, ConsumingLog):
            raise UnsupportedError("durable subscriptions", place.title)
        yield log


async def _open_hub(scope: AsyncExitStack, place: Place) -> EventLog | None:
    """Return the log of the hub; `None` when there is none, and the log is known without it."""
    if place.bus is None:
        return None
    url = place.bus
    if is_behind_hub(url) and "spawn" not in parse_address(url).options:
        url = f"{url}{'&' if '?' in url else '?'}spawn=false"
    try:
        transport = await scope.enter_async_context(open_transport(url, codec=get_codec("json")))
    except ConnectError as error:
        if place.log is None or error.refused:
            raise
        return None
    if transport.log is None:
        raise UnsupportedError("a log", place.title, "name the file of one (run.db)")
    return transport.log


async def _open_file(scope: AsyncExitStack, url: str, *, writes: bool) -> EventLog:
    if not writes:
        url = await asyncio.to_thread(reading_url, url)
    try:
        return await scope.enter_async_context(open_log(url))
    except LogLockedError as error:
        error.add_note(_THROUGH_THE_HUB)
        raise


async def read_infos(place: Place, log: ConsumingLog) -> list[tuple[DurableInfo, int | None]]:
    """Return how each durable stands, and how many consumers it has, if that can be known.

    It cannot where another process is writing: only that one knows.
    """
    is_known = "log-durable" in log.capabilities or not await asyncio.to_thread(_has_writer, place)
    return [(info, info.consumers if is_known else None) for info in await log.durables()]


def _has_writer(place: Place) -> bool:
    """Whether a process has the file open for writing. Blocks, shortly."""
    file = None if place.log is None else file_of(place.log)
    if file is None:
        return False
    with Watch(lock_path(Path(os.path.realpath(file)))) as watch:
        return watch.is_held


async def read_info(place: Place, log: ConsumingLog, name: str) -> tuple[DurableInfo, int | None]:
    """Return how one durable stands, as above. Raises `UsageError` when there is none."""
    infos = await read_infos(place, log)
    for info, consumers in infos:
        if info.durable.name == name:
            return info, consumers
    known = ", ".join(info.durable.name for info, _ in infos) or "none"
    raise UsageError(f"{place.title} has no durable {name!r}: it has {known}")
