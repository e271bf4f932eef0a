"""`hms-bus log cat`, `tail`, `ls` and `info` on real files, also while another process writes."""

import csv
import io
import json
import signal
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.recorded import CONVERSATION, record


@pytest.fixture
def log(tmp_path: Path) -> str:
    return record(tmp_path / "run.db").name


def positions(cli: CommandLine, *args: str) -> list[int]:
    return [
        json.loads(line)["position"] for line in cli.run("log", *args, "--format", "json").lines
    ]


def test_a_record_is_a_line_of_fields_with_tabs_between_them(cli: CommandLine, log: str) -> None:
    lines = [line.split("\t") for line in cli.run("log", "cat", log).lines]
    assert [fields[0] for fields in lines] == ["1", "2", "3", "4", "5", "6"]
    assert lines[0][2:] == ["orders.eu.created", "Order", "/shop", '{"id":1}']
    assert lines[3][5] == "two\\nlines\\u001b[2J"
    assert lines[4][5] == ("<20 bytes application/octet-stream: 000102030405060708090a0b0c0d0e0f…>")
    assert lines[5][5] == ""


def test_every_attribute_is_shown_when_asked_for(cli: CommandLine, log: str) -> None:
    out = cli.run("log", "cat", log, "--seq", "4", "-v").text
    assert "    subject: n1\n" in out
    assert "    datacontenttype: text/plain\n" in out


def test_records_are_selected(cli: CommandLine, log: str) -> None:
    assert positions(cli, "cat", log, "--topic", "orders.eu.*") == [1, 3, 6]
    assert positions(cli, "cat", log, "--type", "Order", "--type", "Note") == [1, 2, 4]
    assert positions(cli, "cat", log, "--corr", CONVERSATION) == [3, 6]
    assert positions(cli, "cat", log, "--source", "/desk") == [4, 5]
    assert positions(cli, "cat", log, "--seq", "2..4") == [2, 3, 4]
    assert positions(cli, "cat", log, "--seq", "5..") == [5, 6]
    assert positions(cli, "cat", log, "--seq", "..2", "--reverse") == [2, 1]
    assert positions(cli, "cat", log, "--reverse", "-n", "2") == [6, 5]
    assert positions(cli, "cat", log, "--since", "1h") == [1, 2, 3, 4, 5, 6]
    assert positions(cli, "cat", log, "--until", "2020-01-31T12:00:00Z") == []


def test_json_lines_hold_position_time_and_event(cli: CommandLine, log: str) -> None:
    first, *_, last = map(json.loads, cli.run("log", "cat", log, "--format", "json").lines)
    assert first["recorded"].endswith("Z")
    assert first["event"]["specversion"] == "1.0"
    assert first["event"]["data"] == {"id": 1}
    assert "data" not in last["event"]


def test_csv_is_read_back_by_a_csv_reader(cli: CommandLine, log: str) -> None:
    rows = list(csv.DictReader(io.StringIO(cli.run("log", "cat", log, "--format", "csv").text)))
    assert [row["data"] for row in rows[:1]] == ['{"id":1}']
    assert rows[3]["data"] == "two\nlines\x1b[2J"
    assert rows[4]["data"] == "AAECAwQFBgcICQoLDA0ODxAREhM="
    assert rows[5]["correlationid"] == CONVERSATION


def test_raw_output_holds_payloads_only(cli: CommandLine, log: str) -> None:
    assert cli.run("log", "cat", log, "--raw", "--seq", "1..2").out == b'{"id":1}\n{"id":2}\n'
    assert cli.run("log", "cat", log, "--raw", "--seq", "5").out == bytes(range(20))
    assert cli.run("log", "cat", log, "--raw", "--seq", "4").out == b"two\nlines\x1b[2J\n"


def test_the_tail_is_in_order(cli: CommandLine, log: str) -> None:
    assert positions(cli, "tail", log, "-n", "2") == [5, 6]
    assert positions(cli, "tail", log, "-n", "2", "--topic", "orders.>") == [3, 6]


def test_topics_are_listed_with_their_figures(cli: CommandLine, log: str) -> None:
    rows = [json.loads(line) for line in cli.run("log", "ls", log, "--format", "json").lines]
    assert [row["topic"] for row in rows] == sorted(row["topic"] for row in rows)
    [paid] = [row for row in rows if row["topic"] == "orders.eu.paid"]
    assert (paid["count"], paid["first"], paid["last"], paid["types"]) == (1, 3, 3, ["Payment"])
    assert paid["rate"] is None
    newest_first = cli.run("log", "ls", log, "--sort", "last", "--topic", "orders.>").lines
    assert [line.split("\t")[0] for line in newest_first] == [
        "orders.eu.closed",
        "orders.eu.paid",
        "orders.us.created",
        "orders.eu.created",
    ]


