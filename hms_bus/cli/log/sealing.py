"""`hms-bus log seal` and `hms-bus log keygen`: signed heads."""

from pathlib import Path
from typing import Any

import click
import msgspec

from hms_bus.abc import Verification
from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.files import write_head
from hms_bus.cli.log.opening import log_url, open_reading
from hms_bus.cli.log.verify import words
from hms_bus.cli.log.working import PATH, counted
from hms_bus.cli.options import format_option, log_argument
from hms_bus.cli.running import run
from hms_bus.cli.screen import progress
from hms_bus.ids import format_time
from hms_bus.log.tools.seals import Seal, format_seal, make_key, sign


@command(
    "keygen",
    examples="""
    hms-bus log keygen log.key
    """,
)
@click.argument("key", type=PATH)
def keygen(*, key: Path) -> None:
    """Make a pair of keys: KEY to seal with, which stays secret, and KEY.pub to verify with."""
    public = make_key(key)
    click.echo(f"made {key} (secret) and {public} (to give away)")


@command(
    "seal",
    examples="""
    hms-bus log keygen log.key
    hms-bus log seal run.db --key log.key -o run.seal
    hms-bus log verify run.db --seal run.seal --public-key log.key.pub
    """,
    endings={1: "the log is not sound, so nothing was signed"},
)
@log_argument
@click.option("--key", "key_file", type=PATH, required=True, help="The secret key.")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default="-",
    help="The seal to write; replaces an older seal, nothing else. [default: stdout]",
)
@format_option("text", "json")
def seal(*, log: str | None, key_file: Path, target: Path, form: str) -> int:
    """Verify LOG and sign its head with an Ed25519 key.

    Whoever keeps the seal can show later that the log held these records then: nothing before the
    head can be changed, and nothing cut off, without it being seen.
    """

    async def check() -> Verification:
        async with open_reading(log) as opened:
            with progress("verifying", "records") as advance:
                return await opened.verify(progress=advance)

    found = run(check)
    if not found.is_sound:
        click.echo(words(log_url(log), found, None), err=True)
        return NEGATIVE
    made = sign(found.head, key_file)
    if str(target) == "-":
        click.echo(format_seal(made), nl=False)
        return OK
    write_head(target, format_seal(made))
    if form == "json":
        click.echo(msgspec.json.encode(facts(made)))
    else:
        click.echo(f"sealed {counted(found.head.position, 'record')} in {target}")
    return OK


def facts(made: Seal) -> dict[str, Any]:
    """Return what a seal says, for a program."""
    return {
        "position": made.head.position,
        "hash": made.head.hash.hex(),
        "sealed": format_time(made.sealed_ns),
        "key": made.key.hex(),
    }
