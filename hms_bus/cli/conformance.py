"""`hms-bus conformance`."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.options import DURATION, format_option
from hms_bus.cli.running import run
from hms_bus.cli.screen import Column, Form, note, progress, show_table
from hms_bus.testing import conformance as suite
from hms_bus.testing.conformance import Report, Result

_COLUMNS = (
    Column(name="outcome"),
    Column(name="check", style="cyan", least=24),
    Column(name="on", least=16, spare=1),
    Column(name="seconds", kind="number", spare=2),
    Column(name="statement", least=24, wraps=True, spare=3),
    Column(name="problem", style="red", least=12, wraps=True),
)
_PUBLISHER = Column(name="publisher", spare=4)
_WITHOUT_LOG = "none"


@command(
    "conformance",
    examples="""
    hms-bus conformance direct://
    hms-bus conformance direct:// --codec json --log 'sqlite:{folder}/{name}.db'
    hms-bus conformance 'ipc://{name}' --apart
    hms-bus conformance direct:// --format json --all > report.jsonl
    """,
    endings={0: "every check passed, or is of something that is not claimed", 1: "a check failed"},
)
@click.argument("url", default="direct://")
@click.option("--codec", "codecs", multiple=True, help="Only with this codec; repeatable.")
@click.option(
    "--log",
    default="memory:{name}",
    metavar="URL",
    help="The log to check, too; `none` for none. [default: memory:{name}]",
)
@click.option("--check", "names", multiple=True, metavar="NAME", help="Only this; repeatable.")
@click.option("--all", "shows_all", is_flag=True, help="Show the checks that passed, too.")
@click.option("--apart", is_flag=True, help="Publish from another process.")
@click.option("--patience", type=DURATION, default=10.0, help="How long to wait. [default: 10s]")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="What {folder} stands for."
)
@format_option("text", "json", "csv")
def conformance(
    *,
    url: str,
    codecs: tuple[str, ...],
    log: str,
    names: tuple[str, ...],
    shows_all: bool,
    apart: bool,
    patience: float,
    folder: Path | None,
    form: Form,
) -> int:
    """Check all that the bus at URL, its codecs and a log claim to do.

    In URLs {name} stands for a name that no other check uses, and {folder} for a folder (a
    temporary one, if none is given). A capability that is not claimed is `unsupported`, provided
    that asking for it is refused as it should be.

    With --apart the publishers of each check live in another process, if they take no code from the
    check: the last column says so. URL must lead out of the process then.
    """
    chosen: dict[str, Any] = {
        "codecs": codecs or None,
        "log": None if log == _WITHOUT_LOG else log,
        "names": names,
        "apart": apart,
    }
    total = len(suite.plan(url, **chosen))

    async def prove() -> Report:
        done = 0

        def count(_: Result) -> None:
            nonlocal done
            done += 1
            advance(done, total)

        with progress(f"checking {url}", f"of {total} checks") as advance:
            return await suite.run(
                url, **chosen, folder=folder, patience_s=patience, on_result=count
            )

    # Many checks let a handler fail on purpose; what the bus reports of it is of no interest here.
    report = run(prove, reports=False)
    shown = report.results if shows_all else [r for r in report.results if r.outcome != "passed"]
    show_table((*_COLUMNS, _PUBLISHER) if apart else _COLUMNS, map(_row, shown), form)
    _summarise(url, report, apart=apart)
    return OK if report.is_ok else NEGATIVE


def _row(result: Result) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "check": result.case.check.name,
        "on": result.case.target,
        "seconds": round(result.seconds, 4),
        "statement": result.case.check.statement,
        "problem": result.problem,
        "publisher": _publisher(result),
    }


def _publisher(result: Result) -> str | None:
    if result.apart:
        return "apart"
    return "here" if result.case.apart else None  # checks of logs and codecs publish nothing


def _summarise(url: str, report: Report, *, apart: bool) -> None:
    outcomes = Counter(result.outcome for result in report.results)
    seconds = sum(result.seconds for result in report.results)
    figures = ", ".join(f"{outcomes[kind]} {kind}" for kind in ("passed", "failed", "unsupported"))
    where = f"; in {len(report.apart)} the publisher was in another process" if apart else ""
    note(f"{url}: {figures} in {seconds:.1f} s{where}")
