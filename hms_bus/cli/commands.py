"""What all commands share: lazy import, examples in the help, errors in words, the exit status."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import click
from click.exceptions import NoSuchCommand

from hms_bus.cli.endings import ENDINGS, exit_status

DEBUG = "hms_bus.debug"
"""The key in `Context.meta`: whether a traceback is wanted."""


class BusCommand(click.Command):
    """A command that shows `examples` in its help and ends as `hms_bus.cli.endings` says.

    What the function returns is the exit status, `None` is 0.
    """

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        endings: Mapping[int, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.examples = examples
        self.endings = {**ENDINGS, **(endings or {})}
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit statuses."""
        write_lines(formatter, "Examples", self.examples)
        _write_endings(formatter, self.endings)
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command and end the program with its status."""
        end_with_status(ctx, lambda: super(BusCommand, self).invoke(ctx))


def end_with_status(ctx: click.Context, work: Callable[[], int | None]) -> None:
    """Do the work of a command and end the program with the status that it returns, `None` is 0."""
    is_debugging = bool(ctx.meta.get(DEBUG))
    with nullcontext() if is_debugging else exit_status(ctx):
        status = work()
        # Here, not at the interpreter's end, a full disk or a gone reader can still be told.
        sys.stdout.flush()
    if status:
        ctx.exit(status)


def command(name: str, *, examples: str, **settings: Any) -> Callable[..., BusCommand]:
    """Make a function the command `name`; its docstring is the help."""
    return click.command(name, cls=BusCommand, examples=examples, **settings)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    `lazy` maps names to where the command is (`module:attribute`) and its short help, in the order
    in which the help lists them.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]] | None = None,
        examples: str = "",
        endings: Mapping[int, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.lazy = dict(lazy or {})
        self.examples = examples
        self.endings = {**ENDINGS, **(endings or {})}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of `lazy`."""
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, `None` for an unknown one."""
        del ctx
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with. Raises `NoSuchCommand` that proposes others."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            raise NoSuchCommand(
                error.command_name, possibilities=list(self.lazy), ctx=ctx
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit statuses that all its commands have."""
        write_lines(formatter, "Examples", self.examples)
        _write_endings(formatter, self.endings)
        super().format_epilog(ctx, formatter)


def write_lines(formatter: click.HelpFormatter, title: str, text: str) -> None:
    """Write a section of lines that are not to be wrapped."""
    lines: Sequence[str] = [line.strip() for line in text.strip().splitlines()]
    if lines:
        with formatter.section(title):
            for line in lines:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _write_endings(formatter: click.HelpFormatter, endings: Mapping[int, str]) -> None:
    with formatter.section("Exit status"):
        formatter.write_dl([(str(code), text) for code, text in sorted(endings.items())])


def debug_option() -> click.Option:
    """Return the option `--debug`, which every command has."""

    def keep(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
        ctx.meta[DEBUG] = value

    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        envvar="HMS_BUS_DEBUG",
        callback=keep,
        help="Show the traceback of an error.",
    )
