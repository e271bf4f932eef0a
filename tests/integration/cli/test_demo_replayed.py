"""What the demo has recorded, and a bug in its readers, through the real commands."""

import pytest

from tests.support.command_line import CommandLine

FILES = 12
ODD = "module_7"
"""The file with a character of several bytes, which the bug miscounts."""

BUGGY = """
from msgspec.structs import replace

from hms_bus import Bus, demo

read_facts = demo.read_facts


def count_characters(file: demo.SourceFile) -> demo.FileFacts:
    text = open(file.path, encoding="utf-8").read()
    return replace(read_facts(file), bytes=len(text))


def build(url: str) -> dict[str, Bus]:
    demo.read_facts = count_characters
    return demo.build(url)
"""

CHECKS = """
from pathlib import Path


def sizes_are_those_of_the_files(messages):
    paths = {}
    for message in messages:
        if message.topic == "source.found":
            paths[message.data["module"]] = message.data["path"]
        if message.topic == "source.read":
            module, size = message.data["module"], message.data["bytes"]
            assert size == Path(paths[module]).stat().st_size, f"{module} has not {size} bytes"
"""


@pytest.fixture
def demo(cli: CommandLine) -> CommandLine:
    """A folder with the demo's log, run.db, and with the modules buggy and checks."""
    project = cli.folder / "project"
    project.mkdir()
    for number in range(FILES):
        name = f"module_{number}"
        comment = "é" if name == ODD else "e"
        source = f"import os  # {comment}\n\ndef answer():\n    return {number}\n"
        (project / f"{name}.py").write_text(source, encoding="utf-8")
    (cli.folder / "buggy.py").write_text(BUGGY, encoding="utf-8")
    (cli.folder / "checks.py").write_text(CHECKS, encoding="utf-8")
    cli.run("demo", "--root", "project", "--log", "sqlite:run.db")
    return cli


def test_the_team_of_the_demo_says_what_it_said(demo: CommandLine) -> None:
    into = ("--into", "hms_bus.demo:build", "--effects", "strict")
    ended = demo.run("replay", "sqlite:run.db", *into, "--diff")
    assert ended.text == f"no difference: {4 * FILES + 2} events are the same\n"


def test_the_diff_shows_a_bug_in_the_readers(demo: CommandLine) -> None:
    ended = demo.run("replay", "run.db", "--into", "buggy:build", "--diff", fails=1)
    size = (demo.folder / "project" / f"{ODD}.py").stat().st_size
    assert f"    $.bytes: {size} -> {size - 1}" in ended.lines
    differing = [line for line in ended.lines if line.startswith("~")]
    topics = [line.split(": ")[1].split()[0] for line in differing]
    assert topics == ["critic.review", "source.read"]
    assert f"2 changed, 0 missing, 0 extra; {4 * FILES} the same" in ended.lines


def test_bisect_finds_a_bug_in_the_readers(demo: CommandLine) -> None:
    check = ("--check", "checks:sizes_are_those_of_the_files", "--minimize")
    demo.run("bisect", "run.db", *check)
    demo.run("replay", "run.db", "--into", "buggy:build", "--capture", "now.jsonl")
    demo.run("log", "import", "now.db", stdin=(demo.folder / "now.jsonl").read_bytes())
    ended = demo.run("bisect", "now.db", *check, fails=1)
    size = (demo.folder / "project" / f"{ODD}.py").stat().st_size
    assert ended.lines[0].endswith(f": {ODD} has not {size - 1} bytes")
    slice_ = [line.split("\t") for line in ended.lines[2:]]
    assert [record[2] for record in slice_] == ["source.found", "source.read"]
