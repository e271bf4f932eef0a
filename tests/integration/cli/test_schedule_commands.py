"""`hms-bus schedule`: what is told of messages that a log keeps for later, and ending them."""

import asyncio
import json
from typing import Any

import pytest

from hms_bus import Bus
from hms_bus.attributes import new_envelope
from hms_bus.plugins import open_log
from hms_bus.schedules import SCHEDULER, make_schedule, schedule_record
from tests.support.command_line import CommandLine
from tests.support.recorded import record

HOLD = """
import asyncio, sys
from hms_bus import Bus

async def main():
    async with Bus("direct://", log="sqlite:run.db"):
        print("holding", file=sys.stderr, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def schedule(url: str, log: str | None = None) -> None:
    """Schedule one for each day, one for 2100 that has replaced another, and end a third."""
    async with Bus(url, log=log, source="/desk") as bus:
        await bus.schedule("tea", "reminders.tea", {"cups": 2}, cron="0 16 * * *", type="Tea")
        await bus.schedule("fete", "replaced", 1, at="2099-01-01T00:00:00Z")
        await bus.schedule("fete", "reminders.fete", "\x1b", at="2100-01-01T00:00:00Z")
        await bus.schedule("gone", "reminders.gone", 1, at="2100-01-01T00:00:00Z")
        await bus.unschedule("gone")


@pytest.fixture(params=["file", "hub"])
def place(request: pytest.FixtureRequest) -> tuple[CommandLine, tuple[str, ...]]:
    """The command line, and how the log is named that holds schedules."""
    if request.param == "file":
        cli: CommandLine = request.getfixturevalue("cli")
        asyncio.run(schedule("direct://", f"sqlite:{cli.folder}/run.db"))
        return cli, ("run.db",)
    machine: CommandLine = request.getfixturevalue("machine")
    asyncio.run(schedule(f"ipc://agents?log=sqlite:{machine.folder}/run.db"))
    return machine, ("--bus", "ipc://agents")


def listed(cli: CommandLine, *names: str) -> list[dict[str, Any]]:
    lines = cli.run("schedule", "ls", *names, "--format", "json").lines
    return [json.loads(line) for line in lines]


def names(cli: CommandLine, *place: str) -> list[str]:
    return [each["name"] for each in listed(cli, *place)]


def test_schedules_are_listed_the_next_one_first(
    place: tuple[CommandLine, tuple[str, ...]],
) -> None:
    cli, where = place
    tea, fete = listed(cli, *where)
    assert tea["due"].endswith("T16:00:00.000000Z")
    assert {name: tea[name] for name in ("name", "cron", "timezone", "position")} == {
        "name": "tea",
        "cron": "0 16 * * *",
        "timezone": "UTC",
        "position": 1,
    }
    assert (tea["event"]["topic"], tea["event"]["data"]) == ("reminders.tea", {"cups": 2})
    assert (fete["due"], fete["cron"]) == ("2100-01-01T00:00:00.000000Z", None)
    text = cli.run("schedule", "ls", *where).lines
    assert text[0] == f'tea\t{tea["due"]}\t0 16 * * *\tUTC\treminders.tea\tTea\t/desk\t{{"cups":2}}'
    assert text[1].endswith("\t-\t-\treminders.fete\treminders.fete\t/desk\t\\u001b")
    header = cli.run("schedule", "ls", *where, "--format", "csv").lines[0]
    assert header == "name,due,cron,timezone,topic,type,source,payload"


def test_a_schedule_is_ended(place: tuple[CommandLine, tuple[str, ...]]) -> None:
    cli, where = place
    ended = cli.run("schedule", "rm", "fete", *where, "--by", "/me").text
    assert ended == "ended fete, which was due for reminders.fete at 2100-01-01T00:00:00.000000Z\n"
    assert names(cli, *where) == ["tea"]
    for name in ("fete", "gone", "no.such"):
        err = cli.run("schedule", "rm", name, *where, fails=2).err
        assert f"no schedule '{name}' that is open: it has tea" in err


def test_what_was_sent_is_not_told_of_and_what_is_overdue_is(cli: CommandLine) -> None:
    async def work() -> None:
        url = f"sqlite:{cli.folder}/run.db"
        async with Bus("direct://", log=url) as bus, bus.subscribe("a") as messages:
            # It comes again and again, so nothing is settled up to behind it.
            await bus.schedule("pin", "pinned", 1, cron="0 0 1 1 *")
            await bus.schedule("sent", "a", 1, delay=0)
            await anext(messages)
        async with open_log(url) as log:
            over = make_schedule(new_envelope("a", "late", source="/shop"), delay=0)
            await log.append([schedule_record("over", "/shop", over)])

    asyncio.run(work())
    over, pin = listed(cli, "run.db")
    assert (over["name"], over["event"]["data"], pin["name"]) == ("over", "late", "pin")
    floor = json.loads(cli.run("durable", "ls", "run.db", "--format", "json").lines[0])["floor"]
    assert floor < pin["position"], f"{SCHEDULER.name} has settled all, this shows nothing"


def test_what_nobody_can_run_is_not_told_of(cli: CommandLine) -> None:
    async def work() -> None:
        broken = schedule_record("tea", "/shop", None).replace(type="hms.bus.schedule.v1")
        async with open_log(f"sqlite:{cli.folder}/run.db") as log:
            await log.append([broken])

    asyncio.run(work())
    assert listed(cli, "run.db") == []


def test_a_log_without_schedules_has_none(cli: CommandLine) -> None:
    log = record(cli.folder / "run.db").name
    ended = cli.run("schedule", "ls", log)
    assert (ended.text, ended.err) == ("", f"no schedules in sqlite:{log}\n")
    assert "it has none" in cli.run("schedule", "rm", "tea", log, fails=2).err


def test_a_log_that_is_not_there_is_not_made(cli: CommandLine) -> None:
    for command in (("ls",), ("rm", "tea")):
        cli.run("schedule", *command, "run.db", fails=1)
    assert list(cli.folder.iterdir()) == []


def test_a_file_that_another_process_writes_is_read_and_not_changed(cli: CommandLine) -> None:
    asyncio.run(schedule("direct://", f"sqlite:{cli.folder}/run.db"))
    with cli.start_python(HOLD, ready="holding"):
        assert names(cli, "run.db") == ["tea", "fete"]
        err = cli.run("schedule", "rm", "tea", "run.db", fails=1).err
    assert "open for writing by process" in err
