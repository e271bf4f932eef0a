"""`hms-bus log doctor` and `hms-bus log recover`: what is wrong with a log, and saving the rest."""

from pathlib import Path

import click
import msgspec

from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, NEGATIVE, OK
from hms_bus.cli.log.verify import read_head
from hms_bus.cli.log.working import (
    PATH,
    by_option,
    log_file,
    new_file,
    new_log_option,
    required_log,
    sender,
    work,
)
from hms_bus.cli.options import format_option, log_argument
from hms_bus.cli.screen import byte_count
from hms_bus.log.tools import Checkup, Recovered, examine, recover_log
from hms_bus.log.tools.steps import Report

_SHOWN = 50


@command(
    "doctor",
    examples="""
    hms-bus log doctor run.db
    hms-bus log doctor run.db --format json
    """,
    endings={0: "the log is healthy", 1: "something is wrong with it"},
)
@log_argument
@format_option("text", "json")
def doctor(*, log: str | None, form: str) -> int:
    """Look LOG over: pages, chain, positions, WAL, lock, version, sizes; and say what to do.

    A note tells of what is unusual and harmless. The file is only read.
    """
    path = log_file(log)
    found = work("examining", "records", lambda report: examine(path, report))
    if form == "json":
        click.echo(msgspec.json.encode({"healthy": found.is_healthy, **msgspec.to_builtins(found)}))
    else:
        _show(found)
    return OK if found.is_healthy else NEGATIVE


def _show(found: Checkup) -> None:
    for finding in found.findings:
        colour = "red" if finding.level == "problem" else "yellow"
        click.echo(f"{click.style(finding.level, fg=colour)} ({finding.check}): {finding.message}")
        click.echo(f"  next: {finding.next}")
    sizes = f"{byte_count(found.file_bytes)}, WAL {byte_count(found.wal_bytes)}"
    if found.is_healthy:
        click.echo(f"{click.style('healthy', fg='green')}: {found.records} records, {sizes}")
    else:
        sound = f"sound up to position {found.records}" if found.is_read else "records not checked"
        click.echo(f"{click.style('NOT HEALTHY', fg='red', bold=True)}: {sound}, {sizes}")


@command(
    "recover",
    examples="""
    hms-bus log recover damaged.db -o saved.db
    hms-bus log recover damaged.db -o saved.db --head run.head --format json
    """,
    endings={0: "everything was saved", 3: "some records could not be saved, or may be missing"},
)
@required_log
@new_log_option
@click.option("--head", "head_file", type=PATH, help="A head or seal that was kept.")
@by_option
@format_option("text", "json")
def recover(*, log: str, target: Path, head_file: Path | None, by: str | None, form: str) -> int:
    """Save every record of a damaged LOG that can be read and proven into a new log.

    LOG and the WAL beside it are only read. What contradicts its hash is not saved. What was lost,
    or may have been, is told, and stands in a record on `$log.recovered` at the end of the new log.
    How many records are missing at the end only a head can tell that was kept (--head).
    """
    path, target = log_file(log), new_file(target)
    expected = None if head_file is None else read_head(head_file)
    who = sender(by)

    def job(report: Report) -> Recovered:
        return recover_log(path, target, by=who, expected=expected, report=report)

    done = work("recovering", "pages", job)
    if form == "json":
        click.echo(msgspec.json.encode(msgspec.to_builtins(_plain(done))))
    else:
        _tell(done, target)
    return OK if done.is_complete else DISCARDED


def _plain(done: Recovered) -> dict[str, object]:
    return {
        "complete": done.is_complete,
        "lost": None if done.doubts and not done.lost else done.lost,
        "saved": done.saved,
        "unproven": done.unproven,
        "same": done.is_same,
        "losses": done.losses,
        "doubts": done.doubts,
        "head": {"position": done.head.position, "hash": done.head.hash.hex()},
    }


def _tell(done: Recovered, target: Path) -> None:
    for loss in done.losses[:_SHOWN]:
        where = (
            f"position {loss.first}"
            if loss.first == loss.last
            else f"positions {loss.first} to {loss.last}"
        )
        click.echo(f"{click.style('lost', fg='red')}: {where}: {loss.why}")
    if len(done.losses) > _SHOWN:
        click.echo(f"lost: {len(done.losses) - _SHOWN} more places; --format json lists all")
    for doubt in done.doubts:
        click.echo(f"{click.style('doubt', fg='red')}: {doubt}")
    proof = f", {done.unproven} of them behind a loss and unproven" if done.unproven else ""
    click.echo(f"saved {done.saved} records to {target}{proof}; lost {_lost(done)}")
    if not done.is_same:
        click.echo("positions behind the first loss are new; heads that were kept do not fit there")


def _lost(done: Recovered) -> str:
    if not done.doubts:
        return str(done.lost)
    return f"{done.lost}, and maybe more" if done.lost else "is not known"
