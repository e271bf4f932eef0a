"""`hms-bus dlq`: what is dead and why, the originals, and delivering them again."""

import asyncio
import json
import re
from typing import Any

import pytest

from hms_bus import new_envelope
from hms_bus.abc import Selector
from hms_bus.plugins import open_log
from tests.support.command_line import CommandLine
from tests.support.dead_letters import (
    BILLING,
    REASON,
    consuming,
    record_dead,
    record_dead_at,
    settle,
)
from tests.support.terminal import at_terminal

Named = tuple[CommandLine, tuple[str, ...]]


@pytest.fixture(params=["file", "hub"])
def place(request: pytest.FixtureRequest) -> Named:
    """The command line, and how the log is named that holds dead letters."""
    if request.param == "file":
        cli: CommandLine = request.getfixturevalue("cli")
        return cli, (record_dead(cli.folder / "run.db").name,)
    machine: CommandLine = request.getfixturevalue("machine")
    record_dead_at(f"ipc://agents?log=sqlite:{machine.folder}/run.db")
    return machine, ("--bus", "ipc://agents")


def listed(cli: CommandLine, *names: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli.run("dlq", "ls", *names, "--format", "json").lines]


def dead(cli: CommandLine, *names: str) -> list[tuple[int, int]]:
    """Positions of open letters and of their originals."""
    return [(row["letter"], row["position"]) for row in listed(cli, *names)]


def test_open_letters_are_listed(place: Named) -> None:
    cli, names = place
    [first, second] = listed(cli, *names)
    when = first.pop("when")
    assert re.fullmatch(r"2\d{3}-.*T.*Z", when)
    assert first == {
        "letter": 7,
        "durable": "billing",
        "position": 2,
        "topic": "orders.eu",
        "type": "Order",
        "attempts": 1,
        "code": "INVALID_ARGUMENT",
        "reason": REASON,
    }
    assert (second["letter"], second["position"], second["attempts"]) == (8, 3, 2)
    assert (second["code"], second["reason"]) == ("UNAVAILABLE", "the bank is closed")
    line = cli.run("dlq", "ls", *names).lines[0]
    shown = "7\tbilling\t2\torders.eu\tOrder\t1\tINVALID_ARGUMENT\tno such\\naccount\\u001b[2J\t"
    assert line == f"{shown}{when}"


def test_letters_of_one_durable_are_listed(place: Named) -> None:
    cli, names = place
    assert dead(cli, *names, "--durable", "billing") == [(7, 2), (8, 3)]
    assert "no durable 'x'" in cli.run("dlq", "ls", *names, "--durable", "x", fails=2).err


@pytest.mark.parametrize("by", ["letter", "position", "id", "start", "original"])
def test_a_letter_is_shown_with_the_original(place: Named, by: str) -> None:
    cli, names = place
    [_, row] = listed(cli, *names)
    whole = json.loads(cli.run("dlq", "show", "8", *names, "--format", "json").text)
    name = {
        "letter": "8",
        "position": "3",
        "id": whole["id"],
        "start": whole["id"][:-1],
        "original": whole["original"]["id"],
    }[by]
    told = json.loads(cli.run("dlq", "show", name, *names, "--format", "json").text)
    assert told == whole
    assert told["state"] == "open"
    assert told["when"] == row["when"]
    assert told["original"]["data"] == {"id": 3, "lines": ["tea"]}
    assert (told["attempts"], told["code"]) == (2, "UNAVAILABLE")


def test_a_letter_is_readable(place: Named) -> None:
    cli, names = place
    text = cli.run("dlq", "show", "7", *names).text
    assert re.search(r"^letter +position 7, open, id ", text, re.MULTILINE)
    assert re.search(r"^why +INVALID_ARGUMENT no such\\naccount\\u001b\[2J$", text, re.MULTILINE)
    assert re.search(r"^original +position 2, recorded 2", text, re.MULTILINE)
    assert re.search(r"^source +/shop$", text, re.MULTILINE)
    assert json.loads(text[text.index("{") :]) == {"id": 2, "lines": ["tea"]}
    raw = cli.run("dlq", "show", "7", "--raw", *names).out
    assert raw == b'{"id":2,"lines":["tea"]}\n'


