"""Files are written complete or not at all, and never over a log."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from hms_bus.abc import Head
from hms_bus.cli.files import replacing, write_head, write_whole
from hms_bus.errors import UsageError
from hms_bus.log import format_head
from tests.support.tool_logs import fill, kill_writer, numbered, numbers

HEADS = [format_head(Head(position=n, hash=bytes(32), recorded_ns=n)) for n in (1, 2)]


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


def test_a_log_is_not_replaced_nor_its_wal(tmp_path: Path) -> None:
    source = fill(tmp_path / "source.db", numbered(3))
    log = kill_writer(source, numbered(3, first=4), tmp_path / "run.db")
    (tmp_path / "link").symlink_to(log)
    for name in ("run.db", "run.db-wal", "link"):
        with pytest.raises(UsageError, match="never replaced"):
            write_whole(tmp_path / name, b"new")
    assert numbers(log) == [*range(1, 7)]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, real = tmp_path / "link", tmp_path / "there" / "real"
    link.symlink_to(real)
    for content in (b"old", b"new"):
        write_whole(link, content)
        assert (link.is_symlink(), real.read_bytes()) == (True, content)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"new")
    reader.join()
    assert (found, pipe.is_fifo()) == ([b"new"], True)


@pytest.mark.parametrize("redirection", [">", ">>"])
@pytest.mark.parametrize("write", ["write_whole", "write_head"])
def test_a_file_that_stdout_goes_to_is_written_to(
    tmp_path: Path, redirection: str, write: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "import hms_bus.cli.files as files\n"
        "print('begun')\n"
        f"files.{write}(Path('/dev/stdout'), b'new\\n')\n"
    )
    out = tmp_path / "out"
    out.write_text("old\n")
    python, file, target = map(shlex.quote, (sys.executable, str(program), str(out)))
    shell = f"(echo before; {python} {file}; echo after) {redirection} {target}"
    subprocess.run(shell, shell=True, check=True)  # noqa: S602 - the redirection is what is tested
    old = "old\n" if redirection == ">>" else ""
    assert out.read_text() == f"{old}before\nbegun\nnew\nafter\n"


def test_what_replaces_a_file_may_be_read_by_the_same(tmp_path: Path) -> None:
    target = tmp_path / "head"
    target.touch()
    for mode in (0o600, 0o640):
        target.chmod(mode)
        write_whole(target, b"new")
        assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"new")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_head_replaces_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "head").touch()
    for head in HEADS:
        write_head(tmp_path / "head", head)
        assert (tmp_path / "head").read_bytes() == head


@pytest.mark.parametrize("content", [b"a key", b"{}", b"\xff" * 100_000])
def test_a_head_replaces_nothing_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UsageError, match="is no head or seal"):
        write_head(tmp_path / "other", HEADS[0])
    assert (tmp_path / "other").read_bytes() == content
