"""Runtime folders of tests: short enough for a socket's path, and left without a process in it."""

import json
import os
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.places import RUNTIME_DIR, Place, find_place

NOBODY = 65534


@contextmanager
def runtime_folder() -> Generator[Path]:
    """Point `HMS_BUS_RUNTIME_DIR` to a folder that is not there yet; kill its hubs at the end.

    A hub that comes too late finds no parent to make its folder in, and ends.
    """
    with tempfile.TemporaryDirectory(prefix="hms-", dir="/tmp") as parent:
        folder = Path(parent, "run")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(RUNTIME_DIR, str(folder))
            try:
                yield folder
            finally:
                kill_holders(Path(parent))


def kill_holders(folder: Path) -> None:
    """Kill the processes that hold hub locks below `folder`, our own excepted."""
    for path in filter(Path.is_file, folder.glob("**/*.lock")):
        taken = try_lock(path, mode=0o600)
        if isinstance(taken, FileLock):
            taken.release()
        elif (pid := json.loads(path.read_text())["pid"]) != os.getpid():
            os.kill(pid, signal.SIGKILL)


def private_place(folder: Path, name: str = "agents") -> Place:
    """Return the place of a hub in a runtime folder of the test."""
    return find_place(name, environment={RUNTIME_DIR: str(folder)})


def give_away(path: Path, patch: pytest.MonkeyPatch) -> int:
    """Let `path` belong to another user than the one we seem to be; return that user."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        return NOBODY
    owner = path.lstat().st_uid
    patch.setattr(os, "geteuid", lambda: owner + 1)
    return owner


@contextmanager
def as_another(patch: pytest.MonkeyPatch) -> Generator[int]:
    """Act as another user than the one that we seem to be afterwards; yields that user."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
        try:
            yield NOBODY
        finally:
            os.seteuid(0)
    else:
        yield user
        patch.setattr(os, "geteuid", lambda: user + 1)
