"""`hms-bus demo`."""

import asyncio
import time
from itertools import chain, count
from pathlib import Path

import click
import msgspec
from msgspec import to_builtins

from hms_bus import demo as team
from hms_bus.cli.commands import command
from hms_bus.cli.connecting import require_others
from hms_bus.cli.demo.hubs import borrowed_hub
from hms_bus.cli.demo.processes import run as run_apart
from hms_bus.cli.demo.report import Outcome, show_figures, show_log, show_report
from hms_bus.cli.log.opening import log_url
from hms_bus.cli.options import LOG, format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.config import BusConfig


@command(
    "demo",
    examples="""
    hms-bus demo
    hms-bus demo --root ~/src/my-project --log mine.db
    hms-bus demo --bus ipc://demo --processes 4
    """,
)
@click.option(
    "--bus",
    "url",
    metavar="URL",
    help="Where the agents meet. [default: direct://demo; with --processes ipc://demo]",
)
@click.option(
    "--processes",
    type=click.IntRange(1, len(team.TEAM)),
    help="Deal the agents out to so many processes. [default: all in this one]",
)
@click.option("--log", "log", type=LOG, help="The log to keep. [default: demo.db, a new one]")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    help="The Python files to read. [default: the standard library of this Python]",
)
@format_option("text", "json")
def demo(
    *, url: str | None, processes: int | None, log: str | None, root: str | None, form: str
) -> None:
    """Let a team of agents read the source of Python's standard library and report on it.

    A scout walks the files and publishes each; a group of readers parses them; a critic answers
    requests with findings; an editor folds it all into a report. Everything that they say to each
    other is kept in a log. The source is the module hms_bus.demo.

    With --processes the same agents work in processes of their own, and the hub between them keeps
    the log.
    """
    place = _choose_bus(url, processes)
    kept, outcome = run(lambda: _work(place, processes, log, root))
    if form == "json":
        click.echo(msgspec.json.encode({"log": kept, **to_builtins(outcome)}))
        return
    show_report(outcome.report)
    show_figures(outcome)
    show_log(kept)


def _choose_bus(url: str | None, processes: int | None) -> str:
    if processes is None:
        return url or "direct://demo"
    chosen = url or "ipc://demo"
    require_others(
        BusConfig(url=chosen),
        ">",
        "working together with",
        instead="write --bus ipc://demo, or leave out --processes",
    )
    return chosen


async def _work(
    url: str, processes: int | None, log: str | None, root: str | None
) -> tuple[str, Outcome]:
    """Let the team work; the log that was kept, and what came of it."""
    files = 0

    def count_file(_: str) -> None:
        nonlocal files
        files += 1
        advance(files, None)

    async with borrowed_hub(url) as log_of_hub:
        kept = log or log_of_hub or str(await asyncio.to_thread(_unused, Path("demo.db")))
        started = time.perf_counter()
        with progress("reading", "files") as advance:
            if processes is None:
                work = team.run(url, log=log_url(kept), root=root, progress=count_file)
            else:
                work = run_apart(
                    url, processes=processes, log=log_url(kept), root=root, progress=count_file
                )
            report, stats = await work
        return kept, Outcome(report, time.perf_counter() - started, stats)


def _unused(path: Path) -> Path:
    """Return `path`, or with the first number behind its name that makes it a new file."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(name for name in chain([path], numbered) if not name.exists())
