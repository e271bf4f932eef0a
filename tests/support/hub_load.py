"""Clients that fill a hub, and what they find out about it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import raw_client as raw
from tests.support.hub_process import HubProcess
from tests.support.raw_client import RawClient

MIB = 2**20
SMALL = """
[limits]
max_client_bytes = 4_194_304
max_bytes = 16_777_216
max_window = 100
"""
SLACK = 24 * MIB
"""What a hub may take above what it holds: buffers that were written and not read, copies of them,
what the allocator keeps."""


@asynccontextmanager
async def subscribed(
    hub: HubProcess, pattern: str = "flood.>", **members: Any
) -> AsyncGenerator[RawClient]:
    async with RawClient.welcomed(hub.place.socket) as client:
        await client.send(raw.subscribe(1, pattern, **members))
        await client.expect("DONE", call=1)
        yield client


async def call(client: RawClient, number: int, address: str, *documents: bytes) -> int:
    """Publish with a CALL, and return the window that its answer gives."""
    await client.send(raw.call(number, address, *documents))
    return (await client.expect("DONE", call=number)).content["window"]


def figures_of(figures: dict[str, Any], pattern: str) -> dict[str, Any]:
    """Return the figures of the client that has subscribed to `pattern`."""
    for client in figures["clients"]:
        if pattern in [subscription["pattern"] for subscription in client["subscriptions"]]:
            return client
    raise AssertionError(f"nobody has subscribed to {pattern}: {figures}")


async def until_held_back(hub: HubProcess) -> int:
    """Return when the hub reads nothing more of who sends; then it has received so many."""
    figures = await hub.until(lambda figures: figures["totals"]["queued_bytes"] > 16 * MIB)
    times = 0
    while times < 3:
        before, figures = figures, await hub.status()
        times = times + 1 if figures["totals"]["received"] == before["totals"]["received"] else 0
    assert figures["totals"]["queued_bytes"] < 17 * MIB
    return figures["totals"]["received"]


async def echo(client: RawClient) -> None:
    """Send oneself a message and wait for it, as somebody who has nothing to do with the rest."""
    await client.send(raw.call(1, "other.echo", b"!"))
    await client.documents(1)
    await client.expect("DONE", call=1)
