"""`hms-bus log verify`, `export` and `import`, and appending with `pub --log`."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.recorded import record


@pytest.fixture
def log(tmp_path: Path) -> str:
    return record(tmp_path / "run.db").name


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def events(cli: CommandLine, log: str) -> list[object]:
    return [json.loads(line)["event"] for line in cli.run("log", "export", log).lines]


def test_a_sound_log_is_found_sound(cli: CommandLine, log: str) -> None:
    assert cli.run("log", "verify", log).text.startswith("sound: 6 records, head 6 ")
    found = json.loads(cli.run("log", "verify", log, "--format", "json").text)
    assert (found["sound"], found["records"], found["problem"]) == (True, 6, None)


def test_a_changed_record_is_found(cli: CommandLine, log: str) -> None:
    execute(cli.folder / log, "UPDATE records SET document = replace(document, 'Pay', 'Pax')")
    ended = cli.run("log", "verify", log, fails=1)
    assert ended.text.startswith("NOT SOUND at position 3: ")
    assert "hms-bus log recover" in ended.text
    assert (
        json.loads(cli.run("log", "verify", log, "--format", "json", fails=1).text)["position"] == 3
    )


def test_a_kept_head_shows_that_the_tail_is_gone(cli: CommandLine, log: str) -> None:
    cli.run("log", "verify", log, "--write-head", "run.head")
    cli.run("log", "verify", log, "--head", "run.head")
    execute(cli.folder / log, "DELETE FROM records WHERE position > 4")
    execute(cli.folder / log, "DELETE FROM topics WHERE last > 4")
    kept = (cli.folder / "run.head").read_bytes()
    ended = cli.run("log", "verify", log, "--head", "run.head", "--write-head", "run.head", fails=1)
    assert "last 2 records are lost" in ended.text
    assert (cli.folder / "run.head").read_bytes() == kept


def test_a_head_moves_on_with_the_log(cli: CommandLine, log: str) -> None:
    both = ("log", "verify", log, "--write-head", "run.head", "--head", "run.head")
    assert "--write-head" in cli.run(*both, fails=2).err
    cli.run("log", "verify", log, "--write-head", "run.head")
    cli.run("pub", "more", "1", "--log", f"sqlite:{log}")
    assert "contains the kept head at 6" in cli.run(*both).text
    assert json.loads((cli.folder / "run.head").read_text())["position"] == 7


def test_a_head_that_is_none_is_refused(cli: CommandLine, log: str) -> None:
    (cli.folder / "run.head").write_text("{}")
    assert "no head" in cli.run("log", "verify", log, "--head", "run.head", fails=2).err


def test_an_export_is_imported_as_it_was(cli: CommandLine, log: str) -> None:
    ended = cli.shell(f"hms-bus log export {log} | hms-bus log import copy.db")
    assert (ended.status, ended.err) == (
        0,
        "imported 6 new events; 0 were in the log; 0 lines left out\n",
    )
    assert events(cli, "copy.db") == events(cli, log)
    cli.run("log", "verify", "copy.db")


def test_an_import_is_repeated_without_doubles(cli: CommandLine, log: str) -> None:
    cli.run("log", "export", log, "--topic", "orders.>", "-o", "part.jsonl")
    cli.run("log", "export", log, "-o", "all.jsonl")
    cli.run("log", "import", "copy.db", "part.jsonl")
    assert "imported 2 new events; 4 were" in cli.run("log", "import", "copy.db", "all.jsonl").err
    assert "imported 0 new events; 6 were" in cli.run("log", "import", "copy.db", "all.jsonl").err


def test_what_cat_prints_as_json_is_imported_too(cli: CommandLine, log: str) -> None:
    printed = cli.run("log", "cat", log, "--format", "json").out
    cli.run("log", "import", "copy.db", stdin=printed)
    assert events(cli, "copy.db") == events(cli, log)


def test_lines_that_are_no_events_are_left_out_and_told(cli: CommandLine, log: str) -> None:
    first, second, *_ = cli.run("log", "export", log).out.splitlines()
    broken = b"\n".join([first, b"no event", b"", b'{"specversion":"1.0"}', second[:-9], second])
    ended = cli.run("log", "import", "copy.db", stdin=broken, fails=3)
    assert "line 2: " in ended.err
    assert "line 4: " in ended.err
    assert "line 5: " in ended.err
    assert "imported 2 new events; 0 were in the log; 3 lines left out" in ended.err
    assert len(events(cli, "copy.db")) == 2


def test_a_strict_import_stops_at_the_first_bad_line(cli: CommandLine) -> None:
    ended = cli.run("log", "import", "copy.db", "--strict", stdin=b"\n\nno event\n", fails=1)
    assert "error: line 3: " in ended.err


def test_an_export_does_not_replace_a_file_unless_told(cli: CommandLine, log: str) -> None:
    cli.run("log", "export", log, "-o", "out.jsonl")
    before = (cli.folder / "out.jsonl").read_bytes()
    assert "--force" in cli.run("log", "export", log, "-o", "out.jsonl", fails=2).err
    assert "--force" in cli.run("log", "export", log, "-o", log, fails=2).err
    cli.run("log", "export", log, "-o", "out.jsonl", "--force")
    assert (cli.folder / "out.jsonl").read_bytes() == before


def test_an_export_goes_behind_what_is_in_the_file_that_stdout_is(
    cli: CommandLine, log: str
) -> None:
    (cli.folder / "out.jsonl").write_text("{}\n")
    assert cli.shell(f"hms-bus log export {log} -o /dev/stdout >> out.jsonl").status == 0
    exported = cli.run("log", "export", log).text
    assert (cli.folder / "out.jsonl").read_text() == "{}\n" + exported


def test_an_export_that_fails_leaves_no_file(cli: CommandLine, log: str) -> None:
    execute(cli.folder / log, "UPDATE records SET document = '{' WHERE position = 5")
    err = cli.run("log", "export", log, "-o", "out.jsonl", fails=1).err
    assert "position 5" in err
    assert "hms-bus log verify" in err
    assert not list(cli.folder.glob("*jsonl*"))
    assert not list(cli.folder.glob(".out*"))


def test_published_lines_are_kept_in_order(cli: CommandLine) -> None:
    lines = b"".join(b'{"n":%d}\n' % n for n in range(3000)) + b"the last one has no end"
    ended = cli.run("pub", "bulk", "--lines", "--log", "sqlite:bulk.db", stdin=lines)
    assert ended.text == "published 3001 messages on bulk at positions 1 to 3001\n"
    assert cli.run("log", "cat", "bulk.db", "--raw").out == lines + b"\n"


def test_lines_of_a_file_are_published(cli: CommandLine) -> None:
    (cli.folder / "lines.txt").write_text("a\nb\n")
    cli.run("pub", "bulk", "@lines.txt", "--lines", "--log", "sqlite:bulk.db", "-q")
    assert cli.run("log", "cat", "bulk.db", "--raw").text == "a\nb\n"


def test_a_message_is_published_once_under_its_id(cli: CommandLine) -> None:
    publish = ("pub", "a", "1", "-H", "id=one", "--source", "/me", "--log", "sqlite:run.db")
    assert cli.run(*publish).text == "published one on a at position 1\n"
    assert "1 not appended again" in cli.run(*publish).text


def test_a_message_is_published_on_a_condition(cli: CommandLine) -> None:
    publish = ("pub", "a", "1", "--log", "sqlite:run.db", "--expect")
    cli.run(*publish, "none")
    cli.run(*publish, "1")
    err = cli.run(*publish, "1", fails=1).err
    assert "at position 2, not 1" in err
    assert "decide again" in err
    assert "next:" not in err, "the error has said it"


def test_a_second_writer_is_told_who_is_first(cli: CommandLine) -> None:
    with cli.start("pub", "a", "--lines", "--log", "sqlite:run.db", "--format", "json") as first:
        first.write(b"1\n")
        first.read_line()
        err = cli.run("pub", "a", "2", "--log", "sqlite:run.db", fails=1).err
        assert "is open for writing by process" in err
        first.send_signal(signal.SIGTERM)
        assert first.end().status == 143
    cli.run("pub", "a", "3", "--log", "sqlite:run.db")
    assert cli.run("log", "cat", "run.db", "--raw").text == "1\n3\n"


def test_interrupting_a_publisher_keeps_what_it_reported(cli: CommandLine) -> None:
    publish = ("pub", "a", "{{count}}", "-t", "-c", "1000", "--interval", "1ms", "--format", "json")
    with cli.start(*publish, "--log", "sqlite:run.db") as publisher:
        reported = [json.loads(publisher.read_line()) for _ in range(20)]
        publisher.send_signal(signal.SIGINT)
        ended = publisher.end()
    assert ended.status == 130
    reported += [json.loads(line) for line in ended.lines]
    kept = cli.run("log", "cat", "run.db", "--format", "json").lines
    assert len(kept) >= len(reported)
    assert [json.loads(line)["event"]["id"] for line in kept[: len(reported)]] == [
        receipt["id"] for receipt in reported
    ]
    cli.run("log", "verify", "run.db")
