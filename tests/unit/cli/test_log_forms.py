"""The form of an exported file: said, or known from its name or its beginning."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hms_bus.cli.log.forms import Form, form_to_read, form_to_write
from hms_bus.errors import UsageError


@contextmanager
def opened(path: Path, content: bytes) -> Generator[int]:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("run.jsonl", "jsonl"),
        ("run.json", "batch"),
        ("run.MCAP", "mcap"),
        ("run.parquet", "parquet"),
        ("run", "jsonl"),
        (None, "jsonl"),
    ],
)
def test_a_name_says_what_is_written(name: str | None, form: Form) -> None:
    path = None if name is None else Path(name)
    assert form_to_write(path, None) == form
    assert form_to_write(path, form) == form


@pytest.mark.parametrize(
    ("name", "said"), [("run.parquet", "jsonl"), ("run.jsonl", "mcap"), ("run.mcap", "parquet")]
)
def test_a_name_of_another_form_is_refused(name: str, said: Form) -> None:
    with pytest.raises(UsageError, match=f"{name} is the name of .* not {said}"):
        form_to_write(Path(name), said)


def test_forms_of_text_are_not_told_apart_by_a_name() -> None:
    assert form_to_write(Path("run.json"), "jsonl") == "jsonl"
    assert form_to_write(Path("run.txt"), "mcap") == "mcap"


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"\x89MCAP0\r\n...", "mcap"),
        (b"PAR1...", "parquet"),
        (b'\n [{"specversion"', "batch"),
        (b'{"specversion"', "jsonl"),
    ],
)
def test_a_file_is_what_it_begins_as_whatever_its_name(
    content: bytes, form: Form, tmp_path: Path
) -> None:
    for name in ("run.jsonl", "run.parquet", "run"):
        with opened(tmp_path / name, content) as descriptor:
            assert form_to_read(name, descriptor, None) == form
            assert form_to_read(name, descriptor, form) == form
            assert os.read(descriptor, 100) == content


def test_another_form_than_was_said_is_refused(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "run", b"PAR1...") as descriptor,
        pytest.raises(UsageError, match="run has the form parquet, not mcap"),
    ):
        form_to_read("run", descriptor, "mcap")


def test_a_log_is_not_imported(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "run", b"SQLite format 3\0...") as descriptor,
        pytest.raises(UsageError, match="log merge"),
    ):
        form_to_read("run", descriptor, None)


def test_what_does_not_tell_is_what_its_name_says(tmp_path: Path) -> None:
    with opened(tmp_path / "run.mcap", b"x") as descriptor:
        assert form_to_read("run.mcap", descriptor, None) == "mcap"
        assert form_to_read("-", descriptor, None) == "jsonl"


def test_nothing_is_taken_out_of_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"[1]")
    try:
        assert form_to_read("-", reading, None) == "jsonl"
        assert os.read(reading, 9) == b"[1]"
    finally:
        os.close(reading)
        os.close(writing)
