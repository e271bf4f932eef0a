"""`hms-bus bench`."""

import statistics
import tempfile
from pathlib import Path

import click

from hms_bus.cli.commands import command
from hms_bus.cli.measuring import Bench, benches
from hms_bus.cli.options import format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, note, progress, show_table
from hms_bus.errors import UsageError

_COLUMNS = (
    Column(name="bench", style="cyan"),
    Column(name="per_second", kind="number", style="bold"),
    Column(name="slowest", kind="number", spare=1),
    Column(name="fastest", kind="number", spare=2),
    Column(name="what", least=20, wraps=True, spare=3),
)


@command(
    "bench",
    examples="""
    hms-bus bench
    hms-bus bench --only append --folder /mnt/data      how fast is that disk?
    hms-bus bench -n 100000 --rounds 5 --format json
    """,
)
@click.option(
    "-n", "--count", type=click.IntRange(1), default=20_000, help="Messages. [default: 20000]"
)
@click.option("--rounds", type=click.IntRange(1), default=3, help="The median counts. [default: 3]")
@click.option("--only", multiple=True, metavar="BENCH", help="Only this row; repeatable.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the logs are written. [default: the temporary folder]",
)
@format_option("text", "json", "csv")
def bench(
    *, count: int, rounds: int, only: tuple[str, ...], folder: Path | None, form: Form
) -> None:
    """Measure this installation on this machine: messages per second, medians of some rounds.

    It does not compare; `make bench` in a checkout measures other libraries beside it.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="hms-bus-bench-") as place:
        rows = _choose(benches(Path(place)), only)
        figures = run(lambda: _measure(rows, count, rounds))
    show_table(
        _COLUMNS,
        [
            {
                "bench": row.name,
                "per_second": statistics.median(rates),
                "slowest": min(rates),
                "fastest": max(rates),
                "what": row.what,
            }
            for row, rates in zip(rows, figures, strict=True)
        ],
        form,
        headed=True,
    )
    if form == "text":
        note(f"{count} messages of 128 bytes, {rounds} rounds")


def _choose(rows: list[Bench], only: tuple[str, ...]) -> list[Bench]:
    names = [row.name for row in rows]
    if unknown := set(only).difference(names):
        raise UsageError(
            f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    return [row for row in rows if not only or row.name in only]


async def _measure(rows: list[Bench], count: int, rounds: int) -> list[list[float]]:
    """Return the rates of each row; rounds are interleaved, so that a busy moment hits all rows."""
    rates: list[list[float]] = [[] for _ in rows]
    done = 0
    with progress("measuring", "of " + str(rounds * len(rows))) as advance:
        for _ in range(rounds):
            for row, figures in zip(rows, rates, strict=True):
                figures.append(await row.measure(count))
                done += 1
                advance(done, rounds * len(rows))
    return rates
