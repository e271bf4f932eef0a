"""The fixture `replays` in a pytest of its own: a recorded run as a regression test."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from hms_bus.testing import replaying
from tests.support.command_line import ROOT

AGENTS = """
    from msgspec.structs import replace
    from hms_bus import Bus, demo

    def team(url):
        for name, agent in demo.TEAM.items():
            bus = Bus(url, source=f"/agents/{name}")
            agent(bus)
            yield bus

    def forgetful_team(url):
        yield from (bus for bus in team(url) if "reader" not in bus.source)
        for name in demo.READERS:
            bus = Bus(url, source=f"/agents/{name}")

            @bus.subscribe("source.found", group="readers")
            async def read(file: demo.SourceFile, bus=bus) -> None:
                facts = demo.read_facts(file)
                findings = await bus.request("critic.review", facts, returns=list[str], timeout=9)
                size = 0 if file.module == "two" else facts.bytes
                await bus.publish("source.read", replace(facts, findings=findings, bytes=size))

            yield bus

    def curious(url):
        bus = Bus(url, source="/agents/curious")

        @bus.subscribe("survey.start")
        async def ask(root: str) -> None:
            await bus.request("somebody.else", root, timeout=1)

        return bus

    def deaf(url):
        bus = Bus(url, source="/agents/deaf")

        @bus.subscribe("never.said")
        async def hear(text: str) -> None: ...

        return bus
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log of a demo, run.db, and with agents, agents.py."""
    folder = tmp_path_factory.mktemp("regression")
    (folder / "agents.py").write_text(dedent(AGENTS))
    (folder / "project").mkdir()
    for name in ("one", "two", "three"):
        (folder / "project" / f"{name}.py").write_text(f"def {name}(): return 1\n")
    program = "import asyncio; from hms_bus import demo; asyncio.run(demo.run({}, {}))"
    arguments = f"log='sqlite:run.db', root={str(folder / 'project')!r}"
    script = program.format("'direct://demo'", arguments)
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=30)
    return folder


def run(folder: Path, test: str, tmp_path: Path) -> tuple[int, str]:
    """Run a test that stands in `folder`; the working directory is another one."""
    file = folder / f"test_{tmp_path.name}.py"
    file.write_text(f"import agents\n{dedent(test)}")
    options = ["-q", "-p", replaying.__name__, "-p", "no:cacheprovider", "--rootdir", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return ended.returncode, ended.stdout


def test_agents_that_say_the_same_pass_in_two_lines(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_the_survey_is_as_it_was(replays):
            replays("run.db", agents.team)
        """,
        tmp_path,
    )
    assert status == 0, out
    assert "1 passed" in out


def test_the_message_of_a_failure_is_the_diff(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_the_survey_is_as_it_was(replays):
            replays("run.db", agents.forgetful_team)
        """,
        tmp_path,
    )
    size = (folder / "project" / "two.py").stat().st_size
    assert status == 1
    assert "what the agents say now differs from run.db\nfirst difference:\n~ recorded" in out
    assert "source.read FileFacts by /agents/reader-" in out
    assert f"\n    $.bytes: {size} -> 0\n" in out
    assert "replaying.py" not in out


def test_what_differs_on_purpose_is_ignored(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_the_survey_is_as_it_was(replays):
            outcome = replays("run.db", agents.forgetful_team, ignore=["$.bytes"])
            assert outcome.played > 0
        """,
        tmp_path,
    )
    assert status == 0, out


def test_nothing_outside_the_record_is_asked(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_an_agent_asks_what_nobody_had_asked(replays):
            replays("run.db", agents.curious)
        """,
        tmp_path,
    )
    assert status == 1
    assert "run.db does not replay: " in out
    assert "somebody.else" in out


def test_a_record_that_cannot_be_read_fails_in_words(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_nothing(replays):
            replays("no-such-run.db", agents.team)
        """,
        tmp_path,
    )
    assert status == 1
    assert "no-such-run.db cannot be read: there is no log" in out
    assert "replaying.py" not in out


def test_a_replay_that_reaches_nobody_fails(folder: Path, tmp_path: Path) -> None:
    status, out = run(
        folder,
        """
        def test_nothing(replays):
            replays("run.db", agents.deaf)

        async def nothing(replays):
            replays("run.db", agents.team)

        def test_in_a_loop(replays):
            import asyncio
            asyncio.run(nothing(replays))
        """,
        tmp_path,
    )
    assert status == 1
    assert "run.db was not replayed: no record of it reached an agent" in out
    assert "call it in a plain test" in out


def test_the_fixture_is_there_as_soon_as_the_package_is_installed() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'"{replaying.__name__}" = "{replaying.__name__}"' in pyproject.partition("pytest11")[2]
    installed = importlib.metadata.entry_points(group="pytest11", name=replaying.__name__)
    assert all(found.load() is replaying for found in installed)
