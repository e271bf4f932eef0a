"""`hms-bus log verify`."""

import shlex
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from hms_bus.abc import EventLog, Head, Record, Selector, Verification
from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.files import write_head
from hms_bus.cli.log.opening import log_url, open_reading
from hms_bus.cli.options import format_option, log_argument
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.errors import DecodeError, UsageError
from hms_bus.ids import format_time
from hms_bus.log import format_head, parse_head
from hms_bus.log.tools.compaction import TOPIC as COMPACTED
from hms_bus.log.tools.seals import Seal, is_genuine, parse_seal, read_public_key


class _Found(Struct, frozen=True, kw_only=True):
    """What the check has found, and what it was checked against.

    `compaction` is the record of a log that is sound in itself that names the expected head as that
    of the log which it was compacted from.
    """

    log: Verification
    expected: Head | None
    seal: Seal | None
    compaction: Record | None


@command(
    "verify",
    examples="""
    hms-bus log verify run.db
    hms-bus log verify run.db --write-head run.head
    hms-bus log verify run.db --head run.head --write-head run.head
    hms-bus log verify run.db --seal run.seal --public-key log.key.pub
    """,
    endings={0: "the log is sound", 1: "the log is not sound, or cannot be read"},
)
@log_argument
@click.option(
    "--head",
    "head_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A head that was kept: the log must still contain it.",
)
@click.option(
    "--write-head",
    "new_head_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the log's head in this file, if the log is sound.",
)
@click.option(
    "--seal",
    "seal_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A signed head: the log must still contain it.",
)
@click.option(
    "--public-key", metavar="KEY", help="Whose seal it must be: a file, or 64 hexadecimal digits."
)
@format_option("text", "json")
def verify(
    *,
    log: str | None,
    head_file: Path | None,
    new_head_file: Path | None,
    seal_file: Path | None,
    public_key: str | None,
    form: str,
) -> int:
    """Read all of LOG and check positions, times and the hash chain.

    The chain shows every change inside the log. That records were cut off at its end can only be
    seen from a head that was kept somewhere else (--write-head, later --head), or was signed
    (`log seal`, later --seal).

    A compacted log does not contain the heads of the old one. Its record on `$log.compacted` says
    so, and is told; but whoever can write the file can write such a record, so that this is no
    proof: keep a head of the new log.
    """
    if head_file is not None and seal_file is not None:
        raise UsageError("choose one: --head or --seal")
    expected = None if head_file is None else read_head(head_file)
    seal = None
    if seal_file is not None or public_key is not None:
        seal = _read_seal(seal_file, public_key)
        if seal is None:
            return _refuse(seal_file, form)
        expected = seal.head

    async def check() -> _Found:
        async with open_reading(log) as opened:
            with progress("verifying", "records") as advance:
                found = await opened.verify(expected=expected, progress=advance)
            compaction = None
            if expected is not None and not found.is_sound:
                compaction = await _find_compaction(opened, expected)
            return _Found(log=found, expected=expected, seal=seal, compaction=compaction)

    found = run(check)
    if found.log.is_sound and new_head_file is not None:
        write_head(new_head_file, format_head(found.log.head))
    if form == "json":
        click.echo(msgspec.json.encode(_facts(found)))
    else:
        _show(log_url(log), found)
    return OK if found.log.is_sound else NEGATIVE


async def _find_compaction(log: EventLog, old: Head) -> Record | None:
    """Return the record that says that `log` was made of the one that ended with `old`."""
    if not (await log.verify()).is_sound:
        return None
    async for record in log.read(Selector(pattern=COMPACTED)):
        match _data(record):
            case {"position": old.position, "hash": hash_} if hash_ == old.hash.hex():
                return record
            case _:
                continue
    return None


def _data(record: Record) -> Any:
    try:
        return record.envelope.decode()
    except DecodeError:
        return None


def _read_seal(path: Path | None, public_key: str | None) -> Seal | None:
    """Return the seal, `None` when it is not one of that key."""
    if path is None or public_key is None:
        raise UsageError(
            "a seal is checked with the key of whom you trust: --seal FILE --public-key KEY"
        )
    key = read_public_key(public_key)
    try:
        seal = parse_seal(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"there is no seal {path}: `hms-bus log seal` makes one") from None
    except DecodeError as error:
        raise UsageError(f"{path}: {error}; `hms-bus log seal` makes one") from error
    return seal if is_genuine(seal, key) else None


def _refuse(path: Path | None, form: str) -> int:
    problem = f"the signature in {path} is not of that key, or its contents were changed"
    if form == "json":
        click.echo(msgspec.json.encode({"sound": False, "problem": problem, "position": None}))
    else:
        click.echo(f"{click.style('NOT GENUINE', fg='red', bold=True)}: {problem}")
    return NEGATIVE


def read_head(path: Path) -> Head:
    """Return the head in a file. Raises `UsageError`."""
    try:
        return parse_head(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"there is no head {path}: `hms-bus log verify LOG --write-head {path}` keeps one"
        ) from None
    except DecodeError as error:
        raise UsageError(f"{path}: {error}; --write-head makes such a file") from error


def _show(url: str, found: _Found) -> None:
    if (seal := found.seal) is not None:
        click.echo(
            f"{click.style('genuine', fg='green')}: sealed {format_time(seal.sealed_ns)} with the "
            f"key {seal.key.hex()}, at position {seal.head.position}"
        )
    if found.compaction is None:
        click.echo(words(url, found.log, found.expected))
    else:
        click.echo(_compaction_words(found.compaction))


def _compaction_words(record: Record) -> str:
    data = _data(record)
    return (
        f"{click.style('COMPACTED', fg='red', bold=True)}: the log does not contain the kept head "
        f"at {data['position']}; position {record.position} says that it was compacted from the "
        f"one that does, {format_time(record.recorded_ns)} by {record.envelope.source}: "
        f"{data.get('kept')} of {data['position']} records were kept\n"
        "the log is sound in itself, which does not prove what it says: keep a head of it from now "
        "on, and verify the old one with a copy of the log from before"
    )


def words(url: str, found: Verification, expected: Head | None) -> str:
    """Return what was found, for a person."""
    if found.is_sound:
        kept = "" if expected is None else f", contains the kept head at {expected.position}"
        end = f"{found.head.position} {found.head.hash.hex()}"
        return f"{click.style('sound', fg='green')}: {found.records} records{kept}, head {end}"
    where = "" if found.position is None else f" at position {found.position}"
    name = shlex.quote(url)
    return (
        f"{click.style('NOT SOUND', fg='red', bold=True)}{where}: {found.problem}\n"
        f"sound before that: {found.head.position} records; `hms-bus log doctor {name}` tells "
        f"more, `hms-bus log recover {name} -o NEW` saves what can be proven"
    )


def _facts(all_found: _Found) -> dict[str, Any]:
    found, seal, compaction = all_found.log, all_found.seal, all_found.compaction
    return {
        "sound": found.is_sound,
        "records": found.records,
        "head": {
            "position": found.head.position,
            "hash": found.head.hash.hex(),
            "recorded": format_time(found.head.recorded_ns),
        },
        "problem": found.problem,
        "position": found.position,
        "seal": None
        if seal is None
        else {
            "sealed": format_time(seal.sealed_ns),
            "key": seal.key.hex(),
            "position": seal.head.position,
        },
        "compacted": None
        if compaction is None
        else {
            "position": compaction.position,
            "recorded": format_time(compaction.recorded_ns),
            "by": compaction.envelope.source,
        },
    }
