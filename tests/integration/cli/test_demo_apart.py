"""The demo's team in processes of its own, over a hub: the same report, and an end in any case."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine, relay_hub

APART = ("demo", "--root", "project", "--processes", "4")


@pytest.fixture
def project(machine: CommandLine) -> Path:
    """A small project: some files with functions, one that is no Python."""
    folder = machine.folder / "project"
    folder.mkdir()
    for number in range(20):
        body = "    if a:\n        pass\n" * number
        (folder / f"file_{number}.py").write_text(f"import os\n\ndef f(a):\n    return a\n{body}")
    (folder / "broken.py").write_text("def")
    return folder


@pytest.fixture
def long_project(machine: CommandLine) -> Path:
    """A project that keeps the team busy for a while."""
    folder = machine.folder / "project"
    folder.mkdir()
    for number in range(400):
        (folder / f"file_{number}.py").write_text("import os\n" + "x = [1, 2, 3]\n" * 400)
    return folder


def status_of(machine: CommandLine, hub: str = "demo") -> dict[str, Any]:
    return json.loads(machine.run("hub", "status", hub, "--format", "json").text)


def team_at_work(machine: CommandLine) -> list[int]:
    """Wait until the team has begun; the ids of its processes."""
    pids = set[int]()
    while len(pids) < 5:  # four, and the desk's
        machine.shell("until hms-bus hub status demo 2>&1 | grep -q source.found; do :; done")
        pids = {client["pid"] for client in status_of(machine)["clients"]}
    return sorted(pids)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("processes", ["1", "4", "7"])
def test_the_report_is_the_same_in_any_number_of_processes(
    machine: CommandLine, project: Path, processes: str
) -> None:
    together = json.loads(machine.run("demo", "--root", "project", "--format", "json").text)
    apart = json.loads(
        machine.run(*APART[:-1], processes, "--log", "apart.db", "--format", "json").text
    )
    assert apart["report"] == together["report"]
    assert apart["report"]["unreadable"] == 1
    for name in ("critic", "editor", "scout", "desk"):
        figures = apart["stats"][name], together["stats"][name]
        for member in ("published", "requests"):
            assert figures[0][member] == figures[1][member]
    assert list(apart["stats"]) == list(together["stats"])
    assert sum(apart["stats"][f"reader-{n}"]["requests"] for n in range(1, 5)) == 21


def test_the_log_is_kept_by_the_hub_and_read_by_every_command(
    machine: CommandLine, project: Path
) -> None:
    text = machine.run(*APART).text
    assert "\ndemo.db\n" in text
    assert machine.run("hub", "ls").text == ""
    rows = [line.split("\t") for line in machine.run("log", "ls", "demo.db").lines]
    counts = {row[0]: row[1] for row in rows}
    assert counts["source.found"] == counts["source.read"] == counts["critic.review"] == "21"
    assert counts["report.ready"] == "1"
    machine.run("log", "verify", "demo.db")
    machine.run("log", "export", "demo.db", "-o", "run.jsonl")


def test_a_second_run_has_a_log_of_its_own(machine: CommandLine, project: Path) -> None:
    logs = [json.loads(machine.run(*APART, "--format", "json").text)["log"] for _ in range(2)]
    assert logs == ["demo.db", "demo-2.db"]


def test_a_hub_that_is_there_keeps_its_log_and_stays(machine: CommandLine, project: Path) -> None:
    with machine.start("hub", "--listen", "ipc://demo", "--log", "own.db", ready="listens"):
        told = json.loads(machine.run(*APART, "--format", "json").text)
        assert told["log"] == status_of(machine)["log"]["url"]
        assert machine.run("log", "tail", told["log"], "-n", "1", "--raw").text.startswith("{")
        err = machine.run(*APART, "--log", "other.db", fails=1).err
    assert "the hub keeps the log" in err
    assert len(err.splitlines()) == 1


def test_a_hub_that_others_have_joined_stays(machine: CommandLine, long_project: Path) -> None:
    with machine.start("demo", "--root", "project", "--bus", "ipc://demo") as demo:
        machine.shell("until hms-bus hub status demo; do :; done")
        with machine.start("sub", "x", "--bus", "ipc://demo?spawn=false", ready="listening"):
            assert demo.end().status == 0
            assert len(status_of(machine)["clients"]) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing_behind(
    machine: CommandLine, long_project: Path, number: signal.Signals, status: int
) -> None:
    with machine.start(*APART) as demo:
        pids = team_at_work(machine)
        demo.send_signal(number)
        ended = demo.end()
    assert ended.status == status
    assert ended.err in ("", "finishing what was accepted; Ctrl-C again stops\n")
    assert not any(map(is_alive, pids))
    assert machine.run("hub", "ls").text == ""
    machine.run("log", "verify", "demo.db")


def test_a_second_interrupt_ends_every_process_at_once(
    machine: CommandLine, long_project: Path
) -> None:
    with machine.start(*APART) as demo:
        pids = team_at_work(machine)
        demo.send_signal(signal.SIGINT)
        demo.await_error_line("Ctrl-C again stops")
        demo.send_signal(signal.SIGINT)
        ended = demo.end()
    assert ended.status == 130
    assert "Traceback" not in ended.err
    assert not any(map(is_alive, pids))


def test_a_process_that_dies_ends_the_demo_with_its_name(
    machine: CommandLine, long_project: Path
) -> None:
    with machine.start(*APART) as demo:
        pids = team_at_work(machine)
        killed = next(pid for pid in pids if pid != demo.pid)
        os.kill(killed, signal.SIGKILL)
        ended = demo.end()
    assert ended.status == 1
    assert re.search(r"error: the process of [a-z]+.* was ended by SIGKILL before", ended.err)
    assert not any(map(is_alive, pids))


def test_the_team_does_not_outlive_a_demo_that_was_killed(
    machine: CommandLine, long_project: Path
) -> None:
    with machine.start(*APART) as demo:
        pids = team_at_work(machine)
        demo.send_signal(signal.SIGKILL)
        demo.end()
        deadline = time.monotonic() + 30
        while any(map(is_alive, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_team_works_over_a_transport_of_a_third_party(cli: CommandLine) -> None:
    (cli.folder / "project").mkdir()
    (cli.folder / "project" / "code.py").write_text("import os\n")
    script = (
        "import asyncio, sys; from hms_bus.cli.demo.processes import run;"
        "print(asyncio.run(run(sys.argv[1], processes=3, root='project'))[0].files)"
    )
    with relay_hub(cli.folder) as url:
        done = subprocess.run(
            [sys.executable, "-c", script, url],
            cwd=cli.folder,
            env=cli.environment,
            capture_output=True,
            check=True,
            text=True,
        )
    assert (done.stdout, done.stderr) == ("1\n", "")
