"""Asking whether what cannot be undone is wanted."""

import sys

import click

from hms_bus.cli.options import AnyFunction
from hms_bus.errors import UsageError


def yes_option(function: AnyFunction) -> AnyFunction:
    """Add `--yes`, which answers what would be asked."""
    return click.option("-y", "--yes", is_flag=True, help="Do it without asking.")(function)


def is_confirmed(what: str, *, yes: bool) -> bool:
    """Return whether the user wants `what`, a sentence without its end; asked on stderr.

    No answer is no. Raises `UsageError` when there is no terminal to ask at.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what}: there is no terminal to ask at, confirm it with --yes")
    click.echo(f"{what}? [y/N]: ", nl=False, err=True)
    # Not by click.confirm: input() swallows a Ctrl-C that comes while it flushes stderr.
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
