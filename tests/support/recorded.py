"""A small log on disk, made by the library, for tests of what reads it."""

import asyncio
from pathlib import Path

from hms_bus import new_envelope
from hms_bus.plugins import open_log

CONVERSATION = "conversation-1"


def record(path: Path) -> Path:
    """Append six events to the log at `path`: orders, a note, octets, and one without payload."""
    envelopes = [
        new_envelope("orders.eu.created", {"id": 1}, source="/shop", type="Order"),
        new_envelope("orders.us.created", {"id": 2}, source="/shop", type="Order"),
        new_envelope(
            "orders.eu.paid", {"id": 1}, source="/bank", type="Payment", correlationid=CONVERSATION
        ),
        new_envelope("notes.new", "two\nlines\x1b[2J", source="/desk", type="Note", subject="n1"),
        new_envelope("scans.new", bytes(range(20)), source="/desk", type="Scan"),
        new_envelope("orders.eu.closed", source="/shop", type="Closed", correlationid=CONVERSATION),
    ]

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            for envelope in envelopes:
                await log.append([envelope])

    asyncio.run(append())
    return path
