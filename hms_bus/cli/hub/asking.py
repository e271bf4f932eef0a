"""Asking a hub, without starting one."""

import asyncio
from collections.abc import AsyncGenerator

from hms_bus.cli.hub.figures import Status, read_status
from hms_bus.transports.ipc.asking import ask


async def ask_status(url: str, *, timeout_s: float = 5.0) -> Status:
    """Return the hub's figures. Raises `ConnectError` when there is none, `RefusedError`."""
    return read_status(await ask(url, "status", timeout_s=timeout_s))


async def statuses(url: str, interval_s: float) -> AsyncGenerator[Status]:
    """Yield the figures now and once per interval, however long the hub takes to answer."""
    clock = asyncio.get_running_loop().time
    due_s = clock()
    while True:
        yield await ask_status(url)
        due_s = max(due_s + interval_s, clock())
        await asyncio.sleep(due_s - clock())
