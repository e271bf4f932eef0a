"""The file that says where a hub without a socket listens."""

import os
from pathlib import Path

import pytest

from hms_bus.ipc.loopback import Loopback, make_token, read_loopback, write_loopback
from tests.support.hub_places import give_away

TOLD = Loopback(port=4242, token="secret")


def test_what_is_written_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "agents.tcp"
    mask = os.umask(0)
    try:
        write_loopback(path, TOLD)
    finally:
        os.umask(mask)
    assert read_loopback(path) == TOLD
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_writing_replaces_the_file_and_never_writes_into_it(tmp_path: Path) -> None:
    path = tmp_path / "agents.tcp"
    path.write_text("before")
    (tmp_path / f"agents.tcp.{os.getpid()}.new").write_text("left by a process that was killed")
    with path.open() as before:
        write_loopback(path, TOLD)
        assert before.read() == "before"
    assert read_loopback(path) == TOLD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"port":4242}',
        b'{"port":0,"token":"a"}',
        b'{"port":65536,"token":"a"}',
        b'{"port":"1","token":"a"}',
        b'{"port":1,"token":"' + b"x" * 5000 + b'"}',
    ],
)
def test_a_file_that_says_something_else_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agents.tcp"
    path.write_bytes(content)
    assert read_loopback(path) is None


def test_unknown_members_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "agents.tcp").write_text('{"port":4242,"token":"secret","more":[1]}')
    assert read_loopback(tmp_path / "agents.tcp") == TOLD


def test_it_says_whether_the_token_of_the_client_counts(tmp_path: Path) -> None:
    told = Loopback(port=4242, token="secret", tokens=True)
    write_loopback(tmp_path / "agents.tcp", told)
    assert read_loopback(tmp_path / "agents.tcp") == told
    assert not TOLD.tokens


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_loopback(tmp_path / "agents.tcp") is None
    assert read_loopback(tmp_path) is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    write_loopback(tmp_path / "agents.tcp", TOLD)
    (tmp_path / "agents.tcp").chmod(mode)
    assert read_loopback(tmp_path / "agents.tcp") is None


def test_a_file_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_loopback(tmp_path / "agents.tcp", TOLD)
    give_away(tmp_path / "agents.tcp", monkeypatch)
    assert read_loopback(tmp_path / "agents.tcp") is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    write_loopback(tmp_path / "other.tcp", TOLD)
    (tmp_path / "agents.tcp").symlink_to(tmp_path / "other.tcp")
    with pytest.raises(OSError, match="symbolic links"):
        read_loopback(tmp_path / "agents.tcp")


def test_tokens_differ_and_are_long() -> None:
    assert make_token() != make_token()
    assert len(make_token()) >= 43
