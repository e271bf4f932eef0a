"""`hms-bus diff`, `why`, `graph`, `stats` and `bisect` on real logs."""

import csv
import json
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

import pytest

from hms_bus import Envelope
from hms_bus.cli.analysis.finding import find_record, read_around
from hms_bus.plugins import open_log
from tests.support.command_line import CommandLine
from tests.support.runs import answered, keep, said, said_again

ELSEWHERE = "another-conversation"


def conversation(total: int = 42) -> list[Envelope]:
    """An order that is priced and billed, and a note that has nothing to do with it."""
    order = said("orders.new", {"qty": 2}, by="/shop-1", type="Order")
    note = said("notes.new", "call Ada", by="/desk", correlationid=ELSEWHERE)
    ask = said("prices.get", {"qty": 2}, by="/bank", cause=order)
    price = answered(ask, {"total": total}, by="/prices")
    bill = said("orders.billed", {"total": total, "at": total}, by="/bank", cause=order)
    mail = said("mails.sent", {"text": f"You owe {total}"}, by="/post", cause=bill)
    return [order, note, ask, price, bill, mail]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return keep(conversation(), tmp_path / "run.db")


@pytest.fixture
def demo(cli: CommandLine) -> str:
    """The log of the demo, which has read three small files."""
    (cli.folder / "project").mkdir()
    for name in ("one", "two", "three"):
        (cli.folder / "project" / f"{name}.py").write_text(f"def {name}(): return 1\n")
    cli.run("demo", "--root", "project", "--log", "demo.db")
    return "demo.db"


def spoil(path: Path, position: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE records SET document = CAST('no JSON' AS BLOB) WHERE position = ?", (position,)
        )


# -- diff ----------------------------------------------------------------------------------------


def test_a_run_and_its_copy_are_the_same(cli: CommandLine, demo: str) -> None:
    cli.shell(f"hms-bus log export {demo} | hms-bus log import copy.db")
    [line] = cli.run("diff", demo, "copy.db").lines
    assert line == "no difference: 15 events are the same"


def test_two_runs_of_the_demo_say_the_same_up_to_who_was_last(cli: CommandLine, demo: str) -> None:
    cli.run("demo", "--root", "project", "--log", "again.db")
    cli.run("diff", demo, "again.db", "--ignore", "causationid", "--ignore", "order")


def test_a_difference_is_named_with_what_follows(cli: CommandLine, log: str) -> None:
    other = keep([*said_again(conversation(43)), said("noise")], cli.folder / "other.db")
    assert cli.run("diff", log, other, fails=1).lines == [
        "first difference:",
        "~ A 4 ~ B 4: $reply.prices.get by /prices",
        "    $.total: 42 -> 43",
        "what follows from it (2):",
        "~ A 5 ~ B 5: orders.billed by /bank",
        "    $.total: 42 -> 43",
        "    $.at: 42 -> 43",
        "~ A 6 ~ B 6: mails.sent by /post",
        '    $.text: "You owe 42" -> "You owe 43"',
        "independent of it (1):",
        "+ only in B 7: noise by /agents/a",
        "3 changed, 0 missing, 1 extra; 3 the same",
    ]


def test_what_is_ignored_or_elsewhere_is_no_difference(cli: CommandLine, log: str) -> None:
    other = keep(said_again(conversation(43)), cli.folder / "other.db")
    cli.run("diff", log, other, "--ignore", "$..total", "--ignore", "$.at", "--ignore", "$.text")
    cli.run("diff", log, other, "--topic", "orders.new")
    cli.run("diff", log, other, "--topic", "orders.>", fails=1)


