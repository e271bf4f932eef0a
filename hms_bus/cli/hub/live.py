"""A hub's figures on a terminal, redrawn in place."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hms_bus.cli.colour import wants_colour
from hms_bus.cli.hub.asking import statuses
from hms_bus.cli.hub.figures import Status
from hms_bus.cli.hub.picture import moving_facts, moving_tables
from hms_bus.cli.screen import grid


async def redraw(url: str, interval_s: float, count: int | None) -> None:
    """Show the hub at `url`, anew every interval, `count` times or until q is pressed.

    Raises `ConnectError` when there is no hub (any more).
    """
    console = Console(no_color=not wants_colour())
    before: Status | None = None
    shown = 0
    async with aclosing(statuses(url, interval_s)) as answers:
        first = await anext(answers)  # what goes wrong at once is told on the usual screen
        with (
            Live(console=console, screen=True, auto_refresh=False) as live,
            _until_key("q") as ended,
        ):
            now: Status | None = first
            while now is not None:
                live.update(_picture(now, before, console.width), refresh=True)
                shown += 1
                if shown == count:
                    return
                before, now = now, await _next_unless(ended, answers)


async def _next_unless(ended: asyncio.Event, answers: AsyncGenerator[Status]) -> Status | None:
    """Return the next status, `None` when the user has had enough."""
    getting = asyncio.ensure_future(anext(answers))
    ending = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
        return None if ending.done() else getting.result()
    finally:
        for task in (getting, ending):
            task.cancel()
        await asyncio.gather(getting, ending, return_exceptions=True)


def _picture(now: Status, before: Status | None, width: int) -> Group:
    parts: list[Any] = [
        Text.assemble((f"{name:<8} ", "bold"), text, no_wrap=True, overflow="ellipsis")
        for name, text in moving_facts(now, before)
    ]
    for columns, rows in moving_tables(now, before):
        parts += [Text(), grid(columns, rows, width)]
    return Group(*parts, Text("\nq ends", style="dim"))


@contextmanager
def _until_key(key: str) -> Generator[asyncio.Event]:
    """Give an event that is set when `key` is pressed; keys are not shown meanwhile."""
    pressed = asyncio.Event()
    if not sys.stdin.isatty():
        yield pressed
        return
    import termios  # noqa: PLC0415 - not everywhere, and not without a terminal
    import tty  # noqa: PLC0415 - as above

    terminal = sys.stdin.fileno()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if key.encode() in os.read(terminal, 64).lower():
            pressed.set()

    usual = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    loop.add_reader(terminal, read)
    try:
        yield pressed
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, usual)
