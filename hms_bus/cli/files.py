"""Writing files: complete or not at all, and never over a log."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hms_bus.errors import DecodeError, UsageError
from hms_bus.log import parse_head

_LOGS = (b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How a database of SQLite and the WAL beside it begin (https://sqlite.org/fileformat.html)."""

_LONGEST_HEAD = 64 * 1024


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a new file that takes the place of `path` when the scope ends well, durable.

    Otherwise `path` stays as it was. A symbolic link stays, and the file that it leads to is
    replaced; what is no regular file, as a pipe, is written to. Blocks. Raises `UsageError` for a
    log, `OSError`.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    real = Path(os.path.realpath(path))
    if _beginning(real, len(_LOGS[0])).startswith(_LOGS):
        raise UsageError(
            f"{path} is a log, or part of one, and never replaced: choose another name"
        )
    partial = real.with_name(f".{real.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(real)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`, all or nothing. Blocks. Raises as `replacing`."""
    with replacing(path) as file:
        file.write(content)


def write_head(path: Path, content: bytes) -> None:
    """Write a head or a seal to `path`, all or nothing, in the place of an older one only.

    Blocks. Raises `UsageError` when `path` holds anything else, `OSError`.
    """
    if path.is_file() and (old := _beginning(path, _LONGEST_HEAD)):
        try:
            parse_head(old)
        except DecodeError as error:
            raise UsageError(
                f"{path} exists and is no head or seal: choose another name, or remove it first"
            ) from error
    write_whole(path, content)


def _beginning(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""