def test_a_difference_as_json(cli: CommandLine, log: str) -> None:
    other = keep(said_again(conversation(43)[:-1]), cli.folder / "other.db")
    facts = json.loads(cli.run("diff", log, other, "--format", "json", fails=1).text)
    assert facts["same"] is False
    assert facts["events"] == {"left": 6, "right": 5, "same": 3}
    assert facts["counts"] == {"changed": 2, "missing": 1, "extra": 0}
    assert facts["first"]["left"]["position"] == 4
    assert facts["first"]["changes"] == [{"path": "$.total", "left": 42, "right": 43}]
    [bill, mail] = facts["following"]
    assert (bill["kind"], mail["kind"], mail["right"]) == ("changed", "missing", None)
    assert mail["data"] == {"text": "You owe 42"}
    assert facts["independent"] == []
    same = json.loads(cli.run("diff", log, log, "--format", "json").text)
    assert (same["same"], same["first"]) == (True, None)


def test_records_that_cannot_be_read_are_left_out_and_said(cli: CommandLine, log: str) -> None:
    other = keep(said_again(conversation()), cli.folder / "other.db")
    for position in (2, 3):
        spoil(cli.folder / other, position)
    ended = cli.run("diff", log, other, fails=3)
    assert "position 2" in ended.err
    assert "position 3" in ended.err
    assert "- missing, was A 2: notes.new by /desk" in ended.lines
    cli.run("diff", other, other, fails=3)


def test_what_cannot_be_compared_is_a_wrong_command_line(cli: CommandLine, log: str) -> None:
    assert "there is no log" in cli.run("diff", log, "nope.db", fails=2).err
    (cli.folder / "text.db").write_text("no log at all, although it is a file " * 40)
    cli.run("diff", log, "text.db", fails=2)
    assert "is no path" in cli.run("diff", log, log, "--ignore", "$.[", fails=2).err
    assert "'at' is nothing" in cli.run("diff", log, log, "--ignore", "at", fails=2).err


def test_no_record_is_no_difference_but_a_mistake(cli: CommandLine, log: str) -> None:
    ended = cli.run("diff", log, log, "--topic", "nobody.says.this", fails=2)
    assert "no event of A or B is on nobody.says.this" in ended.err
    empty = keep([], cli.folder / "empty.db")
    assert "neither A nor B has a record" in cli.run("diff", empty, empty, fails=2).err
    cli.run("diff", log, empty, fails=1)


def test_differences_are_coloured_on_a_terminal(cli: CommandLine, log: str) -> None:
    other = keep(said_again(conversation()[:-1]), cli.folder / "other.db")
    assert "\x1b[31m- missing, was A 6" in cli.on_terminal("diff", log, other)


BUGGY = """
    import asyncio
    from msgspec.structs import replace
    from hms_bus import demo

    sound = demo.read_facts

    def forgetful(file):
        facts = sound(file)
        return replace(facts, functions=[]) if file.module == "two" else facts

    demo.read_facts = forgetful
    asyncio.run(demo.run(log="sqlite:buggy.db", root="project"))
"""
FINDS_FUNCTIONS = """
    def every_file_has_functions(messages):
        for message in messages:
            if message.topic == "source.read":
                assert message.data["functions"], message.data["module"]
"""


def test_a_bug_in_a_reader_of_the_demo_is_found(cli: CommandLine, demo: str) -> None:
    script = [sys.executable, "-c", dedent(BUGGY)]
    subprocess.run(script, cwd=cli.folder, env=cli.environment, check=True, timeout=30)
    (cli.folder / "checks.py").write_text(dedent(FINDS_FUNCTIONS))
    facts = json.loads(cli.run("diff", demo, "buggy.db", "--format", "json", fails=1).text)
    assert (facts["first"]["topic"], facts["first"]["kind"]) == ("critic.review", "changed")
    assert [change["path"] for change in facts["first"]["changes"]] == ["$.functions[0]"]
    assert "source.read" in [found["topic"] for found in facts["following"]]
    check = ("--check", "checks:every_file_has_functions", "--minimize", "--format", "json")
    assert json.loads(cli.run("bisect", demo, *check).text)["holds"] is True
    found = json.loads(cli.run("bisect", "buggy.db", *check, fails=1).text)
    assert found["reason"] == "two"
    topics = [record["event"]["topic"] for record in found["slice"]]
    assert topics == ["survey.start", "source.found", "source.read"]


