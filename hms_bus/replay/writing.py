"""The file that outputs are captured to: one envelope in JSON per line, and never over a log."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from hms_bus import jsonformat
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError
from hms_bus.plugins import parse_address

_LOGS = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How a database of SQLite and the WAL beside it begin (https://sqlite.org/fileformat.html)."""


@asynccontextmanager
async def capturing_to(path: Path, log: str) -> AsyncGenerator[Callable[[Envelope], None]]:
    """Give a function that writes envelopes to a new file, a JSON line each.

    Raises as `check_capture`, before the file is touched, and `OSError`.
    """
    out = await asyncio.to_thread(_open, path, log)
    try:
        yield lambda envelope: _write(out, envelope)
    finally:
        await asyncio.to_thread(out.close)


def check_capture(path: Path, log: str) -> None:
    """Raise `ConfigError` when `path` is a log, or the record at the URL `log`. Blocks."""
    if not path.is_file():  # nothing is there, or a pipe
        return
    record = Path(parse_address(log).path).expanduser()
    with path.open("rb") as file:
        is_log = file.read(len(_LOGS[0])).startswith(_LOGS)
    if is_log or (record.exists() and record.samefile(path)):
        raise ConfigError(
            f"{path} is a log, or part of one, and never replaced: choose another file to capture "
            "to"
        )


def _open(path: Path, log: str) -> BinaryIO:
    check_capture(path, log)
    return path.open("wb", buffering=1 << 20)


def _write(out: BinaryIO, envelope: Envelope) -> None:
    out.write(jsonformat.encode(envelope) + b"\n")
