"""`hms-bus replay`: exit statuses, what is printed, and the keys of a terminal."""

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import ParamSpec, TypeVar

import msgspec
import pytest

from hms_bus.abc import Selector
from hms_bus.plugins import open_log
from tests.support.command_line import CommandLine
from tests.support.replayed_team import TASKS
from tests.support.terminal import at_terminal

P = ParamSpec("P")
T = TypeVar("T")
DONE = TASKS + TASKS // 2
INTO = ("replay", "run.db", "--into", "shop:build")


async def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(function, *args, **kwargs)


async def test_an_unchanged_team_exits_with_0(cli: CommandLine) -> None:
    ended = await apart(cli.run, *INTO, "--diff", "--effects", "strict")
    assert "the same" in ended.text
    assert f"{4 * DONE} outputs" in ended.err


async def test_a_changed_agent_exits_with_1_and_shows_what_changed(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:cheating", "--diff")
    ended = await apart(cli.run, *arguments, fails=1)
    assert "1 changed, 0 missing, 0 extra" in ended.text
    assert "$.price" in ended.text
    await apart(cli.run, *arguments, "--ignore", "$.price")


async def test_what_the_record_lacks_ends_a_strict_replay(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:asking_more", "--effects", "strict")
    ended = await apart(cli.run, *arguments, fails=1)
    assert "'tool.stock' number 0 of /agents/worker" in ended.err


async def test_lines_tell_what_arrives_and_what_is_said(cli: CommandLine) -> None:
    ended = await apart(cli.run, *INTO, "--only", "planner")
    told = [line.split("\t") for line in ended.lines]
    assert [line[0] for line in told].count("in") == TASKS
    assert [line[3] for line in told if line[0] == "out"] == ["task.planned"] * DONE


async def test_a_break_without_a_terminal_ends_the_replay(cli: CommandLine) -> None:
    ended = await apart(cli.run, *INTO, "--break", "topic == 'task.new' and data == 2")
    assert [line for line in ended.lines if "\ttask.new\t" in line][-1].endswith("\t1")
    assert "--break holds" in ended.err
    await apart(cli.run, *INTO, "--break", "no python at all", fails=2)


async def test_outputs_are_written_to_a_file_the_same_each_time(cli: CommandLine) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        await apart(cli.run, *INTO, "--capture", name)
    one, two = ((cli.folder / name).read_bytes() for name in ("one.jsonl", "two.jsonl"))
    assert one == two
    assert len([msgspec.json.decode(line) for line in one.splitlines()]) == 4 * DONE


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--into", "shop:build", "--to", "direct://"),
        ("--into", "shop:nothing"),
        ("--into", "nowhere:build"),
        ("--into", "shop:build", "--rate", "0"),
        ("--into", "shop:build", "--remap", "old"),
        ("--into", "shop:build", "--only", "nobody"),
    ],
    ids=" ".join,
)
async def test_mistakes_exit_with_2(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    await apart(cli.run, "replay", "run.db", *arguments, fails=2)


async def test_a_damaged_record_exits_with_3(cli: CommandLine) -> None:
    await apart(_damage, str(cli.folder / "run.db"), 20)
    ended = await apart(cli.run, *INTO, "--diff", fails=3)
    assert "position 20" in ended.err


def _damage(path: str, position: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        assert "records" in tables
        connection.execute("DROP VIEW IF EXISTS events")
        connection.execute("UPDATE records SET document = X'7B' WHERE position = ?", (position,))


async def test_events_are_published_on_a_live_bus(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--to", "direct://", "--seq", "1..")
    ended = await apart(cli.run, *arguments)
    assert f"published {TASKS + 2 * DONE} events" in ended.err
    cli.settings["HMS_BUS_LOG"] = "copy.db"
    ended = await apart(cli.run, *arguments, "--rate", "1000")
    assert "0 were there; 0 requests" in ended.err
    async with open_log(f"sqlite:{cli.folder / 'copy.db'}?readonly=true") as log:
        copied = [r.envelope async for r in log.read(Selector())]
    assert len(copied) == TASKS + 2 * DONE
    assert all((envelope.extensions or {}).get("replayed") is True for envelope in copied)
    ended = await apart(cli.run, *arguments)
    assert f"{TASKS + 2 * DONE} were there" in ended.err


async def test_keys_control_a_replay_on_a_terminal(cli: CommandLine) -> None:
    def drive() -> str:
        with at_terminal(cli, *INTO, "-p", "--break", "topic == 'task.done'") as terminal:
            terminal.wait_for("paused max")
            terminal.press(b"\x1b[B")
            terminal.wait_for("paused 100x")
            terminal.press(b"\x1b[A")
            terminal.wait_for("paused max")
            terminal.press(b"\x1b[C")
            terminal.wait_for("task.planned")
            terminal.press(b" ")
            terminal.wait_for("task.done")
            terminal.wait_for("q quit")
            terminal.press(b"q")
            return terminal.end(status=0)

    assert "ended" in await apart(drive)


async def test_a_terminal_shows_the_end(cli: CommandLine) -> None:
    shown = await apart(cli.on_terminal, *INTO)
    assert "ended max" in shown
    assert f"{4 * DONE} outputs" in shown


async def test_a_loop_replays_the_same_again_until_it_is_interrupted(cli: CommandLine) -> None:
    once = await apart(cli.run, *INTO)

    def loop() -> list[str]:
        with cli.start(*INTO, "--loop") as looping:
            lines = [looping.read_line() for _ in range(3 * len(once.lines))]
            looping.send_signal(signal.SIGINT)
            ended = looping.end()
        assert ended.status == 130
        assert "Traceback" not in ended.err
        return [line.removesuffix("\n") for line in lines]

    assert await apart(loop) == 3 * once.lines


async def test_a_loop_on_a_terminal_ends_with_a_key(cli: CommandLine) -> None:
    def loop() -> str:
        with at_terminal(cli, *INTO, "--loop") as terminal:
            for _ in range(3):
                terminal.wait_for(f"{4 * DONE} outputs")
                terminal.wait_for("records handled")
            terminal.press(b"q")
            return terminal.end(status=0)

    assert "ended max" in await apart(loop)
