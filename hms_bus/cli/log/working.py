"""What the commands share that work on log files: which file, who does it, work in a thread."""

import asyncio
import getpass
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import click

from hms_bus.cli.log.opening import configured, file_of, log_url
from hms_bus.cli.options import LOG, AnyFunction
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.errors import UsageError
from hms_bus.log.tools.steps import Report

T = TypeVar("T")

PATH = click.Path(dir_okay=False, path_type=Path)

required_log = click.argument("log", type=LOG)
new_log_option = click.option(
    "-o", "--output", "target", type=PATH, required=True, metavar="NEW", help="The log to make."
)


def by_option(function: AnyFunction) -> AnyFunction:
    """Add `--by`, who does it."""
    return click.option("--by", metavar="SOURCE", help="Who does it. [default: you]")(function)


def log_file(name: str | None) -> Path:
    """Return the file of the log `name`. Raises `UsageError` for a log that is no file."""
    path = file_of(name)
    if path is None:
        raise UsageError(
            f"{log_url(name)} is no file: name the log file (run.db); that of a hub is shown by "
            "`hms-bus hub status`"
        )
    return path


def new_file(target: Path) -> Path:
    """Return `target`, the log to make. Raises `UsageError` for a pipe."""
    if str(target) == "-":
        raise UsageError(
            "a log is a file that is written in many places, a pipe cannot be: name a file, or "
            "write to a pipe with `hms-bus log export`"
        )
    return target


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sender(by: str | None) -> str:
    """Return who does it, a source: what was said, or configured, or the user."""
    if source := by or configured().source:
        return source
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"/cli/{quote(user)}"


class _StoppedError(Exception):
    """Ends the work of a thread."""


def work(what: str, unit: str, job: Callable[[Report], T]) -> T:
    """Return `job(report)`, done in a thread, and show how far it is.

    Ctrl-C ends it at its next report; the program exits when it has cleaned up.
    """

    async def scope() -> T:
        is_stopped = threading.Event()
        with progress(what, unit) as advance:

            def report(done: int, total: int | None) -> None:
                if is_stopped.is_set():
                    raise _StoppedError
                advance(done, total)

            task = asyncio.ensure_future(asyncio.to_thread(job, report))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                is_stopped.set()
                await _end(task)
                raise

    return run(scope)


async def _end(task: "asyncio.Future[T]") -> None:
    """Wait until the thread has ended, however often that is interrupted."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    task.exception()
