"""`hms-bus log`: doctor, recover, backup, filter, merge, split, compact, redact, seal, forms."""

import json
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.log.tools.seals import read_public_key
from tests.support.command_line import CommandLine
from tests.support.recorded import CONVERSATION, record
from tests.support.tool_logs import PAGE, fill, numbered, overwrite, records, root_of, verify

WRITER = """
import asyncio, sys
from hms_bus import new_envelope
from hms_bus.plugins import open_log

async def write():
    async with open_log("sqlite:run.db") as log:
        n = 0
        while True:
            await log.append([new_envelope("ticks.a", n, source="/w") for _ in range(20)])
            n += 1
            if n == 5:
                print("writing", file=sys.stderr, flush=True)

asyncio.run(write())
"""


@pytest.fixture
def log(tmp_path: Path) -> str:
    return record(tmp_path / "run.db").name


def damage(path: Path) -> None:
    """Change one record."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET document = replace(document, 'Pay', 'Pax')")


def facts(cli: CommandLine, *args: str, fails: int = 0) -> dict[str, object]:
    return json.loads(cli.run("log", *args, "--format", "json", fails=fails).text)


def test_the_doctor_finds_a_log_healthy(cli: CommandLine, log: str) -> None:
    assert cli.run("log", "doctor", log).text.startswith("healthy: 6 records, ")
    assert facts(cli, "doctor", log)["healthy"] is True


def test_the_doctor_says_what_is_wrong_and_what_to_do(cli: CommandLine, log: str) -> None:
    damage(cli.folder / log)
    ended = cli.run("log", "doctor", log, fails=1)
    assert ended.lines[0].startswith("problem (chain): at position 3: ")
    assert "next: hms-bus log recover " in ended.lines[1]
    assert facts(cli, "doctor", log, fails=1)["healthy"] is False
    assert "no log" in cli.run("log", "doctor", "none.db", fails=1).err


def test_recover_says_what_it_has_lost_and_ends_with_3(cli: CommandLine, log: str) -> None:
    damage(cli.folder / log)
    ended = cli.run("log", "recover", log, "-o", "saved.db", fails=3)
    assert ended.lines[:2] == [
        "lost: position 3: its contents contradict its hash",
        "saved 5 records to saved.db; lost 1",
    ]
    cli.run("log", "verify", "saved.db")
    done = facts(cli, "recover", log, "-o", "again.db", fails=3)
    assert (done["saved"], done["lost"]) == (5, 1)


def test_recover_of_a_sound_log_ends_with_0(cli: CommandLine, log: str) -> None:
    assert cli.run("log", "recover", log, "-o", "saved.db").lines == [
        "saved 6 records to saved.db; lost 0"
    ]
    assert "exists" in cli.run("log", "recover", log, "-o", "saved.db", fails=2).err
    assert "pipe" in cli.run("log", "recover", log, "-o", "-", fails=2).err


def test_recover_of_a_file_that_was_cut_off_says_so_and_ends_with_3(cli: CommandLine) -> None:
    path = fill(cli.folder / "cut.db", numbered(200))
    overwrite(path, (root_of(path, "topics") - 1) * PAGE, bytes(PAGE))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    [doubt, saved] = cli.run("log", "recover", "cut.db", "-o", "saved.db", fails=3).lines
    assert doubt.startswith("doubt: the file was cut off, ")
    assert doubt.endswith("are probably missing, how many is unknown")
    assert saved.endswith(" records to saved.db; lost is not known")
    done = facts(cli, "recover", "cut.db", "-o", "again.db", fails=3)
    assert (done["complete"], done["lost"]) == (False, None)
    assert done["doubts"] == [doubt.removeprefix("doubt: ")]


def test_recover_makes_nothing_of_what_is_no_log(cli: CommandLine) -> None:
    (cli.folder / "notes.db").write_text("hi\n")
    assert "no record" in cli.run("log", "recover", "notes.db", "-o", "new.db", fails=1).err
    assert [file.name for file in cli.folder.iterdir()] == ["notes.db"]
    told = cli.run("log", "doctor", "notes.db", fails=1).text
    assert "recover" not in told
    assert "NOT HEALTHY: records not checked, " in told


def test_recover_misses_what_a_kept_head_names(cli: CommandLine, log: str) -> None:
    cli.run("log", "verify", log, "--write-head", "run.head")
    path = cli.folder / log
    overwrite(path, PAGE, bytes(path.stat().st_size - PAGE))
    ended = cli.run("log", "recover", log, "-o", "saved.db", "--head", "run.head", fails=3)
    assert ended.lines[0].startswith("lost: positions 1 to 6: ")


def test_a_backup_is_made_while_another_process_writes(cli: CommandLine) -> None:
    with cli.start_python(WRITER, ready="writing"):
        ended = cli.run("log", "backup", "run.db", "copy.db")
        refused = cli.run("log", "redact", "run.db", "--position", "1", fails=1)
        assert "open for writing by process" in refused.err
    assert ", sound, head " in ended.text
    assert verify(cli.folder / "copy.db").records % 20 == 0
    assert facts(cli, "doctor", "run.db")["healthy"] is True


def test_a_backup_goes_to_a_pipe(cli: CommandLine, log: str) -> None:
    assert cli.shell(f"hms-bus log backup {log} - | cat > copy.db").status == 0
    assert records(cli.folder / "copy.db") == records(cli.folder / log)


def test_a_filter_and_its_parts(cli: CommandLine, log: str) -> None:
    ended = cli.run("log", "filter", log, "-o", "eu.db", "--topic", "orders.eu.>")
    assert ended.text == "wrote 3 of 6 records to eu.db\n"
    assert facts(cli, "filter", log, "-o", "c.db", "--corr", CONVERSATION) == {
        "read": 6,
        "written": 2,
    }
    assert "pipe" in cli.run("log", "filter", log, "-o", "-", fails=2).err
    assert "no file" in cli.run("log", "filter", "ipc://agents", "-o", "x.db", fails=2).err


def test_a_merge_of_what_was_filtered(cli: CommandLine, log: str) -> None:
    for topic in ("orders.>", "notes.>", "*.new"):
        cli.run("log", "filter", log, "-o", f"{topic[:3]}.db", "--topic", topic)
    ended = cli.run("log", "merge", "*.n.db", "not.db", "ord.db", "-o", "all.db")
    assert ended.text == "wrote 6 of 7 records to all.db; 1 duplicate\n"
    assert [one.hash for one in records(cli.folder / "all.db")] == [
        one.hash for one in records(cli.folder / log)
    ]


def test_a_merge_of_what_differs_ends_with_3(cli: CommandLine) -> None:
    for name in ("a", "b"):
        cli.run("pub", "t", name, "--log", f"{name}.db", "-H", "id=1", "--source", "/x")
    ended = cli.run("log", "merge", "a.db", "b.db", "-o", "all.db", fails=3)
    assert "position 1: another record has its source /x and id 1" in ended.err


def test_a_split(cli: CommandLine, log: str) -> None:
    ended = cli.run("log", "split", log, "--by", "topic", "-o", "topics")
    assert ended.lines[0] == "topics/orders.eu.created.db\t1"
    assert len([*(cli.folder / "topics").iterdir()]) == 6
    parts = cli.run("log", "split", log, "--by", "size", "--size", "1KB", "-o", "p").lines
    assert [line.partition("\t")[0] for line in parts] == [f"p/00000{n}.db" for n in (1, 2, 3)]
    existing = cli.run("log", "split", log, "--by", "day", "-o", "topics", fails=2)
    assert "topics exists: choose another name" in existing.err
    assert (
        "no size"
        in cli.run("log", "split", log, "--by", "size", "--size", "x", "-o", "q", fails=2).err
    )


def test_a_compaction(cli: CommandLine, log: str) -> None:
    ended = cli.run("log", "compact", log, "-o", "small.db", "--max-records", "orders.>=1")
    assert ended.text == "kept 3 records in small.db, dropped 3\n"
    cli.run("log", "verify", "small.db")
    kept = cli.run("log", "cat", "small.db", "--topic", "$log.>", "--format", "json").text
    assert json.loads(kept)["event"]["data"]["position"] == 6
    done = facts(cli, "compact", log, "--in-place", "--keep", "1h", "--keep", "notes.*=0s")
    assert (done["kept"], done["dropped"]) == (5, 1)
    cli.run("log", "verify", log)


def test_a_compaction_wants_to_know_what_and_where(cli: CommandLine, log: str) -> None:
    for args, words in (
        (("--max-records", "1"), "choose one"),
        (("-o", "new.db"), "what to keep"),
        (("-o", "new.db", "--max-records", "x"), "no number"),
        (("-o", "new.db", "--keep", "x"), "duration"),
        (("-o", "new.db", "--keep", "a..b=1h"), "pattern"),
    ):
        assert words in cli.run("log", "compact", log, *args, fails=2).err
    assert not (cli.folder / "new.db").exists()


def test_a_redaction(cli: CommandLine, log: str) -> None:
    args = ("log", "redact", log, "--topic", "notes.>", "--reason", "a name", "--by", "/ada")
    assert cli.run(*args, "--dry-run").text.startswith("would take 1 payload out, ")
    assert cli.run(*args).text.startswith("took 1 payload out, ")
    cli.run("log", "verify", log)
    assert b"two" not in (cli.folder / log).read_bytes()
    [note] = cli.run("log", "cat", log, "--topic", "$log.redacted", "--raw").lines
    assert json.loads(note) == {"positions": [4], "reason": "a name", "by": "/ada"}
    assert "what to redact" in cli.run("log", "redact", log, fails=2).err
    assert "no position 9" in cli.run("log", "redact", log, "--position", "9", fails=2).err


def test_a_seal_is_kept_and_verified(cli: CommandLine, log: str) -> None:
    cli.run("log", "keygen", "log.key")
    assert cli.run("log", "seal", log, "--key", "log.key", "-o", "run.seal").text == (
        "sealed 6 records in run.seal\n"
    )
    cli.run("pub", "more", "1", "--log", log)
    checked = ("log", "verify", log, "--seal", "run.seal", "--public-key", "log.key.pub")
    genuine, sound = cli.run(*checked).lines
    assert re.fullmatch(r"genuine: sealed \S+Z with the key [0-9a-f]{64}, at position 6", genuine)
    assert "contains the kept head at 6" in sound
    told = facts(cli, *checked[1:])["seal"]
    assert isinstance(told, dict)
    assert told["position"] == 6
    assert read_public_key(str(cli.folder / "log.key.pub")).hex() == told["key"]
    cli.run("log", "redact", log, "--position", "1")
    cli.run(*checked)
    with closing(sqlite3.connect(cli.folder / log)) as connection, connection:
        connection.execute("DELETE FROM records WHERE position > 4")
        connection.execute("DELETE FROM topics WHERE last > 4")
    assert "last 2 records are lost" in cli.run(*checked, fails=1).text


def test_a_compacted_log_says_so_of_a_seal_of_the_old_one(cli: CommandLine, log: str) -> None:
    cli.run("log", "keygen", "log.key")
    cli.run("log", "seal", log, "--key", "log.key", "-o", "run.seal")
    by_seal = ("--seal", "run.seal", "--public-key", "log.key.pub")
    args = ("log", "compact", log, "--max-records", "orders.>=1", "--by", "/ada", "-o")
    cli.run(*args, "small.db")
    genuine, told, _ = cli.run("log", "verify", "small.db", *by_seal, fails=1).lines
    assert genuine.startswith("genuine: ")
    assert told.startswith("COMPACTED: the log does not contain the kept head at 6; position 4 ")
    assert told.endswith("by /ada: 3 of 6 records were kept")
    found = facts(cli, "verify", "small.db", *by_seal, fails=1)
    assert found["sound"] is False
    assert found["compacted"]["position"] == 4  # type: ignore[index] # JSON
    # It is not the compaction that excuses what happens to the log afterwards.
    with closing(sqlite3.connect(cli.folder / "small.db")) as connection, connection:
        connection.execute("UPDATE records SET hash = zeroblob(32) WHERE position = 1")
    assert "NOT SOUND" in cli.run("log", "verify", "small.db", *by_seal, fails=1).text


def test_a_compaction_of_another_head_explains_nothing(cli: CommandLine, log: str) -> None:
    cli.run("log", "verify", log, "--write-head", "run.head")
    cli.run("log", "compact", log, "--max-records", "orders.>=1", "-o", "small.db")
    head = (cli.folder / "run.head").read_text()
    (cli.folder / "run.head").write_text(head.replace('"position":6', '"position":9'))
    ended = cli.run("log", "verify", "small.db", "--head", "run.head", fails=1)
    assert "NOT SOUND" in ended.text
    assert facts(cli, "verify", "small.db", "--head", "run.head", fails=1)["compacted"] is None


def test_an_empty_file_is_not_verified_nor_called_a_log(cli: CommandLine) -> None:
    (cli.folder / "run.db").touch()
    ended = cli.run("log", "verify", "run.db", fails=1)
    assert "is empty" in ended.err
    assert "migrates" not in ended.err


def test_verify_and_doctor_give_one_advice(cli: CommandLine, log: str) -> None:
    damage(cli.folder / log)
    told = cli.run("log", "verify", log, fails=1).lines[1]
    assert "`hms-bus log doctor sqlite:run.db` tells more" in told
    assert "`hms-bus log recover sqlite:run.db -o NEW` saves what can be proven" in told
    assert "export" not in told
    cli.run("log", "recover", "sqlite:run.db", "-o", "saved.db", fails=3)


def test_what_has_lost_its_header_is_sent_to_the_doctor(cli: CommandLine, log: str) -> None:
    overwrite(cli.folder / log, 0, bytes(PAGE))
    for command in ("verify", "cat"):
        ended = cli.run("log", command, log, fails=1)
        assert f"`hms-bus log doctor {cli.folder / log}` tells what is left" in ended.err
    assert "log recover" in cli.run("log", "doctor", log, fails=1).text


def test_a_head_takes_the_place_of_a_head_only(cli: CommandLine, log: str) -> None:
    (cli.folder / "notes.txt").write_text("notes")
    cli.run("log", "verify", log, "--write-head", "notes.txt", fails=2)
    assert (cli.folder / "notes.txt").read_text() == "notes"


def test_a_seal_of_somebody_else_is_refused(cli: CommandLine, log: str) -> None:
    cli.run("log", "keygen", "log.key")
    cli.run("log", "keygen", "other.key")
    sealed = cli.run("log", "seal", log, "--key", "other.key").out
    (cli.folder / "run.seal").write_bytes(sealed)
    checked = ("log", "verify", log, "--seal", "run.seal")
    assert "NOT GENUINE" in cli.run(*checked, "--public-key", "log.key.pub", fails=1).text
    assert facts(cli, *checked[1:], "--public-key", "log.key.pub", fails=1)["sound"] is False
    assert "--public-key" in cli.run(*checked, fails=2).err


def test_what_is_not_sound_is_not_sealed(cli: CommandLine, log: str) -> None:
    cli.run("log", "keygen", "log.key")
    damage(cli.folder / log)
    ended = cli.run("log", "seal", log, "--key", "log.key", "-o", "run.seal", fails=1)
    assert "NOT SOUND" in ended.err
    assert not (cli.folder / "run.seal").exists()


@pytest.mark.parametrize("form", ["batch", "mcap", "parquet"])
def test_an_export_is_imported_as_it_was(cli: CommandLine, log: str, form: str) -> None:
    cli.run("log", "export", log, "--format", form, "-o", "run.out")
    ended = cli.run("log", "import", "copy.db", "run.out", "--format", form)
    assert ended.err == "imported 6 new events; 0 were in the log; 0 lines left out\n"
    events = [one.document for one in records(cli.folder / "copy.db")]
    assert events == [one.document for one in records(cli.folder / log)]


@pytest.mark.parametrize("form", ["jsonl", "batch", "mcap"])
def test_an_export_goes_through_a_pipe(cli: CommandLine, log: str, form: str) -> None:
    ended = cli.shell(
        f"hms-bus log export {log} --format {form} -o - | cat | "
        f"hms-bus log import copy.db - --format {form}"
    )
    assert (ended.status, ended.err.partition(";")[0]) == (0, "imported 6 new events")


def test_parquet_goes_to_a_pipe_but_does_not_come_from_one(cli: CommandLine, log: str) -> None:
    ended = cli.shell(f"hms-bus log export {log} --format parquet | cat > run.parquet")
    assert ended.status == 0
    cli.run("log", "import", "copy.db", "run.parquet", "--format", "parquet")
    piped = cli.shell("cat run.parquet | hms-bus log import new.db --format parquet")
    assert (piped.status, "from its end" in piped.err) == (2, True)


def test_what_is_no_event_in_a_batch_is_left_out(cli: CommandLine) -> None:
    (cli.folder / "run.json").write_text('[{"no": "event"}]')
    ended = cli.run("log", "import", "copy.db", "run.json", "--format", "batch", fails=3)
    assert "1 line left out" in ended.err
    (cli.folder / "run.json").write_text('"no array"')
    assert (
        "no batch"
        in cli.run("log", "import", "copy.db", "run.json", "--format", "batch", fails=1).err
    )


@pytest.mark.parametrize("name", ["run.jsonl", "run.json", "run.mcap", "run.parquet"])
def test_the_name_of_a_file_says_its_form(cli: CommandLine, log: str, name: str) -> None:
    cli.run("log", "export", log, "-o", name)
    assert "6 new events" in cli.run("log", "import", "copy.db", name).err
    (cli.folder / "other").write_bytes((cli.folder / name).read_bytes())
    assert "0 new events" in cli.run("log", "import", "copy.db", "other").err


def test_a_form_that_the_file_does_not_have_is_refused(cli: CommandLine, log: str) -> None:
    as_lines = ("-o", "run.parquet", "--format", "jsonl")
    assert "not jsonl" in cli.run("log", "export", log, *as_lines, fails=2).err
    cli.run("log", "export", log, "-o", "run.mcap")
    as_batch = ("run.mcap", "--format", "batch")
    assert "has the form mcap" in cli.run("log", "import", "copy.db", *as_batch, fails=2).err
    assert {file.name for file in cli.folder.iterdir()} >= {log, "run.mcap"}
    assert not (cli.folder / "copy.db").exists()
    assert "What FILE is." in cli.run("log", "import", "--help").text


@pytest.mark.parametrize(
    ("content", "status"), [("no event\n", 3), ('"no array"', 3), ("[1, 2", 1)]
)
def test_an_import_of_nothing_leaves_no_new_log(
    cli: CommandLine, log: str, content: str, status: int
) -> None:
    (cli.folder / "in").write_text(content)
    before = {*cli.folder.iterdir()}
    cli.run("log", "import", "new.db", "in", fails=status)
    cli.run("log", "import", "new.db", log, fails=2)
    assert "mkdir" in cli.run("log", "import", "none/new.db", "in", fails=1).err
    assert {*cli.folder.iterdir()} == before
    cli.run("log", "import", log, "in", fails=status)
    assert len(records(cli.folder / log)) == 6


def test_an_import_that_fails_later_keeps_what_it_has(cli: CommandLine, log: str) -> None:
    lines = cli.run("log", "export", log).out
    cli.run("log", "import", "new.db", stdin=lines + b"no event\n", fails=3)
    assert len(records(cli.folder / "new.db")) == 6


def test_no_log_is_replaced_by_an_export_or_a_seal(cli: CommandLine, log: str) -> None:
    cli.run("log", "keygen", "log.key")
    for args in (
        ("log", "export", log, "--force", "-o", log),
        ("log", "seal", log, "--key", "log.key", "-o", log),
        ("log", "seal", log, "--key", "log.key", "-o", "log.key"),
    ):
        assert "choose another name" in cli.run(*args, fails=2).err
    assert len(records(cli.folder / log)) == 6
    cli.run("log", "seal", log, "--key", "log.key")


def test_an_export_goes_to_a_named_pipe(cli: CommandLine, log: str) -> None:
    ended = cli.shell(
        f"mkfifo pipe && (cat pipe > out &) && hms-bus log export {log} -o pipe && test -p pipe"
    )
    assert ended.status == 0, ended.err


def test_ctrl_c_leaves_nothing_behind(cli: CommandLine) -> None:
    fill(cli.folder / "run.db", numbered(40_000))
    with cli.start("log", "filter", "run.db", "-o", "new.db") as running:
        # Within the half second that the work takes; the test's timeout ends the wait.
        while not [*cli.folder.glob(".new.db.*")]:
            pass
        running.send_signal(signal.SIGINT)
        assert running.end().status == 130
    left = {file.name for file in cli.folder.iterdir()}
    assert left <= {"run.db", "run.db-wal", "run.db-shm"}
