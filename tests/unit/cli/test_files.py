"""Files are written complete or not at all."""

from pathlib import Path

import pytest

from hms_bus.cli.files import replacing, write_whole


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "head"
    for content in (b"old", b"new"):
        write_whole(target, content)
        assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "head"
    write_whole(target, b"old")
    with pytest.raises(KeyboardInterrupt):
        _write_half(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def _write_half(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"half of")
        raise KeyboardInterrupt
