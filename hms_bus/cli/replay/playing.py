"""`hms-bus replay --into`: plays the record to the agents, tells what came of it, and compares."""

import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from hms_bus.cli.colour import is_coloured
from hms_bus.cli.endings import DISCARDED, NEGATIVE, OK
from hms_bus.cli.replay.breaking import Break
from hms_bus.cli.replay.building import opened
from hms_bus.cli.replay.damage import is_asked_for, left_out
from hms_bus.cli.replay.plain import play_plain
from hms_bus.cli.screen import note
from hms_bus.envelope import Envelope
from hms_bus.errors import LogCorruptError, UnrecordedError, UsageError
from hms_bus.replay.comparing import compare
from hms_bus.replay.describing import amount, describe
from hms_bus.replay.rerunning import Original, Rerun
from hms_bus.replay.settings import ReplaySettings
from hms_bus.replay.writing import capturing_to

_COLOURS = {"-": "red", "+": "green", "~": "yellow"}


class Wishes(Struct, frozen=True, kw_only=True):
    """What was asked for besides the settings of the replay.

    `run_log` and `into` are as the user wrote them; `count` is how many differences are listed in
    each part, 0: all.
    """

    run_log: str
    into: str
    build: Callable[[str], Any]
    capture: Path | None
    wants_diff: bool
    ignored: tuple[str, ...]
    count: int
    is_paused: bool
    breaks: Break | None
    loops: bool


class Playing:
    """Replays once, or again and again."""

    def __init__(self, settings: ReplaySettings, wishes: Wishes) -> None:
        self._settings = settings
        self._wishes = wishes
        self._write: Callable[[Envelope], None] | None = None

    async def run(self) -> int:
        """Return the exit status.

        Raises `UsageError` when nothing was played or compared, `UnrecordedError` once all is told
        that came before it, and what `opened` and playing raise.
        """
        async with AsyncExitStack() as stack:
            if self._wishes.capture is not None:
                capturing = capturing_to(self._wishes.capture, self._settings.log)
                self._write = await stack.enter_async_context(capturing)
            if self._settings.effects == "strict":
                stack.enter_context(_unrecorded_told_once())
            while (status := await self._once()) is None:
                pass
            return status

    async def _once(self) -> int | None:
        """Replay once; return the exit status, `None` when it is to be repeated."""
        async with opened(self._settings, self._wishes.into, self._wishes.build) as rerun:
            run = _Pass(self._settings, self._wishes, rerun, self._write)
            await run.play()
            run.tell()
            if self._wishes.loops and run.is_whole:
                return None
            status = run.compare()
            if isinstance(run.failure, LogCorruptError):
                note(left_out(run.failure))
                return DISCARDED
            if run.failure is not None:
                raise run.failure
            return status


class _Pass:
    """The record played once, and what came of it."""

    def __init__(
        self,
        settings: ReplaySettings,
        wishes: Wishes,
        rerun: Rerun,
        write: Callable[[Envelope], None] | None,
    ) -> None:
        self.failure: LogCorruptError | UnrecordedError | None = None
        """What ended it before all that was asked for was played."""
        self._settings = settings
        self._wishes = wishes
        self._rerun = rerun
        self._write = write
        self._has_ended = False
        self._said: list[Envelope] = []
        self._original = Original(rerun) if wishes.wants_diff else None
        rerun.on_output = self._note_output

    @property
    def is_whole(self) -> bool:
        """Whether all was played, and the user has not ended it."""
        return self.failure is None and not self._has_ended

    def _note_output(self, envelope: Envelope) -> None:
        if self._original is not None:
            self._said.append(envelope)
        if self._write is not None:
            self._write(envelope)

    async def play(self) -> None:
        """Play what can be read, up to what is not in the record and must be."""
        try:
            self._has_ended = await self._play_visibly()
        except LogCorruptError as error:
            self.failure = error if is_asked_for(error, self._settings.selector) else None
        except UnrecordedError as error:
            self._add_place(error)
            self.failure = error
        if self._original is not None:
            await self._pass_rest()

    async def _play_visibly(self) -> bool:
        """Play where it can be seen; return whether the user has ended it."""
        wishes = self._wishes
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from hms_bus.cli.replay.live import play_live  # noqa: PLC0415 - only a terminal needs it

            return await play_live(self._rerun, is_paused=wishes.is_paused, breaks=wishes.breaks)
        shows = not wishes.wants_diff and wishes.capture is None
        return await play_plain(self._rerun, breaks=wishes.breaks, shows=shows)

    async def _pass_rest(self) -> None:
        """Gather what was said later to what was played, as far as it can be read."""
        try:
            await self._rerun.stage.pass_rest(self._settings.ahead)
        except LogCorruptError as error:
            if self.failure is None:
                note(f"{error}; what was said behind it is not compared")

    def _add_place(self, error: UnrecordedError) -> None:
        """Note on the error what was being handled."""
        record = self._rerun.stage.now(error.cause)
        if record.envelope.id == error.cause:
            error.add_note(
                f"look at {record.envelope.topic} at position {record.position}, which it was "
                f"handling: `hms-bus why {record.position} {self._wishes.run_log}`"
            )

    def tell(self) -> None:
        """Say what came of it. Raises `UsageError` when nothing was played."""
        rerun = self._rerun
        played, outputs = rerun.stage.played, rerun.stage.capture.count
        facts = [f"{amount(played, 'record')} handled", amount(outputs, "output")]
        if rerun.unrecorded:
            lacking, first = amount(len(rerun.unrecorded), "answer"), rerun.unrecorded[0]
            facts.append(f"{lacking} not in the record (first: {first.what} of {first.agent})")
        if rerun.failed:
            facts.append(f"{amount(rerun.failed, 'handler')} failed")
        note(", ".join(facts))
        breaks = self._wishes.breaks
        if breaks is not None and (failures := breaks.take_failures()) is not None:
            note(f"--break could not be evaluated {failures}")
        if not played and self.is_whole:
            raise UsageError(
                "no record reached an agent: check what is selected (--seq, --since, --until, "
                f"--corr, --only), and to what the agents of {self._wishes.into} subscribe"
            )

    def compare(self) -> int:
        """Tell what differs, if that is wanted; return the exit status.

        Raises `UsageError` when there is nothing to compare.
        """
        original = self._original
        if original is None:
            return OK
        if not original.outputs and not self._said:
            if not self.is_whole:
                return OK
            raise UsageError(
                "nothing to compare: the agents say nothing to what was played, and said nothing "
                "in the record; check what is selected, and that each Bus has the source= it had"
            )
        comparison = compare(
            original.outputs, self._said, ignore=self._wishes.ignored, is_rerun=True
        )
        text = describe(
            comparison,
            names=("recorded", "now"),
            places=(original.positions.__getitem__, None),
            limit=self._wishes.count or None,
        )
        for line in text.splitlines():
            coloured = is_coloured(sys.stdout) and line[:1] in _COLOURS
            click.echo(click.style(line, fg=_COLOURS[line[0]]) if coloured else line)
        return OK if comparison.is_same else NEGATIVE


@contextmanager
def _unrecorded_told_once() -> Generator[None]:
    """Let no handler's failure be logged that the error at the end of a strict replay tells of."""
    logger = logging.getLogger("hms_bus")

    def is_news(record: logging.LogRecord) -> bool:
        return f"{UnrecordedError.__name__}: " not in record.getMessage()

    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
