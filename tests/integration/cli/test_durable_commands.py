"""`hms-bus durable`: what is told of a log's durables, and removing them; files and hubs."""

import json
import re
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.dead_letters import record_dead, record_dead_at
from tests.support.recorded import record
from tests.support.terminal import at_terminal

STANDS = {
    "name": "billing",
    "pattern": "orders.>",
    "group": "till",
    "floor": 3,
    "delivered": 4,
    "lag": 2,
    "unacked": 1,
    "redelivered": 0,
    "consumers": 0,
    "dead": 2,
}
HOLD = """
import asyncio, sys
from hms_bus import Bus
from hms_bus.abc import Durable

async def main():
    async with Bus({bus}) as bus:
        durable = Durable(name="billing", pattern="orders.>", group="till")
        async with bus.log.consume(durable):
            print("consuming", file=sys.stderr, flush=True)
            await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture(params=["file", "hub"])
def place(request: pytest.FixtureRequest) -> tuple[CommandLine, tuple[str, ...]]:
    """The command line, and how the log is named that holds dead letters."""
    if request.param == "file":
        cli: CommandLine = request.getfixturevalue("cli")
        return cli, (record_dead(cli.folder / "run.db").name,)
    machine: CommandLine = request.getfixturevalue("machine")
    record_dead_at(f"ipc://agents?log=sqlite:{machine.folder}/run.db")
    return machine, ("--bus", "ipc://agents")


def listed(cli: CommandLine, *names: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli.run("durable", "ls", *names, "--format", "json").lines]


def test_durables_are_listed(place: tuple[CommandLine, tuple[str, ...]]) -> None:
    cli, names = place
    assert listed(cli, *names) == [STANDS]
    assert cli.run("durable", "ls", *names).lines == [
        "billing\torders.>\ttill\t3\t4\t2\t1\t0\t0\t2"
    ]
    header = cli.run("durable", "ls", *names, "--format", "csv").lines[0]
    assert header == ("name,pattern,group,floor,delivered,lag,unacked,redelivered,consumers,dead")


def test_all_is_told_of_one(place: tuple[CommandLine, tuple[str, ...]]) -> None:
    cli, names = place
    told = json.loads(cli.run("durable", "show", "billing", *names, "--format", "json").text)
    assert told == STANDS | {
        "dead": [2, 3],
        "start": "beginning",
        "start_ns": None,
        "ack_wait_s": 30.0,
        "max_deliveries": 2,
        "max_unacked": 9,
    }
    text = cli.run("durable", "show", "billing", *names).text
    assert re.search(r"^unacked +1 of at most 9$", text, re.MULTILINE)
    assert re.search(
        r"^dead letters +2 open: hms-bus dlq ls --durable billing$", text, re.MULTILINE
    )


def test_a_durable_is_removed_with_all_that_is_known(
    place: tuple[CommandLine, tuple[str, ...]],
) -> None:
    cli, names = place
    refused = cli.run("durable", "rm", "billing", *names, fails=2).err
    assert (
        "remove billing (orders.>) with 1 unsettled deliveries and 2 open dead letters" in refused
    )
    assert "--yes" in refused
    assert listed(cli, *names) == [STANDS]
    assert cli.run("durable", "rm", "billing", *names, "--yes").text.startswith("removed billing")
    assert listed(cli, *names) == []
    assert "it has none" in cli.run("durable", "rm", "billing", *names, "--yes", fails=2).err


@pytest.mark.parametrize("command", ["show", "rm"])
def test_one_that_is_not_there_is_told_with_those_that_are(
    place: tuple[CommandLine, tuple[str, ...]], command: str
) -> None:
    cli, names = place
    assert "no durable 'x': it has billing" in cli.run("durable", command, "x", *names, fails=2).err


def test_a_terminal_is_asked(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    # The line behind Ctrl-C wakes a program that was told to end just before it began to read.
    for answer, status in ((b"n\n", 1), (b"\x04", 1), (b"\x03\n", 130), (b"y\n", 0)):
        with at_terminal(cli, "durable", "rm", "billing", log) as shown:
            shown.wait_for("2 open dead letters? [y/N]")
            shown.press(answer)
            text = shown.end(status=status)
        assert ("nothing was removed" in text) == (status == 1)
        assert listed(cli, log) == ([STANDS] if status else [])


def test_a_table_on_a_terminal(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", cli.on_terminal("durable", "ls", log))
    assert shown.splitlines()[0].split() == list(STANDS)


def test_a_log_without_durables_has_none(cli: CommandLine) -> None:
    log = record(cli.folder / "run.db").name
    ended = cli.run("durable", "ls", log)
    assert (ended.text, ended.err) == ("", f"no durables in sqlite:{log}\n")
    assert cli.run("durable", "ls", log, "--format", "json").text == ""


def test_a_log_that_is_not_there_is_not_made(cli: CommandLine) -> None:
    for command in (("ls",), ("show", "x"), ("rm", "x", "--yes")):
        cli.run("durable", *command, "run.db", fails=1)
    assert list(cli.folder.iterdir()) == []


def test_a_file_that_another_process_writes_is_read_and_not_changed(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    script = HOLD.format(bus="'direct://', log='sqlite:run.db'")
    with cli.start_python(script, ready="consuming"):
        assert listed(cli, log) == [STANDS | {"consumers": None}]
        assert "ask it with --bus" in cli.run("durable", "show", "billing", log).text
        err = cli.run("durable", "rm", "billing", log, "--yes", fails=1).err
    assert "open for writing by process" in err
    assert re.search(r"^next: .*--bus ipc://NAME", err, re.MULTILINE)


def test_a_durable_in_use_is_counted_and_not_removed(machine: CommandLine) -> None:
    record_dead_at(f"ipc://agents?log=sqlite:{machine.folder}/run.db")
    with machine.start_python(HOLD.format(bus="'ipc://agents'"), ready="consuming"):
        assert listed(machine, "--bus", "ipc://agents") == [STANDS | {"consumers": 1}]
        removing = ("durable", "rm", "billing", "--bus", "ipc://agents", "--yes")
        assert "has a consumer" in machine.run(*removing, fails=1).err
        assert listed(machine, "run.db") == [STANDS | {"consumers": None}]


def test_the_configured_log_is_that_of_the_hub_while_there_is_one(machine: CommandLine) -> None:
    machine.settings |= {"HMS_BUS_URL": "ipc://agents", "HMS_BUS_LOG": f"{machine.folder}/run.db"}
    record_dead(machine.folder / "run.db")
    assert listed(machine) == [STANDS]
    assert machine.run("hub", "ls", "--format", "json").text == ""
    machine.run("pub", "orders.eu", "1")
    assert listed(machine) == [STANDS | {"lag": 3}]
    machine.run("durable", "rm", "billing", "--yes")
    assert listed(machine) == []


def test_no_hub_is_started_to_look(machine: CommandLine) -> None:
    err = machine.run("durable", "ls", "--bus", "ipc://agents", fails=1).err
    assert "hms-bus hub ls" in err
    assert machine.run("hub", "ls", "--format", "json").text == ""


@pytest.mark.parametrize("url", ["ipc://agents", "direct://"])
def test_a_bus_without_a_log_has_no_durables(machine: CommandLine, url: str) -> None:
    machine.run("pub", "x", "1", "--bus", "ipc://agents")
    err = machine.run("durable", "ls", "--bus", url, fails=2).err
    assert f"{url} does not support a log: name the file of one" in err


def test_a_log_is_named_once(cli: CommandLine) -> None:
    err = cli.run("durable", "ls", "run.db", "--bus", "ipc://agents", fails=2).err
    assert "write one of them" in err
