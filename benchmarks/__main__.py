"""The command: `python -m benchmarks [--short] [--only NAME] [--json FILE] [--plot DIR]`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import page, report
from benchmarks.measuring import FULL, SHORT, measure
from benchmarks.model import Report, Result, Row
from benchmarks.plot import draw
from benchmarks.rows import (
    durable,
    envelopes,
    idle,
    ipc,
    logs,
    long,
    publish,
    replays,
    requests,
    sourcing,
    startup,
)
from benchmarks.surroundings import load, machine, versions
from benchmarks.worker import ROOT, WorkerError

ROWS: Sequence[Row] = (
    *publish.ROWS,
    *requests.ROWS,
    *envelopes.ROWS,
    *logs.ROWS,
    *replays.ROWS,
    *durable.ROWS,
    *sourcing.ROWS,
    *ipc.ROWS,
    *long.ROWS,
    *idle.ROWS,
    *startup.ROWS,
)
DOCS = ROOT / "docs"
PAGE = DOCS / "benchmarks.md"
ASSETS = DOCS / "benchmarks"


def main() -> int:
    """Run; 0 is done, 1 a ratio that misses its target by a factor, 2 a usage or set-up error."""
    arguments = _parser().parse_args()
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    try:
        result = asyncio.run(_run(rows, short=arguments.short))
    except WorkerError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        _write_json(result, arguments.json)
    if arguments.plot:
        draw(result, arguments.plot)
    if not arguments.short and not arguments.only:
        _update_docs(result)
    problems = report.broken(result.results)
    for problem in problems:
        print(f"broken: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure hms-bus beside its peers. A full run of all rows updates docs/.",
    )
    parser.add_argument("--short", action="store_true", help="few and short rounds, no docs")
    parser.add_argument(
        "--only",
        action="append",
        choices=[row.name for row in ROWS],
        metavar="NAME",
        help="this row only (may be repeated): " + ", ".join(row.name for row in ROWS),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write ratios.svg into DIR")
    return parser


async def _run(rows: Sequence[Row], *, short: bool) -> Report:
    effort = SHORT if short else FULL
    load_before = load()
    results: list[Result] = []
    for row in rows:
        result = await measure(row, effort)
        results.append(result)
        print(report.plain(report.lines(result)), flush=True)
    return Report(
        mode="short" if short else "full",
        rounds=effort.rounds,
        round_s=effort.round_s,
        machine={**machine(), "load before": load_before, "load after": load()},
        versions=await versions(),
        results=tuple(results),
    )


def _write_json(result: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")


def _update_docs(result: Report) -> None:
    _write_json(result, ASSETS / "results.json")
    plot = draw(result, ASSETS)
    image = f"![How much of each target is reached]({plot.relative_to(DOCS).as_posix()})"
    text = page.splice(PAGE.read_text(), [report.summary(result), report.table(result), image])
    PAGE.write_text(text)
    print(f"updated {PAGE.relative_to(ROOT)} and {ASSETS.relative_to(ROOT)}/")
    for mismatch in page.mismatches(text, report.missed(result.results)):
        print(f"{PAGE.relative_to(ROOT)} needs an edit: {mismatch}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