def test_info_counts_everything(cli: CommandLine, log: str) -> None:
    facts = json.loads(cli.run("log", "info", log, "--format", "json").text)
    assert facts["records"] == 6
    assert facts["topics"] == 6
    assert facts["bytes"] == (cli.folder / log).stat().st_size
    assert facts["schema"] == 1
    assert facts["head"]["position"] == 6
    assert facts["sources"] == {"/shop": 3, "/desk": 2, "/bank": 1}
    assert facts["types"]["Order"] == 2
    assert "source\t/shop (3)" in cli.run("log", "info", log).lines


def test_the_configured_log_needs_no_name(cli: CommandLine, log: str) -> None:
    cli.settings["HMS_BUS_LOG"] = f"sqlite:{log}"
    assert len(cli.run("log", "cat").lines) == 6
    cli.settings.clear()
    (cli.folder / "hms-bus.toml").write_text(f'log = "sqlite:{log}"\n')
    assert len(cli.run("log", "cat").lines) == 6


def test_a_log_is_read_and_followed_while_another_process_writes_it(
    shared: CommandLine, log: str
) -> None:
    publishing = ("pub", "ticks", "-", "--lines", "--log", f"sqlite:{log}", "--format", "json")
    follow = ("log", "tail", "-f", log, "-n", "1", "--format", "json")
    with shared.start(*publishing) as writer, shared.start(*follow) as reader:
        assert json.loads(reader.read_line())["position"] == 6
        for position in (7, 8):
            writer.write(b"%d\n" % position)
            assert json.loads(writer.read_line())["position"] == position
            record_read = json.loads(reader.read_line())
            assert (record_read["position"], record_read["event"]["data"]) == (position, position)
        assert positions(shared, "cat", log, "--seq", "7..") == [7, 8]
        reader.send_signal(signal.SIGINT)
        assert reader.end().status == 130
        writer.send_signal(signal.SIGINT)
        assert writer.end().status == 130
    assert shared.run("log", "verify", log).text.startswith("sound: 8 records")


def test_following_forwards_from_a_position_ends_after_the_count(
    cli: CommandLine, log: str
) -> None:
    follow = ("log", "cat", log, "--follow", "--seq", "6..", "-c", "2", "--format", "json")
    with cli.start(*follow) as reader:
        assert json.loads(reader.read_line())["position"] == 6
        cli.run("pub", "more", "1", "--log", f"sqlite:{log}")
        assert json.loads(reader.read_line())["position"] == 7
        assert reader.end().status == 0


def test_a_pipe_that_is_closed_early_ends_it_quietly(cli: CommandLine, log: str) -> None:
    cli.run("pub", "many", "1", "--count", "20000", "--log", f"sqlite:{log}", "-q")
    ended = cli.shell(f"hms-bus log cat {log} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert ended.lines[0].startswith("1\t")
    assert ended.lines[1] == "0"
    assert ended.err == ""


def test_a_full_disk_behind_stdout_is_told(cli: CommandLine, log: str) -> None:
    ended = cli.shell(f"hms-bus log cat {log} > /dev/full")
    assert ended.status == 1
    assert "No space left" in ended.err


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("cat", "missing.db"), 1, "there is no log"),
        (("cat",), 2, "HMS_BUS_LOG"),
        (("cat", "memory:"), 2, "give that bus a file"),
        (("cat", "notes.txt"), 1, "notes.txt"),
        (("cat", "run.db", "--seq", "a..b"), 2, "100..200"),
        (("cat", "run.db", "--since", "yesterday"), 2, "2026-01-31T12:00:00Z"),
        (("cat", "run.db", "--topic", "a..b"), 2, "token 2 is empty"),
        (("cat", "run.db", "--reverse", "--follow"), 2, "choose one"),
        (("cat", "carrier:pigeon"), 2, "known: memory, sqlite"),
        (("tial", "run.db"), 2, "Did you mean"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_next_step(
    cli: CommandLine, log: str, args: tuple[str, ...], status: int, says: str
) -> None:
    (cli.folder / "notes.txt").write_text("no log at all")
    ended = cli.run("log", *args, fails=status)
    assert says in ended.err
    assert ended.out == b""
