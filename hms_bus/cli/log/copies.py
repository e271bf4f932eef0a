"""`hms-bus log filter`, `merge`, `split` and `backup`: new logs from old ones."""

import re
import shutil
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from hms_bus.abc import Selector, Verification
from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, OK
from hms_bus.cli.log.working import (
    counted,
    log_file,
    new_file,
    new_log_option,
    required_log,
    work,
)
from hms_bus.cli.options import LOG, format_option, selector_options
from hms_bus.cli.screen import note
from hms_bus.errors import UsageError
from hms_bus.log.tools import back_up, filter_log, merge_logs, split_log
from hms_bus.log.tools.copies import By
from hms_bus.log.tools.steps import Report

_SIZE = re.compile(r"(\d+)\s*(?:([KMG])(?:i?B)?|B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3}
_SHOWN = 10


@command(
    "filter",
    examples="""
    hms-bus log filter run.db -o orders.db --topic 'orders.>' --since 1h
    hms-bus log filter run.db -o case.db --corr 01985b2e-7a3c-7000-8000-000000000000
    hms-bus log filter run.db -o start.db --seq ..1000
    """,
)
@required_log
@new_log_option
@selector_options
@format_option("text", "json")
def filter_(*, log: str, target: Path, selector: Selector, form: str) -> None:
    """Write the selected records of LOG into a new log.

    Recorded times stay, positions are new. Schedules that were sent are left out.
    """
    path, target = log_file(log), new_file(target)
    done = work("filtering", "records", lambda report: filter_log(path, target, selector, report))
    if form == "json":
        click.echo(msgspec.json.encode(done))
    else:
        click.echo(f"wrote {done.written} of {counted(done.read, 'record')} to {target}")


@command(
    "merge",
    examples="""
    hms-bus log merge monday.db tuesday.db -o week.db
    hms-bus log merge a.db b.db c.db -o all.db --format json
    """,
    endings={3: "records with the same source and id differ; the later ones were left out"},
)
@click.argument("logs", type=LOG, nargs=-1, required=True)
@new_log_option
@format_option("text", "json")
def merge(*, logs: tuple[str, ...], target: Path, form: str) -> int:
    """Write the records of all LOGS into a new log, in the order of their recorded times.

    A record that several of them have is written once.
    """
    paths, target = [log_file(log) for log in logs], new_file(target)
    done = work("merging", "records", lambda report: merge_logs(paths, target, report))
    if form == "json":
        click.echo(msgspec.json.encode(done))
    else:
        read, duplicates = counted(done.read, "record"), counted(done.duplicates, "duplicate")
        click.echo(f"wrote {done.written} of {read} to {target}; {duplicates}")
    for clash in done.clashes[:_SHOWN]:
        note(
            f"left out: {clash.path} position {clash.position}: another record has its source "
            f"{clash.source} and id {clash.id}"
        )
    if len(done.clashes) > _SHOWN:
        note(f"left out: {len(done.clashes) - _SHOWN} more; --format json lists all")
    return DISCARDED if done.clashes else OK


def _parse_size(_: click.Context, __: click.Parameter, text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise click.BadParameter(f"{text!r} is no size: write 500KB, 64MB, 2GB")
    return int(match[1]) * 1024 ** _UNITS[(match[2] or "").upper()]


@command(
    "split",
    examples="""
    hms-bus log split run.db --by topic -o topics
    hms-bus log split run.db --by day -o days
    hms-bus log split run.db --by size --size 100MB -o parts
    """,
)
@required_log
@click.option(
    "--by",
    type=click.Choice(["topic", "day", "size"]),
    required=True,
    help="A log for each topic, each day (UTC), or about so many bytes.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder to make.",
)
@click.option(
    "--size",
    default="64MB",
    callback=_parse_size,
    help="With --by size: about so much besides the 32 KB of an empty log. [default: 64MB]",
)
@format_option("text", "json")
def split(*, log: str, by: By, folder: Path, size: int, form: str) -> None:
    """Write the records of LOG into new logs in a new folder."""
    path = log_file(log)

    def job(report: Report) -> dict[str, int]:
        return split_log(path, folder, by, max_bytes=size, report=report)

    for name, count in work("splitting", "records", job).items():
        if form == "json":
            click.echo(msgspec.json.encode({"file": str(folder / name), "records": count}))
        else:
            click.echo(f"{folder / name}\t{count}")


@command(
    "backup",
    examples="""
    hms-bus log backup run.db copy.db
    hms-bus log backup run.db - | ssh ada@store 'cat > run.db'
    """,
)
@required_log
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@format_option("text", "json")
def backup(*, log: str, file: Path, form: str) -> None:
    """Copy LOG to FILE as it is now, also while another process writes it, and verify the copy.

    The copy has everything, durables too. With `-` it is written to stdout once it is verified.
    """
    path = log_file(log)
    if str(file) != "-":
        _show(_copy(path, file), file, form)
        return
    if sys.stdout.isatty():
        raise UsageError("a log is no text for a terminal: name a file, or a pipe behind it")
    with tempfile.TemporaryDirectory(prefix="hms-bus-") as folder:
        copy = Path(folder) / "copy.db"
        _copy(path, copy)
        with copy.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _copy(path: Path, file: Path) -> Verification:
    def job(report: Report) -> Verification:
        return back_up(path, file, copying=report, verifying=report)

    return work("copying", "pages and records", job)


def _show(found: Verification, file: Path, form: str) -> None:
    head = {"position": found.head.position, "hash": found.head.hash.hex()}
    if form == "json":
        facts = {"file": str(file), "records": found.records, "sound": True, "head": head}
        click.echo(msgspec.json.encode(facts))
    else:
        end = f"head {head['position']} {head['hash']}"
        click.echo(f"copied {counted(found.records, 'record')} to {file}, sound, {end}")
