"""How a command ends: the exit status, and an error in words that say what to do next."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

from hms_bus import errors
from hms_bus.errors import BusError

OK = 0
NEGATIVE = 1
USAGE = 2
DISCARDED = 3
INTERRUPTED = 130
TERMINATED = 143

ENDINGS = {
    OK: "it worked",
    NEGATIVE: "it failed",
    USAGE: "the command line or the configuration is wrong",
    INTERRUPTED: "interrupted (Ctrl-C)",
    TERMINATED: "ended by SIGTERM",
}
"""The exit statuses of every command; a command adds to them what it means by 1 and 3."""

_NEXT: tuple[tuple[type[BusError], str], ...] = (
    (
        errors.NoRespondersError,
        "start an agent that serves it; `hms-bus reply TOPIC --echo` is one",
    ),
    (errors.DeadlineExceededError, "wait longer with --timeout, or look whether the agent is busy"),
    (errors.RemoteError, "the agent that answered knows more: look into its output"),
    (errors.QueueFullError, "send slower, or let the subscriber run with more concurrency"),
    (
        errors.HubLockedError,
        "use the one that is there (`hms-bus hub status`), or --listen elsewhere",
    ),
    (
        errors.ConnectError,
        "check --bus, and that what should listen there is running: `hms-bus hub ls`",
    ),
)


@contextmanager
def exit_status(ctx: click.Context) -> Generator[None]:
    """Turn what escapes from a command into an exit status and one line on stderr."""
    try:
        yield
    except BusError as error:
        _tell(str(error), _next_step(error))
        ctx.exit(USAGE if isinstance(error, errors.UsageError) else NEGATIVE)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        ctx.exit(OK)
    except OSError as error:
        where = error.filename or "writing the output"
        _tell(f"{where}: {error.strerror or error}", "")
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        ctx.exit(NEGATIVE)


def _next_step(error: BusError) -> str:
    """Return what to do next: what the command has noted on the error, else what fits its kind."""
    if notes := getattr(error, "__notes__", None):
        return "; ".join(notes)
    if isinstance(error, errors.ConnectError) and error.refused:
        return ""  # something listens there, and has said itself what is to be done
    return next((text for kind, text in _NEXT if isinstance(error, kind)), "")


def _tell(problem: str, next_step: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {problem}", err=True)
    if next_step:
        click.echo(f"{click.style('next:', fg='yellow')}  {next_step}", err=True)


def _drop_output() -> None:
    """Drop what is left of the output: its reader (`| head`) has all it wanted, or it is full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
