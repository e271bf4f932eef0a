"""Running a command's coroutine: signals end it in order, and what the bus reports is readable."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from hms_bus.cli.commands import DEBUG
from hms_bus.cli.endings import INTERRUPTED, TERMINATED
from hms_bus.cli.screen import note

T = TypeVar("T")

_SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_PATIENCE_S = 0.1
_INSIST_EACH_S = 0.02


def run(work: Callable[[], Coroutine[Any, Any, T]], *, reports: bool = True) -> T:
    """Run `work()` on an event loop of its own and return its result.

    SIGINT and SIGTERM cancel it, so that every scope in it is left in order: the bus drains, the
    log commits; what takes a while says so on stderr. A second signal ends all waiting. Then the
    program exits with 130 or 143. Errors that the bus logs go to stderr, without tracebacks unless
    `--debug` is on; without `reports` only then.
    """
    report_on_stderr(reports=reports, debugging=bool(click.get_current_context().meta.get(DEBUG)))
    ending = _Ending()

    async def scope() -> T:
        ending.watch()
        return await work()

    try:
        return asyncio.run(scope())
    except asyncio.CancelledError:
        if ending.status:
            click.get_current_context().exit(ending.status)
        raise


class _Ending:
    """How signals end the current task; `status` is the exit status of the first, 0 before it."""

    def __init__(self) -> None:
        self.status = 0

    def watch(self) -> None:
        """Let signals end the task that calls this."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine on a loop always has one
        loop = asyncio.get_running_loop()

        def insist() -> None:
            # Each scope that is left waits for something of its own.
            task.cancel()
            loop.call_later(_INSIST_EACH_S, insist)

        def end(status: int) -> None:
            if self.status:
                insist()
                return
            self.status = status
            task.cancel()
            loop.call_later(_PATIENCE_S, note, "finishing what was accepted; Ctrl-C again stops")

        for number, status in _SIGNALS.items():
            loop.add_signal_handler(number, end, status)


class _Plain(logging.Formatter):
    """`warning: text`, one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def report_on_stderr(*, reports: bool = True, debugging: bool = False) -> None:
    """Write what the library logs to stderr, a line each; whole and in any case when debugging."""
    handler = logging.StreamHandler() if reports or debugging else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(message)s") if debugging else _Plain())
    logging.getLogger("hms_bus").handlers[:] = [handler]
