"""Which form an exported file has: what was said, how its name ends, how it begins."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import click

from hms_bus.cli.options import AnyFunction
from hms_bus.errors import UsageError
from hms_bus.log.failures import SQLITE_MAGIC

Form = Literal["jsonl", "batch", "mcap", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)
BINARY: frozenset[Form] = frozenset({"mcap", "parquet"})

_ENDINGS: dict[str, Form] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "batch",
    ".mcap": "mcap",
    ".parquet": "parquet",
}
_BEGINNINGS: tuple[tuple[bytes, Form], ...] = (
    (b"\x89MCAP0\r\n", "mcap"),
    (b"PAR1", "parquet"),
    (b"[", "batch"),
    (b"{", "jsonl"),
)
_BEGINNING_BYTES = 64


def form_option(explanation: str) -> Callable[[AnyFunction], AnyFunction]:
    """Add `--format`, which nothing is said about by default."""
    return click.option("--format", "said", type=click.Choice(FORMS), help=explanation)


def form_to_write(path: Path | None, said: Form | None) -> Form:
    """Return the form of what is written to `path`, or to stdout.

    Raises `UsageError` when its name belongs to another form.
    """
    named = None if path is None else _ENDINGS.get(path.suffix.lower())
    if said is not None and named is not None and said != named and {said, named} & BINARY:
        raise UsageError(
            f"{path} is the name of a file in the form {named}, not {said}: choose another name, "
            "or leave --format out"
        )
    return said or named or "jsonl"


def form_to_read(name: str, descriptor: int, said: Form | None) -> Form:
    """Return the form of an open file, which is not read from.

    Raises `UsageError` when it is another one than was said, or a log.
    """
    beginning = _peek(descriptor)
    if beginning.startswith(SQLITE_MAGIC):
        raise UsageError(f"{name} is a log itself: `hms-bus log merge` makes one log of several")
    found = _form_of(beginning)
    if said is not None and found is not None and said != found:
        raise UsageError(f"{name} has the form {found}, not {said}: leave --format out")
    return said or found or _ENDINGS.get(Path(name).suffix.lower()) or "jsonl"


def _form_of(beginning: bytes) -> Form | None:
    for magic, form in _BEGINNINGS:
        if beginning.startswith(magic):
            return form
    return None


def _peek(descriptor: int) -> bytes:
    """Return what comes next in a file, without the white space before; nothing of a pipe."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return b""
    return os.pread(descriptor, _BEGINNING_BYTES, os.lseek(descriptor, 0, os.SEEK_CUR)).lstrip()
