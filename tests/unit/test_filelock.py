"""Lock files; what logs do with them is tested with the logs."""

import os
from pathlib import Path

import pytest

from hms_bus.filelock import FileLock, is_held, read_holder, try_lock
from tests.support.descriptors import open_descriptors


def take(path: Path, mode: int = 0o600) -> FileLock:
    taken = try_lock(path, mode=mode)
    assert isinstance(taken, FileLock)
    return taken


def test_who_comes_second_learns_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    lock = take(path)
    assert str(try_lock(path, mode=0o600)).startswith(f"process {os.getpid()} on ")
    assert read_holder(path) == try_lock(path, mode=0o600)
    lock.release()
    assert read_holder(path) is None
    take(path).release()


def test_whether_it_is_held_can_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not is_held(path)
    lock = take(path)
    assert is_held(path)
    (tmp_path / "left.lock").write_text("by a process that was killed")
    assert not is_held(tmp_path / "left.lock")
    lock.release()
    assert not is_held(path)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_file_is_made_with_the_mode_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    lock = take(tmp_path / "a.lock", mode)
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == mode
    lock.release()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / "a.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        try_lock(tmp_path / "a.lock", mode=0o600)
    assert (tmp_path / "precious").read_text() == "content"


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    before = open_descriptors()
    lock = take(tmp_path / "a.lock")
    try_lock(tmp_path / "a.lock", mode=0o600)
    lock.release()
    assert open_descriptors() == before
