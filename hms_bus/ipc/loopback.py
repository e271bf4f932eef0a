"""The file that stands in for a socket where there are none: a port on 127.0.0.1, and a token.

All of it blocks, so it belongs into a thread.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from hms_bus.filelock import OPEN_FLAGS

LOOPBACK = "127.0.0.1"

_MAX_BYTES = 4096
_FLAGS: int = OPEN_FLAGS | getattr(os, "O_NONBLOCK", 0)


class Loopback(Struct, frozen=True, kw_only=True):
    """What `NAME.tcp` says: where the hub listens, and what a client must know to be let in.

    With `tokens` that is a token of the client's own, else `token`.
    """

    port: Annotated[int, Meta(ge=1, le=65535)]
    token: str
    tokens: bool = False


def make_token() -> str:
    """Return a token that nobody guesses: 256 bits of chance."""
    return secrets.token_urlsafe(32)


def read_loopback(path: Path) -> Loopback | None:
    """Return what the file says, `None` when there is none.

    Also when it says something else, or when another user could have written it. Raises `OSError`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_trusted(status):
            return None
        return msgspec.json.decode(os.read(descriptor, _MAX_BYTES), type=Loopback)
    except msgspec.DecodeError:
        return None
    finally:
        os.close(descriptor)


def write_loopback(path: Path, loopback: Loopback) -> None:
    """Write the file, for its owner only, at once and whole. Raises `OSError`."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(loopback) + b"\n")
    finally:
        os.close(descriptor)
    new.replace(path)


def _is_trusted(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True  # such systems have no owners and modes to look at: the folder is the user's
    return status.st_uid in {os.geteuid(), 0} and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
