"""The program as a whole: help, versions, completion, what a start loads."""

import json
import subprocess
import sys

import pytest

from hms_bus import __version__
from hms_bus.cli.app import COMMANDS
from hms_bus.cli.hub.group import COMMANDS as HUB_COMMANDS
from hms_bus.cli.log.group import COMMANDS as LOG_COMMANDS
from tests.support.command_line import ROOT, CommandLine

LOADED = """
import sys
sys.argv[1:] = {args!r}
from hms_bus.cli import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args", [["version"], ["--help"], ["--version"], ["log", "--help"], ["hub", "--help"]]
)
def test_a_start_loads_nothing_that_the_command_does_not_need(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(args=args)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    loaded = set(done.stderr.split())
    assert "click" in loaded
    heavy = {"rich", "sqlite3", "aiosqlite", "cbor2", "google.protobuf", "nats", "hms_bus.testing"}
    assert heavy.isdisjoint(loaded)
    assert not {name for name in loaded if f"{name}.".startswith("hms_bus.log.")}


@pytest.mark.parametrize(
    "command",
    [[name] for name in COMMANDS]
    + [["hub", name] for name in HUB_COMMANDS]
    + [["log", name] for name in LOG_COMMANDS],
    ids=" ".join,
)
def test_every_command_explains_itself(cli: CommandLine, command: list[str]) -> None:
    text = cli.run(*command, "--help").text
    assert text.startswith("Usage: hms-bus ")
    assert "Examples:" in text
    assert f"hms-bus {' '.join(command)}" in text.partition("Examples:")[2]
    assert {"130", "143"} < set(text.partition("Exit status:")[2].split())


def test_the_version_is_told(cli: CommandLine) -> None:
    assert cli.run("version").text == f"hms-bus {__version__}\n"
    assert cli.run("--version").text == f"hms-bus {__version__}\n"
    verbose = cli.run("version", "-v").lines
    assert f"python {sys.version.split()[0]} (CPython)" in verbose
    assert "codecs: cbor, json, protobuf" in verbose


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(cli: CommandLine, shell: str) -> None:
    assert "_HMS_BUS_COMPLETE" in cli.run("completion", shell).text


def test_the_shell_completes_commands_and_options(cli: CommandLine) -> None:
    def completed(words: str) -> list[str]:
        cli.settings.update(
            {
                "_HMS_BUS_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(words.count(" ")),
            }
        )
        return cli.run().lines

    assert "plain,verify" in completed("hms-bus log v")
    assert "plain,--since" in completed("hms-bus log cat --s")
    assert "plain,fish" in completed("hms-bus completion f")
    assert completed("hms-bus log cat ru") == ["file,ru"]


def test_direct_buses_are_explained_not_waited_for(cli: CommandLine) -> None:
    for command in (("pub", "a", "1"), ("sub", "a"), ("req", "a"), ("reply", "a", "--echo")):
        err = cli.run(*command, fails=2).err
        assert "direct:// (which stays within one process)" in err
    assert "--log run.db" in cli.run("pub", "a", "1", fails=2).err
    assert "hms-bus log tail -f" in cli.run("sub", "a", fails=2).err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("pub", "a.>", "1"), "belongs in a pattern"),
        (("pub", "a", "@missing.json"), "cannot read 'missing.json'"),
        (("pub", "a", "{", "--as", "json"), "no JSON"),
        (("pub", "a", "1", "-H", "priority=high"), "neither an integer"),
        (("pub", "a", "1", "-H", "noise"), "write name=value"),
        (("pub", "a", "1", "-H", "Bad_Name=1"), "no attribute name"),
        (("pub", "a", "1", "-H", "time=now"), "RFC 3339"),
        (("pub", "a", "1", "--ttl", "soon"), "500ms, 2.5s"),
        (("pub", "a", "text", "--lines"), "--lines reads stdin"),
        (("pub", "a", "1", "--expect", "last"), "none, any, or a position"),
        (("pub", "a", "1", "--expect", "none", "--count", "2"), "for one message"),
        (("pub", "a", "1", "--codec", "morse"), "known: cbor, json, protobuf"),
        (("pub", "a", "1", "--bus", "pigeon://"), "known: direct"),
        (("pub", "a", "1", "--bus", "direct://?codc=json"), "unknown option 'codc'"),
        (("sub", "a", "--codec", "xml"), "unknown codec 'xml'"),
        (("pub", "a", "{{coutn}}", "-t"), "known: count, time"),
        (("pub", "a.{{coutn}}", "-t"), "known: count, time"),
        (("log", "cat", "--seq", "5..3"), "ends before it begins"),
        (("puub", "a"), "Did you mean 'pub'?"),
        (("hub", "stauts"), "Did you mean 'status'?"),
        (("hub", "status", "direct://"), "has no hub: write ipc://NAME"),
        (("hub", "status", "my hub"), "no name of a hub"),
        (("hub", "top", "--interval", "1ms"), "the shortest is 0.1 seconds"),
        (("hub", "--log", "run.db", "status"), "--log is for running a hub"),
        (("hub", "--listen", "nats://host"), "has no hub"),
        (("demo", "--bus", "direct://demo", "--processes", "2"), "write --bus ipc://demo"),
        (("demo", "--processes", "100"), "not in the range 1<=x<=7"),
    ],
)
def test_a_wrong_command_line_is_refused_in_words(
    cli: CommandLine, args: tuple[str, ...], says: str
) -> None:
    cli.settings["HMS_BUS_LOG"] = "sqlite:run.db"
    ended = cli.run(*args, fails=2)
    assert says in ended.err
    assert ended.out == b""


def test_a_configuration_that_is_wrong_is_refused_by_name(cli: CommandLine) -> None:
    (cli.folder / "hms-bus.toml").write_text('colour = "blue"\n')
    assert "hms-bus.toml" in cli.run("pub", "a", "1", fails=2).err
    (cli.folder / "mine.toml").write_text('log = "sqlite:run.db"\nsource = "/mine"\n')
    cli.run("pub", "a", "1", "--config", "mine.toml")
    assert "\t/mine\t" in cli.run("log", "cat", "sqlite:run.db").text


def test_the_bench_measures_every_row(cli: CommandLine) -> None:
    bench = ("bench", "-n", "20", "--rounds", "1", "--folder", ".", "--format", "json")
    rows = [json.loads(line) for line in cli.run(*bench).lines]
    assert [row["bench"] for row in rows] == [
        "publish-1",
        "publish-10",
        "request",
        "append",
        "replay",
    ]
    assert all(row["per_second"] > 0 for row in rows)
    assert not list(cli.folder.glob("hms-bus-bench-*"))
    assert "there are publish-1" in cli.run("bench", "--only", "speed", fails=2).err


def test_the_demo_reports_on_what_it_read(cli: CommandLine) -> None:
    source = cli.folder / "source"
    source.mkdir()
    (source / "good.py").write_text('"""Fine."""\nimport os\n\n\ndef f(a):\n    return a or os\n')
    (source / "bad.py").write_text("def")
    text = cli.run("demo", "--root", "source").text
    assert "1 functions; 1 files could not be read as Python" in text
    assert "good.f" in text
    assert " log verify demo.db" in text
    cli.run("log", "verify", "demo.db")
    found = json.loads(cli.run("demo", "--root", "source", "--format", "json").text)
    assert found["log"] == "demo-2.db"
    assert found["report"]["functions"] == 1
    assert found["stats"]["scout"]["published"] == 3


def test_the_commands_that_the_demo_suggests_can_be_run(cli: CommandLine) -> None:
    (cli.folder / "project").mkdir()
    (cli.folder / "project" / "code.py").write_text("import os\n")
    cli.settings["PATH"] = "/usr/bin:/bin"
    for log in ("run.db", "my run.db"):
        shown = cli.run("demo", "--root", "project", "--log", log).text
        commands = [line for line in shown.splitlines() if line.startswith("  /")]
        assert len(commands) == 3
        for command in commands:
            ended = cli.shell(command)
            assert (ended.status, ended.err) == (0, "")
    on_path = cli.folder / "bin" / "hms-bus"
    on_path.parent.mkdir()
    on_path.touch(0o755)
    cli.settings["PATH"] = str(on_path.parent)
    assert "  hms-bus log ls demo.db" in cli.run("demo", "--root", "project").text


CHECK = "ids_are_unique_and_stand_in_the_receipt"


def test_conformance_tells_what_was_checked(machine: CommandLine) -> None:
    check = ("conformance", "ipc://{name}", "--codec", "json", "--check", CHECK)
    passed = machine.run(*check, "--all", "--format", "json")
    assert {json.loads(line)["outcome"] for line in passed.lines} == {"passed"}
    assert {json.loads(line)["check"] for line in passed.lines} == {CHECK}
    assert " passed, 0 failed, 0 unsupported in " in passed.err
    assert machine.run(*check).out == b""


def test_conformance_fails_with_what_it_checks(machine: CommandLine) -> None:
    nowhere = ("conformance", "ipc://nobody?spawn=false", "--log", "none")
    ended = machine.run(*nowhere, "--check", CHECK, fails=1)
    assert all(line.startswith(f"failed\t{CHECK}\t") for line in ended.lines)
    assert "ConnectError" in ended.text
    unknown = machine.run("conformance", "direct://", "--check", "everything", fails=2)
    assert "no check of the name everything" in unknown.err