# -- why -----------------------------------------------------------------------------------------


def test_the_chain_of_causes_ends_at_the_event(cli: CommandLine, log: str) -> None:
    lines = cli.run("why", "6", log).lines
    shown = [re.sub(r"^ *\+[\d.]+ \S+", "", line).split() for line in lines]
    assert [(words[0], words[-1] if "─" not in words[1] else words[2]) for words in shown] == [
        ("1", '{"qty":2}'),
        ("5", "orders.billed"),
        ("6", "mails.sent"),
    ]
    assert all("+" in line for line in lines[1:])


def test_what_followed_is_shown_when_asked_for(cli: CommandLine, log: str) -> None:
    facts = json.loads(cli.run("why", "1", log, "--effects", "--format", "json").text)
    assert [record["position"] for record in facts["chain"]] == [1]
    effects = [(effect["depth"], effect["record"]["position"]) for effect in facts["effects"]]
    assert effects == [(1, 3), (2, 4), (1, 5), (2, 6)]
    assert len(cli.run("why", "1", log, "--down").lines) == 5


def test_an_event_is_found_by_the_start_of_its_id(cli: CommandLine, log: str) -> None:
    events = [json.loads(x)["event"] for x in cli.run("log", "cat", log, "--format", "json").lines]
    for length in (23, 36):
        text = cli.run("why", events[1]["id"][:length], log, "--format", "json").text
        assert json.loads(text)["chain"][-1]["event"]["topic"] == "notes.new"
    ended = cli.run("why", "0", log, fails=2)
    assert "6 events have an id that begins with '0'" in ended.err
    assert f"2  {events[1]['id']}  notes.new" in ended.err
    assert "there is no event 'nope'" in cli.run("why", "nope", log, fails=2).err


def test_a_cause_that_is_not_in_the_log_is_said(cli: CommandLine) -> None:
    order, _, ask, *_ = conversation()
    part = keep([ask], cli.folder / "part.db")
    assert cli.run("why", "1", part).lines[0] == f"(its cause {order.id} is not in the log)"


def test_a_cause_of_another_conversation_is_found(cli: CommandLine) -> None:
    order = said("order", by="/shop")
    bill = said("bill", by="/bank", cause=order).replace(correlationid="of its own")
    mixed = keep([order, bill], cli.folder / "mixed.db")
    facts = json.loads(cli.run("why", "2", mixed, "--format", "json").text)
    assert [record["event"]["topic"] for record in facts["chain"]] == ["order", "bill"]


def test_an_effect_that_began_another_conversation_is_shown(cli: CommandLine) -> None:
    order = said("order", by="/shop", correlationid="talk")
    ask = said("ask", by="/bank", cause=order)
    mail = said("mail", by="/post", cause=ask).replace(correlationid="of its own")
    mixed = keep([order, ask, mail], cli.folder / "mixed.db")
    facts = json.loads(cli.run("why", "2", mixed, "--effects", "--format", "json").text)
    assert [effect["record"]["event"]["topic"] for effect in facts["effects"]] == ["mail"]
    assert len(cli.run("graph", mixed, "--id", "2").lines) == 4


def test_a_cause_that_lies_behind_its_effect_is_found(cli: CommandLine) -> None:
    order = said("order", by="/shop")
    ask = said("ask", by="/bank", cause=order)
    bill = said("bill", by="/bank", cause=ask)
    mixed = keep([ask, bill, order], cli.folder / "mixed.db")
    facts = json.loads(cli.run("why", "2", mixed, "--format", "json").text)
    assert [record["event"]["topic"] for record in facts["chain"]] == ["order", "ask", "bill"]
    assert facts["absent_cause"] is None


def test_a_circle_of_causes_is_shown_once(cli: CommandLine) -> None:
    one, other = said("one", by="/shop"), said("other", by="/shop")
    circle = [one.replace(causationid=other.id), other.replace(causationid=one.id)]
    keep(circle, cli.folder / "circle.db")
    facts = json.loads(cli.run("why", "1", "circle.db", "--effects", "--format", "json").text)
    assert [record["position"] for record in facts["chain"]] == [2, 1]
    assert [effect["record"]["position"] for effect in facts["effects"]] == [2]


