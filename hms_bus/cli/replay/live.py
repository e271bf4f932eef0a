"""A replay on a terminal: a picture of where it is, and keys that control it."""

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hms_bus.abc import Record
from hms_bus.cli.colour import wants_colour
from hms_bus.cli.records import payload_text
from hms_bus.cli.replay.breaking import Break
from hms_bus.cli.screen import local_time
from hms_bus.envelope import Envelope
from hms_bus.replay.rerunning import Rerun

RATES: tuple[float | None, ...] = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, None)
_KEYS = {b" ": "pause", b"q": "quit", b"\x1b[C": "next", b"\x1b[A": "faster", b"\x1b[B": "slower"}
_REDRAW_S = 0.05
_LINES = 12


class Controls:
    """What the user wants; `changed` is set with every key."""

    def __init__(self, *, is_paused: bool, rate: float | None) -> None:
        self.is_paused = is_paused
        self.rate = rate
        self.steps = 0
        self.has_ended = False
        self.changed = asyncio.Event()

    def press(self, keys: bytes) -> None:
        """Take what a terminal sends for keys; other keys mean nothing."""
        while keys:
            key = next((key for key in _KEYS if keys.lower().startswith(key.lower())), keys[:1])
            keys = keys[len(key) :]
            self._act(_KEYS.get(key, ""))
        self.changed.set()

    def _act(self, action: str) -> None:
        if action == "pause":
            self.is_paused = not self.is_paused
        elif action == "next":
            self.is_paused = True
            self.steps += 1
        elif action == "quit":
            self.has_ended = True
        elif action in {"faster", "slower"}:
            self.rate = _neighbour(self.rate, 1 if action == "faster" else -1)


def _neighbour(rate: float | None, step: int) -> float | None:
    """Return the next rate up or down; from one that is none of `RATES`, the closest of those."""
    if rate in RATES:
        place = RATES.index(rate) + step
        return RATES[max(0, min(place, len(RATES) - 1))]
    others = [known for known in RATES if known is not None]
    above = [known for known in others if known > (rate or 0)]
    below = [known for known in others if known < (rate or 0)]
    if step > 0:
        return above[0] if above else None
    return below[-1] if below else others[0]


async def play_live(rerun: Rerun, *, is_paused: bool, breaks: Break | None) -> bool:
    """Play to the end and show it; return whether the user has ended it before."""
    controls = Controls(is_paused=is_paused, rate=rerun.stage.pace.rate)
    last = rerun.stage.settings.selector.last or (await rerun.stage.log.head()).position
    console = Console(no_color=not wants_colour())
    picture = _Picture(rerun, controls, last)
    broken_at = 0
    with Live(console=console, auto_refresh=False) as live, _keys(controls):
        while not controls.has_ended and (upcoming := await rerun.stage.upcoming()):
            record = upcoming[0]
            if breaks is not None and record.position != broken_at and breaks(record):
                controls.is_paused, controls.steps, broken_at = True, 0, record.position
            if picture.is_stale or controls.is_paused:
                live.update(picture.draw(record), refresh=True)
                await asyncio.sleep(0)
            if await _is_due(controls, rerun, record):
                played = await rerun.step()
                outputs = rerun.take_outputs()
                if played is not None:
                    picture.note(played, outputs)
        live.update(picture.draw(None), refresh=True)
    return controls.has_ended


async def _is_due(controls: Controls, rerun: Rerun, record: Record) -> bool:
    """Wait for the record's time, a key, or the next picture; return whether it shall be played."""
    pace = rerun.stage.pace
    if pace.rate != controls.rate:
        pace.rate = controls.rate
    if controls.steps:
        controls.steps -= 1
        pace.restart()
        return True
    if controls.is_paused:
        pace.restart()
        await _wait(controls, None)
        return False
    left_s = pace.due_in_s(record.recorded_ns)
    if left_s > 0:
        await _wait(controls, min(left_s, _REDRAW_S))
        return False
    return True


async def _wait(controls: Controls, timeout_s: float | None) -> None:
    controls.changed.clear()
    try:
        async with asyncio.timeout(timeout_s):
            await controls.changed.wait()
    except TimeoutError:
        return


class _Picture:
    """What is shown: how far it is, the last records with what was said to them, and the keys."""

    def __init__(self, rerun: Rerun, controls: Controls, last: int) -> None:
        self._rerun = rerun
        self._controls = controls
        self._last = last
        self._lines: deque[Text] = deque(maxlen=_LINES)
        self._drawn_s = 0.0

    @property
    def is_stale(self) -> bool:
        return time.monotonic() - self._drawn_s > _REDRAW_S

    def note(self, record: Record, outputs: list[Envelope]) -> None:
        envelope = record.envelope
        if envelope.topic.startswith("$") and not outputs:
            return
        moment = local_time(record.recorded_ns)[11:]
        self._add(f"{record.position:>7} {moment}", "->", "cyan", envelope)
        for output in outputs:
            self._add(" " * 20, "<-", "green", output)

    def _add(self, place: str, arrow: str, style: str, envelope: Envelope) -> None:
        self._lines.append(
            Text.assemble(
                (f"{place} ", "dim"),
                (f"{arrow} ", style),
                (envelope.topic, f"bold {style}"),
                (f" {envelope.source} ", "dim"),
                payload_text(envelope)[:400],
                no_wrap=True,
                overflow="ellipsis",
            )
        )

    def draw(self, upcoming: Record | None) -> Group:
        self._drawn_s = time.monotonic()
        stage, controls = self._rerun.stage, self._controls
        done = Table.grid(padding=(0, 1))
        rate = "max" if controls.rate is None else f"{controls.rate:g}x"
        state = "ended" if upcoming is None else "paused" if controls.is_paused else "playing"
        done.add_row(
            ProgressBar(total=max(1, self._last), completed=stage.position, width=30),
            f"{stage.position}/{self._last}",
            local_time(stage.now(None).recorded_ns) if stage.position else "",
            Text(f"{state} {rate}", style="bold yellow" if controls.is_paused else "bold"),
            f"{stage.capture.count} outputs",
        )
        coming = Text(no_wrap=True, overflow="ellipsis")
        if upcoming is not None:
            coming.append(f"next: {upcoming.position} {upcoming.envelope.topic}", style="dim")
        keys = Text("space pause   → next   ↑↓ rate   q quit", style="dim")
        return Group(*self._lines, done, *((coming, keys) if upcoming is not None else ()))


@contextmanager
def _keys(controls: Controls) -> Generator[None]:
    """Let keys control; they are not shown meanwhile."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # noqa: PLC0415 - not everywhere, and not without a terminal
    import tty  # noqa: PLC0415 - as above

    terminal = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    usual = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)  # what was typed before counts, also in a loop
    loop.add_reader(terminal, lambda: controls.press(os.read(terminal, 64)))
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, usual)
