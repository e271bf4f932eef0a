"""The lock file."""

import os
from pathlib import Path

import pytest

from hms_bus.errors import LogLockedError
from hms_bus.log.lock import acquire


def test_it_is_held_until_it_is_released(tmp_path: Path) -> None:
    log = tmp_path / "events.db"
    lock = acquire(log)
    with pytest.raises(LogLockedError) as error:
        acquire(log)
    assert f"process {os.getpid()} on " in error.value.holder
    assert error.value.path == str(log)
    lock.release()
    acquire(log).release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [b"", b"no JSON", b'{"pid":1}', b"x" * 10_000])
def test_what_a_dead_holder_left_behind_does_not_matter(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "events.db.lock").write_bytes(left)
    lock = acquire(tmp_path / "events.db")
    assert b'"pid":' in (tmp_path / "events.db.lock").read_bytes()
    lock.release()


def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path) -> None:
    log = tmp_path / "events.db"
    lock = acquire(log)
    (tmp_path / "events.db.lock").write_bytes(b"")
    with pytest.raises(LogLockedError) as error:
        acquire(log)
    assert error.value.holder == "another process"
    lock.release()


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    lock = acquire(tmp_path / "events.db")
    child = os.dup(lock._descriptor)  # what a child inherits: the same open file
    lock.release()
    acquire(tmp_path / "events.db").release()
    os.close(child)


def test_a_lock_file_that_was_removed_guards_nothing(tmp_path: Path) -> None:
    """Whoever locks a file that is no longer the one in the folder must not believe it is alone."""
    log = tmp_path / "events.db"
    first = acquire(log)
    (tmp_path / "events.db.lock").unlink()
    second = acquire(log)
    first.release()
    second.release()
