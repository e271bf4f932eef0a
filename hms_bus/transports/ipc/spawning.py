"""Starting a hub as a process of its own, which outlives the client that started it."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from hms_bus.errors import ConnectError
from hms_bus.filelock import OPEN_FLAGS
from hms_bus.ipc.places import Place

MAX_LOG_BYTES = 1_048_576
"""A hub's log that is longer than that is begun anew by the next hub that is started."""

_LAST_LINES = 8
_LAST_BYTES = 8192


class SpawnOptions(Struct, frozen=True, kw_only=True):
    """How a client starts a hub: `program`, then `--spawned --listen URL`, then `arguments`."""

    arguments: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-m", "hms_bus.hub")


class Child:
    """A hub that was started by `start_hub`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, log_start: int) -> None:
        self._process = process
        self._log = log
        self._log_start = log_start

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended: its exit status, or the negative number of a signal; `None` if it runs."""
        return self._process.returncode

    def read_last_words(self) -> str:
        """Return the last lines that it has written to its log. Blocks."""
        with suppress(OSError), self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - _LAST_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return "\n".join(lines[-_LAST_LINES:])
        return ""


def start_hub(place: Place, options: SpawnOptions) -> Child:
    """Start a hub that belongs to no terminal and to no client. Blocks. Raises `ConnectError`.

    It has our environment, so that it looks for its place where we do.
    """
    where = str(place.hub_log)
    try:
        log = _open_log(place.hub_log)
        try:
            log_start = os.fstat(log).st_size
            where = repr(options.program[0])
            process = subprocess.Popen(  # noqa: S603 - what runs is this package, or the caller's
                [*options.program, "--spawned", "--listen", place.url, *options.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # It shall not keep a folder from being unmounted.
                cwd=Path(place.folder.anchor),
                start_new_session=True,
            )
            child = Child(process, place.hub_log, log_start)
        finally:
            os.close(log)
    except OSError as error:
        raise ConnectError(
            f"cannot start a hub at {place.url}: {where}: {error.strerror}", url=place.url
        ) from error
    _reap_later(process)
    return child


def _reap_later(process: subprocess.Popen[bytes]) -> None:
    """Wait for the process in a thread, so that no zombie is left if it ends before we do.

    The thread is a daemon: a hub that lives on shall not hold up our own end. It needs no event
    loop, since ours may be gone long before the hub is.
    """
    name = f"hms-bus-hub-{process.pid}"
    threading.Thread(target=process.wait, name=name, daemon=True).start()


def _open_log(path: Path) -> int:
    """Return the file to append to, empty if it has become too long. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | OPEN_FLAGS
    log = os.open(path, flags, 0o600)
    if os.fstat(log).st_size > MAX_LOG_BYTES:
        os.ftruncate(log, 0)
    return log
