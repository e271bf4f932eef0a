"""Locks as Windows has them, played on this system: only the calls are tested, not Windows."""

import errno
import fcntl
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from hms_bus import filelock, kernellock
from hms_bus.filelock import FileLock, is_held, read_holder, try_lock

BEHIND_ALL_TEXT = 4096


def locking(descriptor: int, mode: int, count: int) -> None:
    """What `msvcrt.locking` does: it locks from where the file stands, and fails with EACCES."""
    assert count == 1
    assert os.lseek(descriptor, 0, os.SEEK_CUR) > BEHIND_ALL_TEXT
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


@pytest.fixture
def windows_locks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is on Windows."""
    with monkeypatch.context() as patch:
        patch.setitem(
            sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0)
        )
        patch.setattr(sys, "platform", "win32")
        spec = importlib.util.spec_from_file_location("windows_locks", kernellock.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    monkeypatch.setattr(filelock, "kernellock", module)
    return module


@pytest.mark.usefixtures("windows_locks")
def test_a_lock_is_held_seen_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = try_lock(path, mode=0o600)
    assert isinstance(lock, FileLock)
    assert is_held(path)
    assert str(try_lock(path, mode=0o600)).startswith(f"process {os.getpid()} on ")
    assert read_holder(path) == try_lock(path, mode=0o600)
    lock.release()
    assert not is_held(path)


def test_what_is_no_lock_is_an_error(
    windows_locks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int, mode: int, count: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), (descriptor, mode, count))

    monkeypatch.setattr(windows_locks.msvcrt, "locking", broken)
    with pytest.raises(OSError, match="Input/output error"):
        try_lock(tmp_path / "a.lock", mode=0o600)
