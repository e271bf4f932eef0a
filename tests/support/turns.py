"""Waiting without a clock."""

import asyncio


async def turns(count: int = 5) -> None:
    """Let the event loop turn, so that those who can go on do."""
    for _ in range(count):
        await asyncio.sleep(0)
