"""`hms-bus log compact` and `hms-bus log redact`: leaving out what must not, or need not, stay."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from hms_bus.abc import Selector
from hms_bus.cli.commands import command
from hms_bus.cli.log.working import (
    PATH,
    by_option,
    counted,
    log_file,
    new_file,
    required_log,
    sender,
    work,
)
from hms_bus.cli.options import PATTERN, format_option, selector_options
from hms_bus.cli.screen import note
from hms_bus.durations import parse_duration
from hms_bus.errors import BusError, UsageError
from hms_bus.log.tools import Compacted, Redacted, Rule, compact_in_place, compact_log, redact_log
from hms_bus.log.tools.steps import Report
from hms_bus.topics import parse_pattern


class _Ruled(click.ParamType[tuple[str | None, Any]]):
    """`[PATTERN=]VALUE`."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str | None, Any]:
        pattern, _, text = value.rpartition("=")
        try:
            return parse_pattern(pattern).text if pattern else None, self._parse(text)
        except BusError as error:
            self.fail(error.message, param, ctx)
        except ValueError:
            self.fail(f"{text!r} is no number", param, ctx)


@command(
    "compact",
    examples="""
    hms-bus log compact run.db -o small.db --keep 30d
    hms-bus log compact run.db -o small.db --keep-last-per-topic 'state.>'
    hms-bus log compact run.db --in-place --keep 'debug.>=7d' --max-records 'ticks.>=100000'
    """,
)
@required_log
@click.option("-o", "--output", "target", type=PATH, metavar="NEW", help="The log to make.")
@click.option("--in-place", is_flag=True, help="Change LOG itself, which nobody may have open.")
@click.option(
    "--keep-last-per-topic",
    "last_only",
    type=PATTERN,
    multiple=True,
    metavar="PATTERN",
    help="Of each of these topics only the last record; repeatable.",
)
@click.option(
    "--keep",
    "ages",
    type=_Ruled("age", parse_duration),
    multiple=True,
    metavar="[PATTERN=]AGE",
    help="Only what is not older: 30d, 'debug.>=7d'; repeatable.",
)
@click.option(
    "--max-records",
    "counts",
    type=_Ruled("number", int),
    multiple=True,
    metavar="[PATTERN=]N",
    help="Only the last N records: 100000, 'ticks.>=1000'; repeatable.",
)
@by_option
@format_option("text", "json")
def compact(
    *,
    log: str,
    target: Path | None,
    in_place: bool,
    last_only: tuple[str, ...],
    ages: tuple[tuple[str | None, float], ...],
    counts: tuple[tuple[str | None, int], ...],
    by: str | None,
    form: str,
) -> None:
    """Leave out of LOG what nobody needs any more.

    A record stays when every rule for its topic keeps it. Positions and the hash chain are new; a
    record on `$log.compacted` at the end tells the rules and the old head. What the log says about
    itself, on `$log.>`, always stays, and so do schedules that are still to be sent; those that
    were go. Dead letters, on `$dlq.>`, are left out only by a rule that names them.
    """
    if in_place == (target is not None):
        raise UsageError("choose one: a new log, -o NEW, or --in-place")
    path, who = log_file(log), sender(by)
    rules = _rules(last_only, ages, counts)

    def job(report: Report) -> Compacted:
        if target is None:
            return compact_in_place(path, rules, by=who, report=report)
        return compact_log(path, new_file(target), rules, by=who, report=report)

    done = work("compacting", "records", job)
    if form == "json":
        click.echo(msgspec.json.encode(_facts(done)))
    else:
        kept = counted(done.kept, "record")
        click.echo(f"kept {kept} in {target or path}, dropped {done.dropped}")


def _rules(
    last_only: tuple[str, ...],
    ages: tuple[tuple[str | None, float], ...],
    counts: tuple[tuple[str | None, int], ...],
) -> list[Rule]:
    now = time.time_ns()
    return [
        *(Rule(pattern=pattern, last_only=True) for pattern in last_only),
        *(Rule(pattern=pattern, since_ns=now - int(age * 1e9)) for pattern, age in ages),
        *(Rule(pattern=pattern, max_records=count) for pattern, count in counts),
    ]


def _facts(done: Compacted) -> dict[str, Any]:
    return {
        "kept": done.kept,
        "dropped": done.dropped,
        "old": {"position": done.old.position, "hash": done.old.hash.hex()},
        "new": {"position": done.new.position, "hash": done.new.hash.hex()},
    }


@command(
    "redact",
    examples="""
    hms-bus log redact run.db --position 17 --reason 'a password'
    hms-bus log redact run.db --id 01985b2e-7a3c-7000-8000-000000000000
    hms-bus log redact run.db --topic 'patients.7.>' --reason 'request 42' --dry-run
    """,
)
@required_log
@click.option("--position", "positions", type=int, multiple=True, help="This one; repeatable.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="The event of this id; repeatable.")
@selector_options
@click.option("--reason", default="", help="Why, for those who read the log later.")
@by_option
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing, tell what would be done.")
@format_option("text", "json")
def redact(
    *,
    log: str,
    selector: Selector,
    positions: tuple[int, ...],
    ids: tuple[str, ...],
    reason: str,
    by: str | None,
    dry_run: bool,
    form: str,
) -> None:
    """Take the payloads of records out of LOG, for good; attributes stay, and the chain verifies.

    Who did it, when and why is appended on `$log.redacted`. The process that writes LOG must be
    stopped first. Exports, backups and other logs keep what they have.
    """
    if selector == Selector() and not positions and not ids:
        raise UsageError("nothing says what to redact: --position, --id, --topic …")
    path, who = log_file(log), sender(by)

    def job(report: Report) -> Redacted:
        return redact_log(
            path,
            selector,
            positions=positions,
            ids=ids,
            by=who,
            reason=reason,
            is_trial=dry_run,
            report=report,
        )

    done = work("redacting", "records", job)
    if form == "json":
        click.echo(msgspec.json.encode(_redacted_facts(done)))
    else:
        verb = "would take" if dry_run else "took"
        payloads = counted(len(done.positions), "payload")
        click.echo(f"{verb} {payloads} out, {counted(done.payload_bytes, 'byte')}")
    if done.positions and not done.is_erased and not dry_run:
        note(
            "somebody reads the log, so the payloads are still in the WAL: end the readers, then "
            "open the log for writing once, which overwrites it"
        )


def _redacted_facts(done: Redacted) -> dict[str, Any]:
    return {
        "positions": done.positions,
        "payload_bytes": done.payload_bytes,
        "erased": done.is_erased,
        "head": {"position": done.head.position, "hash": done.head.hash.hex()},
    }
