"""What commands print besides records: tables, progress, notes; each fit for where it goes.

A terminal gets colours and alignment, a pipe gets plain lines: tables with tabs between the
columns. NO_COLOR (https://no-color.org) switches colours off.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
from msgspec import Struct

from hms_bus.cli.colour import is_coloured
from hms_bus.ids import format_time

if TYPE_CHECKING:
    from rich.table import Table

Form = Literal["text", "json", "csv"]
Advance = Callable[[int, int | None], None]
"""Told how much is done, and of how much in all (`None`: not known)."""

ELLIPSIS = "…"
_GAP = 2  # between two columns
_BARELY = 8  # characters from which one can still guess a name


def note(text: str) -> None:
    """Write a line on stderr, apart from the output."""
    click.echo(click.style(text, dim=True) if is_coloured(sys.stderr) else text, err=True)


class Column(Struct, frozen=True, kw_only=True):
    """A column of a table: the key of its values in the rows, how they are shown.

    `kind` is `time` for nanoseconds since 1970, `number` for what is aligned right.

    A terminal may be too narrow. Text gives way first, down to `least` characters (`None`: not at
    all), cut off with an ellipsis or, if it `wraps`, broken into lines. Then the columns that are
    `spare` are left out, the highest number first; 0 is always shown. Last, text gives way further.
    """

    name: str
    kind: Literal["text", "number", "time"] = "text"
    style: str = ""
    least: int | None = None
    wraps: bool = False
    spare: int = 0


def show_table(
    columns: Sequence[Column], rows: Iterable[dict[str, Any]], form: Form, *, headed: bool = False
) -> None:
    """Print the rows on stdout: a table, lines with tabs, a JSON object each, or CSV.

    `headed` keeps the table on a pipe, for what is read by people wherever it goes.
    """
    if form == "json":
        for row in rows:
            click.echo(msgspec.json.encode({c.name: _plain(c, row[c.name]) for c in columns}))
    elif form == "csv":
        _show_csv(columns, rows)
    elif sys.stdout.isatty():
        _show_grid(columns, rows)
    elif headed:
        _show_aligned(columns, rows)
    else:
        for row in rows:
            click.echo("\t".join(_text(c, row[c.name]) for c in columns))


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print a line for each name and what is said under it, in columns."""
    lines = list(facts)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {text}")


def _show_csv(columns: Sequence[Column], rows: Iterable[dict[str, Any]]) -> None:
    import csv  # noqa: PLC0415 - only this form needs it

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow([_text(column, row[column.name], absent="") for column in columns])


def _show_aligned(columns: Sequence[Column], rows: Iterable[dict[str, Any]]) -> None:
    lines = [[column.name for column in columns]]
    lines += ([_shown(column, row[column.name]) for column in columns] for row in rows)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if column.kind == "number" else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _show_grid(columns: Sequence[Column], rows: Iterable[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - costs 50 ms, only a terminal needs it

    console = Console()
    console.print(grid(columns, rows, console.width))


def grid(columns: Sequence[Column], rows: Iterable[dict[str, Any]], width: int) -> "Table":
    """Return the table that a terminal of `width` characters has room for."""
    from rich.cells import cell_len  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    lines = [{c.name: _shown(c, row[c.name]) for c in columns} for row in rows]
    natural = {
        c.name: max(cell_len(line[c.name]) for line in (*lines, {c.name: c.name})) for c in columns
    }
    widths = fit(columns, natural, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        if column.name in widths:
            table.add_column(
                column.name,
                justify="right" if column.kind == "number" else "left",
                style=column.style,
                width=widths[column.name],
                no_wrap=not column.wraps,
                overflow="fold" if column.wraps else "ellipsis",
            )
    if len(widths) < len(columns):
        table.add_column(ELLIPSIS, width=1)
    for line in lines:
        table.add_row(*(Text(line[name]) for name in widths))
    return table


def fit(columns: Sequence[Column], natural: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the widths of the columns that `width` characters have room for, in their order.

    `natural` is how wide each would like to be. When some are left out, there is room for one more
    column of one character, which says so.
    """
    least = {c.name: min(natural[c.name], c.least or natural[c.name]) for c in columns}
    shown = list(columns)

    def room() -> int:
        left_out = len(shown) < len(columns)
        gaps = _GAP * (len(shown) - 1) + left_out * (_GAP + len(ELLIPSIS))
        return width - gaps - sum(least[column.name] for column in shown)

    while room() < 0 and (spare := max(shown, key=lambda column: column.spare)).spare:
        shown.remove(spare)
    for column in shown:
        if column.least is not None:
            least[column.name] -= max(0, min(-room(), least[column.name] - _BARELY))
    more = max(0, room())
    widths: dict[str, int] = {}
    for column in shown:
        extra = min(more, natural[column.name] - least[column.name])
        widths[column.name] = least[column.name] + extra
        more -= extra
    return widths


def _plain(column: Column, value: Any) -> Any:
    return format_time(value) if column.kind == "time" and value is not None else value


def _text(column: Column, value: Any, absent: str = "-") -> str:
    """Return a cell for a program: numbers bare, times in RFC 3339."""
    value = _plain(column, value)
    if value is None:
        return absent
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, str | int) else ",".join(value)


def _shown(column: Column, value: Any) -> str:
    """Return a cell for a person: numbers grouped (not those that are names), times local."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return _text(column, value)
    if column.kind == "time":
        return local_time(value)[: len("2026-01-31 12:00:00")]
    if isinstance(value, int):
        return f"{value:,}" if column.kind == "number" else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - 3 digits
    return ", ".join(value)


def local_time(time_ns: int) -> str:
    """Return a moment on the clock of the user's time zone, with milliseconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000 / 1000, UTC).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")[:23]


def byte_count(size: int) -> str:
    """Return a size with the unit that suits it."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:  # noqa: PLR2004 - what the units are about
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _silent(done: int, total: int | None) -> None:
    del done, total


@contextmanager
def progress(what: str, unit: str) -> Generator[Advance]:
    """Show on stderr how far long work is; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console  # noqa: PLC0415 - costs 50 ms, only a terminal needs it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} " + unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
