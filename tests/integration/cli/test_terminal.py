"""What a person sees: colours, tables, progress; and what is left of it on a pipe."""

import re
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.recorded import record

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture
def log(tmp_path: Path) -> str:
    return record(tmp_path / "run.db").name


def test_records_are_coloured_on_a_terminal(cli: CommandLine, log: str) -> None:
    shown = cli.on_terminal("log", "cat", log, "--seq", "1..4")
    assert COLOUR.search(shown)
    lines = COLOUR.sub("", shown).splitlines()
    assert lines[0].startswith("     1 20")
    assert lines[0].endswith(' orders.eu.created Order /shop {"id":1}')
    assert lines[3].endswith("two\\nlines\\u001b[2J")


def test_no_payload_reaches_the_terminal_as_a_control_sequence(cli: CommandLine, log: str) -> None:
    for command in (("log", "cat", log), ("log", "cat", log, "-v"), ("log", "tail", log)):
        assert "\x1b[2J" not in cli.on_terminal(*command)


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("command", ["cat", "ls", "info", "verify"])
def test_colours_can_be_switched_off(
    cli: CommandLine, log: str, setting: dict[str, str], command: str
) -> None:
    cli.settings.update(setting)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", cli.on_terminal("log", command, log))


def test_topics_are_a_table_on_a_terminal(cli: CommandLine, log: str) -> None:
    lines = CONTROL.sub("", cli.on_terminal("log", "ls", log)).splitlines()
    header = next(line for line in lines if line.startswith("topic"))
    assert header.split() == ["topic", "count", "first", "last", "since", "until", "rate", "types"]
    assert any(re.match(r"orders\.eu\.paid +1 +3 +3 +20", line) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_tables_fit_the_terminal(cli: CommandLine, log: str, width: int) -> None:
    cli.settings["COLUMNS"] = str(width)
    check = "ids_are_unique_and_stand_in_the_receipt"
    (cli.folder / "project").mkdir()
    (cli.folder / "project" / "code.py").write_text(f"def {'long_' * 20}name(): pass\n")
    tables = {
        "orders.eu.created": ("log", "ls", log),
        "ids_are": ("conformance", "--all", "--check", check),
        "code.long_": ("demo", "--root", "project", "--log", "demo.db"),
    }
    for first, command in tables.items():
        shown = CONTROL.sub("", cli.on_terminal(*command)).splitlines()
        rows = [line for line in shown if first in line]
        assert rows, shown
        assert all(len(row) <= width for row in rows)


def test_a_narrow_terminal_is_told_of_columns_left_out(cli: CommandLine, log: str) -> None:
    def heading(width: int) -> list[str]:
        cli.settings["COLUMNS"] = str(width)
        lines = CONTROL.sub("", cli.on_terminal("log", "ls", log)).splitlines()
        return next(line.split() for line in lines if line.startswith("topic"))

    everything = ["topic", "count", "first", "last", "since", "until", "rate", "types"]
    assert heading(120) == everything
    assert heading(80)[-1] == "…"
    assert heading(80)[0] == heading(40)[0] == "topic"
    assert heading(36) == ["topic", "count", "last", "…"]


def test_long_work_shows_progress_on_a_terminal_only(cli: CommandLine, log: str) -> None:
    assert "verifying" in cli.on_terminal("log", "verify", log)
    assert cli.run("log", "verify", log).err == ""


def test_errors_are_red_on_a_terminal_and_plain_in_a_file(cli: CommandLine) -> None:
    assert "\x1b[31m" in cli.on_terminal("log", "ls", "missing.db")
    assert cli.run("log", "ls", "missing.db", fails=1).err.startswith("error: there is no log")


def test_the_traceback_of_an_error_is_shown_when_asked_for(cli: CommandLine) -> None:
    ended = cli.shell(
        "hms-bus log ls missing.db --debug; HMS_BUS_DEBUG=1 hms-bus log ls missing.db"
    )
    assert ended.err.count("Traceback (most recent call last)") == 2