def test_a_letter_on_a_terminal_is_coloured_and_safe(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    shown = cli.on_terminal("dlq", "show", "7", log)
    assert "\x1b[31m" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[2J" not in cli.on_terminal("dlq", "ls", log)


@pytest.mark.parametrize("name", ["1", "9", "6", "0000", str(10**19)])
def test_what_is_no_letter_is_not_shown(place: Named, name: str) -> None:
    cli, names = place
    err = cli.run("dlq", "show", name, *names, fails=2).err
    assert f"no dead letter '{name}'" in err


def test_several_that_fit_are_told(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    start = json.loads(cli.run("dlq", "show", "7", log, "--format", "json").text)["id"][:4]
    err = cli.run("dlq", "show", start, log, fails=2).err
    assert f"2 dead letters fit '{start}', take a position:\n  7  billing" in err


@pytest.mark.parametrize(
    ("choice", "left"),
    [
        (("--all",), []),
        (("--position", "2"), [(8, 3)]),
        (("--position", "3", "--position", "2"), []),
        (("--code", "unavailable"), [(7, 2)]),
        (("--code", "UNAVAILABLE", "--code", "INVALID_ARGUMENT"), []),
    ],
)
def test_letters_are_redriven(
    place: Named, choice: tuple[str, ...], left: list[tuple[int, int]]
) -> None:
    cli, names = place
    count = 2 - len(left)
    many = f"{count} dead letter{'s' if count > 1 else ''}"
    refused = cli.run("dlq", "redrive", "billing", *names, *choice, fails=2).err
    assert f"deliver {many} of billing again" in refused
    assert dead(cli, *names) == [(7, 2), (8, 3)]
    done = cli.run("dlq", "redrive", "billing", *names, *choice, "--yes")
    assert done.text == f"redriven {many} of billing\n"
    assert "has no consumer now" in done.err
    assert dead(cli, *names) == left
    shown = json.loads(cli.run("dlq", "show", "8", *names, "--format", "json").text)
    assert shown["state"] == ("open" if (8, 3) in left else "redriven")


def test_a_redriven_record_is_delivered_as_if_for_the_first_time(cli: CommandLine) -> None:
    path = record_dead(cli.folder / "run.db")
    cli.run("dlq", "redrive", "billing", path.name, "--position", "3", "--yes")

    async def die_again() -> list[tuple[int, int]]:
        async with open_log(f"sqlite:{path}") as log, consuming(log).consume(BILLING) as consumer:
            deliveries = await consumer.fetch(1)
            await settle(consumer, deliveries[0], "term", code="ABORTED", reason="again")
            return [(one.record.position, one.attempt) for one in deliveries]

    assert asyncio.run(die_again()) == [(3, 1)]
    assert dead(cli, path.name) == [(7, 2), (9, 3)]
    states = {
        position: json.loads(cli.run("dlq", "show", position, path.name, "--format", "json").text)
        for position in ("8", "9", "3")
    }
    assert states["8"]["state"] == "redriven"
    assert states["9"]["state"] == "open"
    assert states["3"] == states["9"]


def test_nothing_is_redriven_that_is_not_dead(place: Named) -> None:
    cli, names = place
    redrive = ("dlq", "redrive", "billing", *names, "--yes")
    err = cli.run(*redrive, "--position", "7", "--position", "2", fails=2).err
    assert "position 7 is no open dead letter of billing" in err
    assert "nothing to do" in cli.run(*redrive, "--code", "ABORTED").err
    assert dead(cli, *names) == [(7, 2), (8, 3)]
    cli.run(*redrive, "--all")
    assert "nothing to do" in cli.run(*redrive, "--all").err


@pytest.mark.parametrize("choice", [(), ("--all", "--code", "X"), ("--all", "--position", "2")])
def test_what_to_redrive_is_said_in_one_way(cli: CommandLine, choice: tuple[str, ...]) -> None:
    log = record_dead(cli.folder / "run.db").name
    err = cli.run("dlq", "redrive", "billing", log, "--yes", *choice, fails=2).err
    assert "write one of --position N, --code CODE, --all" in err
    assert dead(cli, log) == [(7, 2), (8, 3)]


def test_a_terminal_is_asked_before(cli: CommandLine) -> None:
    log = record_dead(cli.folder / "run.db").name
    for answer, status, left in ((b"n\n", 1, 2), (b"y\n", 0, 0)):
        with at_terminal(cli, "dlq", "redrive", "billing", log, "--all") as shown:
            shown.wait_for("deliver 2 dead letters of billing again? [y/N]")
            shown.press(answer)
            text = shown.end(status=status)
        assert ("nothing was redriven" in text) == (status == 1)
        assert len(dead(cli, log)) == left


def test_letters_of_a_durable_that_was_removed_are_not_open(place: Named) -> None:
    cli, names = place
    cli.run("durable", "rm", "billing", *names, "--yes")
    ended = cli.run("dlq", "ls", *names)
    assert ended.text == ""
    assert ended.err.startswith("no open dead letters in ")
    assert "its durable was removed" in cli.run("dlq", "show", "8", *names).text


def test_what_only_looks_like_a_letter_is_none(cli: CommandLine) -> None:
    path = record_dead(cli.folder / "run.db")

    async def append() -> None:
        async with open_log(f"sqlite:{path}") as log:
            [letter] = [record async for record in log.read(Selector(first=7, limit=1))]
            dead = letter.envelope
            moved = new_envelope("$dlq.other", dead.data, source="/x", type=dead.type)
            broken = new_envelope("$dlq.billing", {"durable": 1}, source="/x", type=dead.type)
            note = new_envelope("$dlq.billing", "hello", source="/x")
            for envelope in (moved, broken, note):
                await log.append([envelope])

    asyncio.run(append())
    ended = cli.run("dlq", "ls", path.name)
    assert len(ended.lines) == 2
    assert ended.err == "position 10 is no dead letter, although it is on its topic\n"
    for position in ("9", "10", "11"):
        cli.run("dlq", "show", position, path.name, fails=2)
