"""Writing files: complete or not at all, and never over a log."""

import os
import secrets
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hms_bus.errors import DecodeError, UsageError
from hms_bus.log import parse_head
from hms_bus.log.failures import SQLITE_MAGIC

_LOGS = (SQLITE_MAGIC, b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""How a database of SQLite and the WAL beside it begin (https://sqlite.org/fileformat2.html)."""

_STDOUT = 1
_NAMED = 50  # characters of a name, which may have 255 octets, in that of the file made first
_LONGEST_HEAD = 64 * 1024


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a new file that takes the place of `path` when the scope ends well, durable.

    Otherwise `path` stays as it was. A symbolic link stays, and the file that it leads to is
    replaced; the new one has its mode. What is no regular file, as a pipe, is written to, and so is
    the file that stdout goes to, behind what is in it. Blocks. Raises `UsageError` for a log,
    `OSError`.
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
    if is_stdout(real):
        sys.stdout.flush()
        with os.fdopen(os.dup(_STDOUT), "wb") as file:
            yield file
        return
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    partial = real.with_name(f".{real.name[:_NAMED]}.{unique}.partial")
    try:
        with partial.open("xb") as file:
            if real.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(real.stat().st_mode))
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
    is_kept = path.is_file() and not is_stdout(path)
    if is_kept and (old := _beginning(path, _LONGEST_HEAD)):
        try:
            parse_head(old)
        except DecodeError as error:
            raise UsageError(
                f"{path} exists and is no head or seal: choose another name, or remove it first"
            ) from error
    write_whole(path, content)


def is_stdout(path: Path) -> bool:
    """Whether `path` is the file that stdout goes to, as /dev/stdout is."""
    try:
        return os.path.samestat(path.stat(), os.fstat(_STDOUT))
    except OSError:  # there is no such file yet, or no stdout
        return False


def _beginning(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""
