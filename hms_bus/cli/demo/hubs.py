"""The hub that the demo finds, or leaves behind."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from hms_bus.cli.hub.asking import ask_status
from hms_bus.cli.hub.naming import is_behind_hub
from hms_bus.errors import BusError, ConnectError
from hms_bus.transports.ipc.asking import ask


@asynccontextmanager
async def borrowed_hub(url: str) -> AsyncGenerator[str | None]:
    """Give the log of the hub at `url`, `None` without a hub or log; end a hub that is new then.

    One that the demo's own clients started would stay for a while, and keep the demo's log from the
    next run of the demo. One that others use meanwhile stays.
    """
    if not is_behind_hub(url):
        yield None
        return
    try:
        found = await ask_status(url)
    except ConnectError:
        found = None
    try:
        yield None if found is None or found.log is None else found.log.url
    finally:
        if found is None:
            with suppress(BusError):
                await _end_if_unused(url)


async def _end_if_unused(url: str) -> None:
    status = await ask_status(url)
    if status.hub.spawned and not status.clients:
        await ask(url, "stop")