async def test_only_causes_and_effects_of_an_event_are_kept_in_memory(tmp_path: Path) -> None:
    run = conversation()
    noise = [said("noise", number, by="/desk", correlationid=ELSEWHERE) for number in range(50)]
    async with open_log("memory:") as log:
        await log.append([*run[:5], *noise, *run[5:]])
        bill = await find_record(log, "5")
        causes = await read_around(log, bill, effects=False)
        assert [record.position for record in causes] == [1, 5]
        around = await read_around(log, bill, effects=True)
        assert [record.position for record in around] == [1, 5, 56]


# -- graph ---------------------------------------------------------------------------------------


def test_a_conversation_is_drawn_in_every_form(cli: CommandLine, log: str) -> None:
    name = json.loads(cli.run("log", "cat", log, "--seq", "1", "--format", "json").text)
    corr = name["event"]["id"]
    # An order begins its conversation, and does not name it.
    lines = cli.run("graph", log, "--corr", corr).lines
    assert lines[0] == f"conversation {corr}"
    assert [line.split()[-1] for line in lines[1:]] == [
        "prices.get",
        "$reply.prices.get",
        "orders.billed",
        "mails.sent",
    ]
    tree = cli.run("graph", log, "--id", "5", "--kind", "tree").lines
    assert tree[1:] == [
        "1 orders.new  /shop-1",
        "└─ 5 orders.billed  /bank",
        "   └─ 6 mails.sent  /post",
    ]
    assert cli.run("graph", log, "--id", "5", "--format", "mermaid").lines[0] == "sequenceDiagram"
    root = ET.fromstring(cli.run("graph", log, "--id", "5", "--format", "svg").text)  # noqa: S314 - ours
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_picture_is_written_to_a_file(cli: CommandLine, log: str) -> None:
    cli.run("graph", log, "--id", "1", "--kind", "tree", "--format", "svg", "-o", "run.svg")
    assert ET.parse(cli.folder / "run.svg").getroot().get("role") == "img"  # noqa: S314 - ours


def test_a_large_picture_is_cut_and_says_so(cli: CommandLine, log: str) -> None:
    ended = cli.run("graph", log, "--id", "1", "-n", "3")
    assert "the first 3 of 5 events" in ended.lines[0]
    assert "--count draws more" in ended.err


def test_what_is_to_be_drawn_must_be_said_once(cli: CommandLine, log: str) -> None:
    assert "--corr ID" in cli.run("graph", log, fails=2).err
    cli.run("graph", log, "--id", "1", "--corr", "x", fails=2)
    assert "has the correlationid 'x'" in cli.run("graph", log, "--corr", "x", fails=2).err


# -- stats ---------------------------------------------------------------------------------------


def test_a_run_in_figures(cli: CommandLine, demo: str) -> None:
    facts = json.loads(cli.run("stats", demo, "--by", "agent", "--format", "json").text)
    assert facts["total"]["count"] == 15
    counts = {group["name"]: group["count"] for group in facts["groups"]}
    assert counts == {
        "/agents/reader": 6,
        "/agents/scout": 4,
        "/agents/critic": 3,
        "/agents/desk": 1,
        "/agents/editor": 1,
    }
    [reader] = [group for group in facts["groups"] if group["name"] == "/agents/reader"]
    latency = reader["latency"]
    assert latency["count"] == 6
    assert 0 < latency["p50_s"] <= latency["p90_s"] <= latency["p99_s"] <= latency["max_s"]


def test_figures_are_a_table(cli: CommandLine, log: str) -> None:
    rows = [line.split("\t") for line in cli.run("stats", log, "--by", "type").lines]
    assert ["Order", "1"] in [row[:2] for row in rows]
    assert len({len(row) for row in rows}) == 1
    assert (
        cli.run("stats", log, "--topic", "orders.>", "--seq", "..4").lines[0][:10] == "orders.new"
    )
    shown = cli.on_terminal("stats", log)
    assert "records" in shown
    assert "p99" in shown


