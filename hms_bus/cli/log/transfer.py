"""`hms-bus log export` and `hms-bus log import`."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from hms_bus.abc import EventLog, Selector
from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, OK
from hms_bus.cli.files import is_stdout, replacing
from hms_bus.cli.lines import read_lines
from hms_bus.cli.log.feeding import feed_documents
from hms_bus.cli.log.forms import BINARY, Form, form_option, form_to_read, form_to_write
from hms_bus.cli.log.opening import file_of, log_url, open_reading
from hms_bus.cli.log.working import counted
from hms_bus.cli.options import LOG, log_argument, selector_options
from hms_bus.cli.running import run
from hms_bus.cli.screen import Advance, note, progress
from hms_bus.errors import DecodeError, UsageError
from hms_bus.log.tools.forms import RecordWriter, open_writer
from hms_bus.log.tools.rows import remove_if_empty
from hms_bus.log.transfer import Imported, export_lines, import_lines
from hms_bus.plugins import open_log

_STDIN = 0
_FLUSH_BYTES = 256 * 1024
_REPORT_EACH = 1000
_SHOWN_PROBLEMS = 10


@command(
    "export",
    examples="""
    hms-bus log export run.db -o run.jsonl
    hms-bus log export run.db --topic 'orders.>' | gzip > orders.jsonl.gz
    hms-bus log export run.db | hms-bus log import copy.db
    hms-bus log export run.db --format batch -o run.json
    hms-bus log export run.db -o run.parquet
    """,
)
@log_argument
@selector_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, complete or not at all; `-` is stdout. [default: -]",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists; never a log.")
@form_option("How to write. [default: by the name of the file, else jsonl]")
def export(
    *, log: str | None, selector: Selector, output: Path | None, force: bool, said: Form | None
) -> None:
    """Write the records of LOG for other programs.

    `jsonl`: lines of JSON with `position`, `recorded_ns` (since 1970), and the CloudEvent, `event`.
    `batch`: a JSON array of CloudEvents. `mcap` and `parquet`: files of these kinds, which need the
    extra of that name. All may go to a pipe.
    """
    if output is not None and str(output) == "-":
        output = None
    form = form_to_write(output, said)
    if output is None and form in BINARY and sys.stdout.isatty():
        raise UsageError(f"{form} is no text for a terminal: name a file, -o FILE, or use a pipe")
    is_there = output is not None and output.is_file() and not is_stdout(output)
    if is_there and not force:
        raise UsageError(f"{output} exists: choose another name, or --force replaces it")

    async def copy(out: BinaryIO) -> int:
        async with open_reading(log) as opened:
            with progress("exporting", "records") as advance:
                if form == "jsonl":
                    return await _write(opened, selector, out, advance)
                return await _write_form(opened, selector, open_writer(form, out), advance)

    with ExitStack() as stack:
        out = sys.stdout.buffer if output is None else stack.enter_context(replacing(output))
        count = run(lambda: copy(out))
    if output is not None:
        note(f"wrote {counted(count, 'record')} to {output}")


async def _write(log: EventLog, selector: Selector, out: BinaryIO, advance: Advance) -> int:
    total = (await log.head()).position
    parts: list[bytes] = []
    size = count = 0
    async for line in export_lines(log, selector):
        parts.append(line)
        size += len(line)
        count += 1
        if size > _FLUSH_BYTES:
            out.write(b"".join(parts))
            parts, size = [], 0
            advance(count, total)
    out.write(b"".join(parts))
    out.flush()
    return count


async def _write_form(
    log: EventLog, selector: Selector, writer: RecordWriter, advance: Advance
) -> int:
    total = (await log.head()).position
    count = 0
    async for record in log.read(selector):
        writer.write(record)
        count += 1
        if count % _REPORT_EACH == 0:
            advance(count, total)
    writer.finish()
    sys.stdout.flush()
    return count


@command(
    "import",
    examples="""
    hms-bus log import copy.db run.jsonl
    zcat orders.jsonl.gz | hms-bus log import copy.db
    hms-bus log import copy.db run.parquet
    """,
    endings={3: "some lines were no events and were left out; the others are in the log"},
)
@click.argument("log", type=LOG)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--strict", is_flag=True, help="Stop at the first line that is no event.")
@form_option("What FILE is. [default: as it begins or is named; of a pipe jsonl]")
def import_(*, log: str, file: str, strict: bool, said: Form | None) -> int:
    """Append the events in FILE (stdin without one) to LOG, which is created if it is not there.

    A line holds what `log export` or `log cat --format json` wrote, or a CloudEvent itself. Events
    that the log has already (the same source and id) are not appended again, so an import that was
    cut off is simply repeated. Positions and recorded times are new. All forms but `parquet` may
    come from a pipe.
    """
    url = log_url(log)
    path = file_of(log)
    is_new = path is not None and not path.exists()
    descriptor = _STDIN if file == "-" else os.open(file, os.O_RDONLY)
    problems = Problems()
    has_failed = True

    async def copy() -> Imported:
        form = form_to_read(file, descriptor, said)
        async with open_log(url) as opened:
            with progress("importing", "lines") as advance:
                lines = _flat(_lines_of(form, descriptor), advance)
                refuse = None if strict else problems.add
                return await import_lines(opened, lines, on_refused=refuse)

    try:
        done = run(copy)
        has_failed = bool(done.refused)
    finally:
        if descriptor != _STDIN:
            os.close(descriptor)
        if path is not None and is_new and has_failed:
            remove_if_empty(path)
    new = counted(done.events - done.duplicates, "new event")
    known = f"{done.duplicates} {'was' if done.duplicates == 1 else 'were'} in the log"
    note(f"imported {new}; {known}; {counted(done.refused, 'line')} left out")
    return DISCARDED if done.refused else OK


class Problems:
    """Tells of lines that were left out: of the first ten each, then only how many."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, error: DecodeError) -> None:
        """Report one line on stderr."""
        self._count += 1
        if self._count <= _SHOWN_PROBLEMS:
            note(f"left out: {error}")
        elif self._count == _SHOWN_PROBLEMS + 1:
            note("left out: more lines, which are only counted from here")


def _lines_of(form: Form, descriptor: int) -> AsyncIterator[list[bytes]]:
    if form == "jsonl":
        return read_lines(descriptor)
    return feed_documents(form, os.fdopen(descriptor, "rb", closefd=False))


async def _flat(batches: AsyncIterator[list[bytes]], advance: Advance) -> AsyncIterator[bytes]:
    count = 0
    async for lines in batches:
        for line in lines:
            yield line
            count += 1
            if count % _REPORT_EACH == 0:
                advance(count, None)
