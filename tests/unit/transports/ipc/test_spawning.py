"""Starting a hub: what the process gets, and what is left of it."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from hms_bus.errors import ConnectError
from hms_bus.ipc.places import Place
from hms_bus.transports.ipc.spawning import MAX_LOG_BYTES, Child, SpawnOptions, start_hub
from tests.support.hub_places import private_place

# Writes down what it was given.
SURVEY = """
import json, os, sys
json.dump(
    {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "is_leader": os.getsid(0) == os.getpid(),
        "stdin": os.readlink("/dev/fd/0"),
        "stdout": os.readlink("/dev/fd/1"),
        "mark": os.environ.get("MARK"),
        "open": len(os.listdir("/dev/fd")),
    },
    sys.stderr,
)
"""


@pytest.fixture
def place(runtime: Path) -> Place:
    runtime.mkdir(mode=0o700)
    return private_place(runtime)


def start(place: Place, program: str, *arguments: str) -> Child:
    return start_hub(
        place, SpawnOptions(program=(sys.executable, "-c", program), arguments=arguments)
    )


def wait_for_end(child: Child) -> int:
    for thread in threading.enumerate():
        if thread.name == f"hms-bus-hub-{child.pid}":
            thread.join(30)
    assert child.status is not None
    return child.status


def test_what_the_process_is_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "ours")
    with Path("/dev/null").open() as unrelated:
        os.set_inheritable(unrelated.fileno(), True)  # noqa: FBT003 - its only parameter
        child = start(place, SURVEY, "--log", "memory:")
        assert wait_for_end(child) == 0
    assert json.loads(place.hub_log.read_text()) == {
        "arguments": ["--spawned", "--listen", "ipc://agents", "--log", "memory:"],
        "folder": "/",
        "is_leader": True,
        "stdin": "/dev/null",
        "stdout": "/dev/null",
        "mark": "ours",
        "open": 4,  # the three of every process, and the one that counts them
    }


def test_the_program_is_the_hub_by_default() -> None:
    assert SpawnOptions().program == (sys.executable, "-m", "hms_bus.hub")
    assert SpawnOptions().arguments == ()


def test_its_end_is_noticed_and_leaves_no_zombie(place: Place) -> None:
    child = start(place, "raise SystemExit(7)")
    assert wait_for_end(child) == 7
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_a_signal_is_a_negative_status(place: Place) -> None:
    child = start(place, "import os; os.kill(os.getpid(), 9)")
    assert wait_for_end(child) == -9


def test_its_words_are_kept_for_its_owner_only(place: Place) -> None:
    mask = os.umask(0)
    try:
        child = start(place, "import sys; sys.exit('no such log')")
    finally:
        os.umask(mask)
    wait_for_end(child)
    assert child.read_last_words() == "no such log"
    assert place.hub_log.stat().st_mode & 0o777 == 0o600


def test_its_last_words_are_its_own(place: Place) -> None:
    place.hub_log.write_text("of another hub\n")
    child = start(place, "import sys; [print(n, file=sys.stderr) for n in range(20)]")
    wait_for_end(child)
    assert child.read_last_words().split() == [str(n) for n in range(12, 20)]
    assert place.hub_log.read_text().startswith("of another hub\n0\n1\n")


def test_one_that_says_nothing_or_whose_log_is_gone_has_no_last_words(place: Place) -> None:
    place.hub_log.write_text("of another hub\n")
    child = start(place, "")
    wait_for_end(child)
    assert child.read_last_words() == ""
    place.hub_log.unlink()
    assert child.read_last_words() == ""


@pytest.mark.parametrize(("before", "is_kept"), [(MAX_LOG_BYTES, True), (MAX_LOG_BYTES + 1, False)])
def test_a_log_that_is_too_long_is_begun_anew(place: Place, before: int, *, is_kept: bool) -> None:
    place.hub_log.write_bytes(b"x" * before)
    wait_for_end(start(place, "import sys; sys.exit('new')"))
    assert place.hub_log.stat().st_size == len("new\n") + (before if is_kept else 0)


def test_a_program_that_is_not_there_is_an_error_with_its_name(place: Place) -> None:
    with pytest.raises(ConnectError, match=r"'/no/such/program': No such file") as caught:
        start_hub(place, SpawnOptions(program=("/no/such/program",)))
    assert caught.value.url == "ipc://agents"


def test_a_log_that_cannot_be_written_is_an_error_with_its_name(place: Place) -> None:
    place.hub_log.mkdir()
    with pytest.raises(ConnectError, match=r"agents\.hub\.log: Is a directory"):
        start(place, "")
