"""`hms-bus replay`: exit statuses, what is printed, and the keys of a terminal."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import ParamSpec, TypeVar

import msgspec
import pytest

from hms_bus import Bus, Envelope
from hms_bus.abc import Selector
from hms_bus.ipc.places import RUNTIME_DIR
from hms_bus.plugins import open_log
from tests.support.command_line import CommandLine
from tests.support.replayed_team import TASKS
from tests.support.runs import answered, keep, said
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


async def test_what_differs_is_named_by_its_position_in_the_log(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:cheating", "--diff")
    ended = await apart(cli.run, *arguments, fails=1)
    position = ended.lines[1].split()[2]
    why = await apart(cli.run, "why", position, "run.db")
    assert '{"task":3,' in why.lines[-1]
    assert "task.done" in why.lines[-1]


async def test_as_many_differences_are_listed_as_wanted(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:asking_more", "--diff")
    ended = await apart(cli.run, *arguments, "-n", "1", fails=1)
    assert len([line for line in ended.lines if line[:1] in "~-+"]) == 2
    assert "more" in ended.text
    everything = await apart(cli.run, *arguments, "-n", "0", fails=1)
    assert len(everything.lines) > 20
    assert " more" not in everything.text


async def test_what_the_record_lacks_ends_a_strict_replay(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:asking_more", "--effects", "strict")
    ended = await apart(cli.run, *arguments, fails=1)
    assert ended.err.count("'tool.stock' number 0 of /agents/worker") == 1
    assert "look at task.planned at position " in ended.err


async def test_what_differs_up_to_what_the_record_lacks_is_shown(cli: CommandLine) -> None:
    arguments = ("replay", "run.db", "--into", "shop:asking_more", "--effects", "strict")
    ended = await apart(cli.run, *arguments, "--diff", fails=1)
    assert ended.lines[0] == "first difference:"
    assert '    topic: "tool.price" -> "tool.stock"' in ended.lines
    assert "'tool.stock' number 0" in ended.err


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
    ended = await apart(cli.run, *INTO, "--break", "data['zz'] > 2", "--seq", "1..1")
    assert "--break could not be evaluated for 1 record: TypeError" in ended.err


async def test_outputs_are_written_to_a_file_the_same_each_time(cli: CommandLine) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        ended = await apart(cli.run, *INTO, "--capture", name)
        assert ended.text == ""
    one, two = ((cli.folder / name).read_bytes() for name in ("one.jsonl", "two.jsonl"))
    assert one == two
    assert len([msgspec.json.decode(line) for line in one.splitlines()]) == 4 * DONE
    ended = await apart(cli.run, *INTO, "--capture", "one.jsonl", "--seq", "..1", fails=2)
    assert "--force" in ended.err
    assert (cli.folder / "one.jsonl").read_bytes() == two
    await apart(cli.run, *INTO, "--capture", "one.jsonl", "--seq", "..1", "--force")
    assert (cli.folder / "one.jsonl").read_bytes() != two


@pytest.mark.parametrize("force", [(), ("--force",)])
async def test_no_log_is_captured_over(cli: CommandLine, force: tuple[str, ...]) -> None:
    folder = cli.folder
    async with open_log(f"sqlite:{folder / 'other.db'}") as log:
        await log.append([said("word")])
        (folder / "link.jsonl").symlink_to("other.db")
        names = ("run.db", "other.db", "other.db-wal", "link.jsonl")
        before = [(folder / name).read_bytes() for name in names]
        for name in names:
            ended = await apart(cli.run, *INTO, "--capture", name, *force, fails=2)
            assert f"{name} is a log" in ended.err
            assert "--force" not in ended.err
        assert [(folder / name).read_bytes() for name in names] == before


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
        ("--into", "shop:build", "--requests"),
        ("--into", "shop:build", "--ignore", "$.price"),
        ("--into", "shop:build", "-n", "3"),
        ("--into", "shop:build", "--force"),
        ("--into", "shop:build", "--diff", "--ignore", "price"),
        ("--into", "shop:build", "--break", "topik == 'task.new'"),
        ("--into", "shop:build", "--diff", "--seq", "9999.."),
        ("--into", "shop:listening", "--diff"),
        ("--to", "direct://"),
        ("--to", "ipc://agents", "--diff"),
        ("--to", "ipc://agents", "--loop"),
        ("--to", "ipc://agents", "--capture", "said.jsonl"),
        ("--to", "ipc://agents", "--break", "data"),
        ("--to", "ipc://agents", "-p"),
        ("--to", "ipc://agents", "--effects", "recorded"),
    ],
    ids=" ".join,
)
async def test_mistakes_exit_with_2(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    ended = await apart(cli.run, "replay", "run.db", *arguments, fails=2)
    assert ended.text == ""
    assert not (cli.folder / "said.jsonl").exists()


@pytest.mark.parametrize("options", [("--into", "shop:build", "--diff"), ("--to", "ipc://agents")])
async def test_a_log_that_is_not_there_is_a_mistake(
    cli: CommandLine, options: tuple[str, ...]
) -> None:
    ended = await apart(cli.run, "replay", "nowhere.db", *options, fails=2)
    assert "there is no log" in ended.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wants_nothing", "cannot be called with a URL, too many positional arguments: "),
        ("failing", "shop.py:"),
        ("failing", "with KeyError: 'no such team'"),
    ],
)
async def test_a_function_that_makes_no_agents_is_named(
    cli: CommandLine, name: str, words: str
) -> None:
    ended = await apart(cli.run, "replay", "run.db", "--into", f"shop:{name}", fails=2)
    assert f"shop:{name} " in ended.err
    assert words in ended.err


async def test_all_before_a_damaged_record_is_played_and_compared(cli: CommandLine) -> None:
    whole = await apart(cli.run, *INTO)
    last = await apart(_damage_the_end, cli)
    ended = await apart(cli.run, *INTO, fails=3)
    assert f"position {last}" in ended.err
    assert ended.lines == whole.lines
    ended = await apart(cli.run, *INTO, "--diff", fails=3)
    assert ended.lines == [f"no difference: {4 * DONE} events are the same"]
    assert f"{4 * DONE} outputs" in ended.err
    await apart(cli.run, "replay", "run.db", "--into", "shop:cheating", "--diff", fails=3)


async def test_damage_behind_what_was_asked_for_changes_no_status(cli: CommandLine) -> None:
    last = await apart(_damage_the_end, cli)
    asked = ("--seq", f"..{last - 1}", "--diff")
    ended = await apart(cli.run, *INTO, *asked)
    assert f"position {last}" in ended.err
    await apart(cli.run, "replay", "run.db", "--into", "shop:cheating", *asked, fails=1)


def _damage_the_end(cli: CommandLine) -> int:
    """Append a record that cannot be read; return its position."""
    keep([said("noise")], cli.folder / "run.db")
    last = len(cli.run("log", "cat", "run.db").lines)
    _damage(str(cli.folder / "run.db"), last)
    return last


async def test_all_before_a_damaged_record_is_published(cli: CommandLine) -> None:
    events = await apart(cli.run, "log", "cat", "run.db", "--seq", "..9", "--topic", "task.*")
    await apart(_damage, str(cli.folder / "run.db"), 10)
    cli.settings["HMS_BUS_LOG"] = "copy.db"
    ended = await apart(cli.run, "replay", "run.db", "--to", "direct://", fails=3)
    assert f"published {len(events.lines)} events" in ended.err
    assert "position 10" in ended.err


def _damage(path: str, position: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        assert "records" in tables
        connection.execute("DROP VIEW IF EXISTS events")
        connection.execute("UPDATE records SET document = X'7B' WHERE position = ?", (position,))


async def test_events_are_published_on_a_live_bus(cli: CommandLine) -> None:
    cli.settings["HMS_BUS_LOG"] = "copy.db"
    arguments = ("replay", "run.db", "--to", "direct://", "--rate", "1000")
    ended = await apart(cli.run, *arguments)
    assert f"published {TASKS + 2 * DONE} events, left out {DONE} requests" in ended.err
    copied = await _events(cli, "copy.db")
    assert len(copied) == TASKS + 2 * DONE
    assert all((envelope.extensions or {}).get("replayed") is True for envelope in copied)
    ended = await apart(cli.run, *arguments)
    assert f"published 0 events, {TASKS + 2 * DONE} were there already" in ended.err


async def test_only_what_some_agents_sent_is_published(cli: CommandLine) -> None:
    cli.settings["HMS_BUS_LOG"] = "copy.db"
    event = said("noted", by="/agents/desk/1f6a09c3")
    await apart(keep, [event, said("noted", by="/agents/other")], cli.folder / "made.db")
    await apart(cli.run, "replay", "made.db", "--to", "direct://", "--only", "desk")
    assert [envelope.id for envelope in await _events(cli, "copy.db")] == [event.id]


LATER = "2199-01-01T00:00:00Z"


def _requests() -> list[Envelope]:
    """An event and four requests: answered far behind, in time, as a stream, and never."""
    far = said("pay.now", 1, by="/shop")
    near, unanswered = (said("pay.now", n, by="/shop", expirytime=LATER) for n in (2, 3))
    stream = said("pay.now", 4, by="/shop", credit=5)
    noise = [said("noise", n, by="/shop") for n in range(2000)]
    reply = answered(near, "paid", by="/bank")
    return [far, near, reply, unanswered, stream, *noise, answered(far, "paid", by="/bank")]


async def test_no_request_is_carried_out_again_unless_it_is_wanted(cli: CommandLine) -> None:
    cli.settings[RUNTIME_DIR] = os.environ[RUNTIME_DIR]
    async with open_log(f"sqlite:{cli.folder / 'paid.db'}") as log:
        await log.append(_requests())
    served: list[int] = []
    async with Bus("ipc://bank", source="/bank") as bank, bank.subscribe("noise") as noise:

        @bank.serve("pay.now")
        async def pay(order: int) -> str:
            served.append(order)
            return "paid"

        arguments = ("replay", "paid.db", "--to", "ipc://bank", "--seq", "..6")
        ended = await apart(cli.run, *arguments)
        assert "published 1 event, left out 4 requests" in ended.err
        await anext(noise)
        assert served == []
        ended = await apart(cli.run, *arguments, "--requests")
        assert "published 2 events, asked 3 requests" in ended.err
        assert {1, 2} <= set(served)


async def test_a_request_that_cannot_be_read_ends_nothing(cli: CommandLine) -> None:
    broken = said("pay.now", 1, by="/shop").replace(data=b"{broken")
    run = [broken, answered(broken, "paid", by="/bank"), said("news", by="/shop")]
    async with open_log(f"sqlite:{cli.folder / 'broken.db'}") as log:
        await log.append(run)
    cli.settings["HMS_BUS_LOG"] = "copy.db"
    ended = await apart(cli.run, "replay", "broken.db", "--to", "direct://", "--requests")
    assert "published 1 event, asked 1 request" in ended.err
    assert "Traceback" not in ended.err


async def _events(cli: CommandLine, name: str) -> list[Envelope]:
    async with open_log(f"sqlite:{cli.folder / name}?readonly=true") as log:
        return [record.envelope async for record in log.read(Selector())]


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
