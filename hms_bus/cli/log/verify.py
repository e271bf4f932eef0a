"""`hms-bus log verify`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from hms_bus.abc import Head, Verification
from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.files import write_whole
from hms_bus.cli.log.opening import log_url, open_reading
from hms_bus.cli.options import format_option, log_argument
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.errors import DecodeError, UsageError
from hms_bus.ids import format_time
from hms_bus.log import format_head, parse_head
from hms_bus.log.tools.seals import Seal, is_genuine, parse_seal, read_public_key


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
    """
    if head_file is not None and seal_file is not None:
        raise UsageError("choose one: --head or --seal")
    expected = None if head_file is None else read_head(head_file)
    if seal_file is not None or public_key is not None:
        seal = _read_seal(seal_file, public_key)
        if seal is None:
            return _refuse(seal_file, form)
        expected = seal.head

    async def check() -> Verification:
        async with open_reading(log) as opened:
            with progress("verifying", "records") as advance:
                return await opened.verify(expected=expected, progress=advance)

    found = run(check)
    if found.is_sound and new_head_file is not None:
        write_whole(new_head_file, format_head(found.head))
    if form == "json":
        click.echo(msgspec.json.encode(_facts(found)))
    else:
        click.echo(words(log_url(log), found, expected))
    return OK if found.is_sound else NEGATIVE


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


def words(url: str, found: Verification, expected: Head | None) -> str:
    """Return what was found, for a person."""
    if found.is_sound:
        kept = "" if expected is None else f", contains the kept head at {expected.position}"
        end = f"{found.head.position} {found.head.hash.hex()}"
        return f"{click.style('sound', fg='green')}: {found.records} records{kept}, head {end}"
    where = "" if found.position is None else f" at position {found.position}"
    return (
        f"{click.style('NOT SOUND', fg='red', bold=True)}{where}: {found.problem}\n"
        f"sound before that: {found.head.position} records; copy them with "
        f"`hms-bus log export {url} --seq ..{found.head.position}`; `hms-bus log doctor {url}` "
        "tells more"
    )


def _facts(found: Verification) -> dict[str, Any]:
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
    }
