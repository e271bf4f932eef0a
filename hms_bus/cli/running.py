"""Running a command's coroutine: signals end it in order, and what the bus reports is readable."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from hms_bus.cli.commands import DEBUG
from hms_bus.cli.endings import TERMINATED

T = TypeVar("T")


def run(work: Callable[[], Coroutine[Any, Any, T]], *, reports: bool = True) -> T:
    """Run `work()` on an event loop of its own and return its result.

    SIGINT and SIGTERM cancel it, so that every scope in it is left in order: the bus drains, the
    log commits. Then the process exits with 130 or 143; a second SIGINT does not wait. Errors that
    the bus logs go to stderr, without tracebacks unless `--debug` is on; without `reports` only
    then.
    """
    _log_to_stderr(reports=reports)
    ended_by_term = False

    async def scope() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine on a loop always has one

        def terminate() -> None:
            nonlocal ended_by_term
            ended_by_term = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await work()

    try:
        return asyncio.run(scope())
    except asyncio.CancelledError:
        if ended_by_term:
            click.get_current_context().exit(TERMINATED)
        raise


class _Plain(logging.Formatter):
    """`warning: text`, one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def _log_to_stderr(*, reports: bool) -> None:
    is_debugging = bool(click.get_current_context().meta.get(DEBUG))
    handler = logging.StreamHandler() if reports or is_debugging else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(message)s") if is_debugging else _Plain())
    logging.getLogger("hms_bus").handlers[:] = [handler]