def test_figures_are_csv_with_a_head(cli: CommandLine, log: str) -> None:
    rows = list(csv.reader(cli.run("stats", log, "--by", "type", "--format", "csv").lines))
    assert rows[0][:3] == ["type", "count", "rate"]
    assert rows[0][-4:] == ["p50", "p90", "p99", "max"]
    assert ["Order", "1"] in [row[:2] for row in rows]
    shown = cli.on_terminal("stats", log, "--format", "csv")
    assert "topic,count," in shown
    assert "latency" not in shown


def test_long_latencies_are_in_seconds(cli: CommandLine) -> None:
    order = said("order", by="/shop")
    bill = said("bill", by="/bank", cause=order)
    keep([order, bill], cli.folder / "slow.db")
    with closing(sqlite3.connect(cli.folder / "slow.db")) as connection, connection:
        connection.execute("UPDATE records SET recorded_ns = position * 11300000000")
    assert "p50 11.3 s" in cli.on_terminal("stats", "slow.db")


# -- bisect --------------------------------------------------------------------------------------

CHECKS = """
    import time

    def nobody_owes(messages):
        for message in messages:
            if message.topic == "orders.billed":
                assert message.data["total"] != 42, f"{message.data['total']} at {message.position}"

    def short(messages):
        return len(messages) < 4

    def holds(messages):
        assert isinstance(messages, list)

    async def later(messages):
        return True

    def slow(messages):
        print("checking", flush=True)
        time.sleep(30)

    number = 7
"""


@pytest.fixture
def checks(cli: CommandLine) -> str:
    (cli.folder / "checks.py").write_text(dedent(CHECKS))
    return "checks"


def test_the_first_record_that_breaks_is_shown(cli: CommandLine, log: str, checks: str) -> None:
    lines = cli.run("bisect", log, "--check", f"{checks}:short", fails=1).lines
    assert lines[0] == "BROKEN by the record at position 4: it returned False"
    assert lines[1].split("\t")[0] == "4"
    cli.run("bisect", log, "--check", "checks.py:short", "--linear", fails=1)
    assert cli.run("bisect", log, "--check", f"{checks}:holds").text.startswith("holds: 6 records")
    cli.run("bisect", log, "--check", f"{checks}:short", "--seq", "..3")


def test_the_smallest_slice_stands_with_its_causes(cli: CommandLine, log: str, checks: str) -> None:
    arguments = ("bisect", log, "--check", f"{checks}:nobody_owes", "--minimize")
    facts = json.loads(cli.run(*arguments, "--format", "json", fails=1).text)
    assert (facts["holds"], facts["position"], facts["reason"]) == (False, 5, "42 at 5")
    assert [record["position"] for record in facts["slice"]] == [1, 5]
    lines = cli.run(*arguments, fails=1).lines
    assert lines[1] == "the smallest slice that breaks it, 2 of 6 records:"
    assert [line.split("\t")[0] for line in lines[2:]] == ["1", "5"]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("short", "names no function"),
        ("nope:short", "cannot be imported: ModuleNotFoundError"),
        ("checks:nope", "has no 'nope'"),
        ("checks:number", "is no function, but int"),
        ("checks:later", "is asynchronous"),
        ("nope.py:short", "cannot be imported: FileNotFoundError"),
    ],
)
def test_a_check_that_is_none_is_a_wrong_command_line(
    cli: CommandLine, log: str, checks: str, check: str, words: str
) -> None:
    assert words in cli.run("bisect", log, "--check", check, fails=2).err


def test_a_check_can_be_interrupted(cli: CommandLine, log: str, checks: str) -> None:
    with cli.start("bisect", log, "--check", f"{checks}:slow") as running:
        assert running.read_line() == "checking\n"
        running.send_signal(signal.SIGINT)
        ended = running.end()
    assert ended.status == 130
    assert "Traceback" not in ended.err
