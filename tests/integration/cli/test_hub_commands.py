"""`hms-bus hub` and its commands, with real hubs: run, look, watch, end."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from hms_bus.ipc import frames, session
from hms_bus.ipc.places import RUNTIME_DIR
from hms_bus.ipc.session import HubInfo, Limits, Welcome
from tests.support.command_line import CommandLine
from tests.support.terminal import at_terminal

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def runtime(machine: CommandLine) -> Path:
    return Path(machine.settings[RUNTIME_DIR])


def listed(machine: CommandLine) -> list[tuple[str, str]]:
    """The hubs with their states."""
    rows = map(json.loads, machine.run("hub", "ls", "--format", "json").lines)
    return [(row["hub"], row["state"]) for row in rows]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_hub_runs_until_it_is_told_to_end(machine: CommandLine, number: signal.Signals) -> None:
    with machine.start("hub", "--listen", "ipc://shop", ready="listens at ipc://shop") as hub:
        assert listed(machine) == [("ipc://shop", "running")]
        hub.send_signal(number)
        ended = hub.end()
    assert (ended.status, ended.out) == (0, b"")
    assert len(ended.err.splitlines()) == 1
    assert list(runtime(machine).iterdir()) == []


def test_a_second_interrupt_ends_a_hub_that_waits_for_a_client(machine: CommandLine) -> None:
    with (
        machine.start("hub", ready="listens") as hub,
        machine.start("sub", "x", "--bus", "ipc://agents", ready="listening") as client,
    ):
        client.send_signal(signal.SIGSTOP)
        hub.send_signal(signal.SIGINT)
        machine.shell(f"while test -e {runtime(machine)}/agents.sock; do :; done")
        hub.send_signal(signal.SIGINT)
        ended = hub.end()
        client.send_signal(signal.SIGCONT)
    assert ended.status == 130
    assert "Traceback" not in ended.err


def test_a_hub_listens_where_the_configured_bus_is(machine: CommandLine) -> None:
    (machine.folder / "hms-bus.toml").write_text('url = "ipc://bakery"\n')
    with machine.start("hub", ready="listens at ipc://bakery"):
        machine.run("pub", "bread.baked", "1")
        assert json.loads(machine.run("hub", "status", "--format", "json").text)["totals"][
            "received"
        ]


def test_a_hub_has_its_limits_and_its_log_from_a_file(machine: CommandLine) -> None:
    (machine.folder / "hub.toml").write_text(
        f'listen = "ipc://shop"\nlog = "sqlite:{machine.folder}/shop.db"\n'
        "[limits]\nmax_clients = 2\n"
    )
    with machine.start("hub", "--config", "hub.toml", ready="listens at ipc://shop"):
        told = json.loads(machine.run("hub", "status", "shop", "--format", "json").text)
        machine.run("pub", "orders.new", "1", "--bus", "ipc://shop")
        assert "orders.new" in machine.run("log", "cat", "shop.db").text
    assert told["limits"]["max_clients"] == 2
    assert told["log"]["url"].endswith("/shop.db")


def test_a_hub_whose_place_is_taken_says_by_whom(machine: CommandLine) -> None:
    with machine.start("hub", ready="listens"):
        err = machine.run("hub", fails=1).err
    assert re.match(r"error: there is a hub at ipc://agents already: process \d+ ", err)
    assert "next:  use the one that is there" in err


def test_a_hub_on_a_terminal_says_how_to_come_to_it(machine: CommandLine) -> None:
    with at_terminal(machine, "hub", "--listen", "ipc://shop") as shown:
        shown.wait_for("Ctrl-C drains")
        shown.press(b"\x03")
        text = shown.end(status=0)
    assert "Bus('ipc://shop')" in text
    assert "HMS_BUS_URL=ipc://shop" in text
    assert "hms-bus hub top ipc://shop" in text


def test_tokens_say_who_may_look_and_who_may_end_a_hub(machine: CommandLine) -> None:
    file = machine.folder / "hub.toml"
    file.write_text(
        '[[token]]\nname = "till"\ntoken = "t"\n'
        '[[token]]\nname = "boss"\ntoken = "b"\nadmin = true\n'
    )
    file.chmod(0o600)
    with machine.start("hub", "--config", "hub.toml", ready="listens") as hub:
        refused = machine.run("hub", "status", fails=1).err
        assert "token" in refused
        assert "next:" not in refused
        assert listed(machine) == [("ipc://agents", "refuses")]
        assert machine.run("hub", "status", "ipc://agents?token=b").text
        assert "takes an admin" in machine.run("hub", "status", "ipc://agents?token=t", fails=1).err
        machine.settings["HMS_BUS_TOKEN"] = "t"
        assert listed(machine) == [("ipc://agents", "refuses")]
        assert "admin" in machine.run("hub", "stop", fails=1).err
        machine.settings["HMS_BUS_TOKEN"] = "b"
        machine.run("hub", "stop")
        assert hub.end().status == 0


def test_clients_and_subscriptions_are_shown(hub: CommandLine) -> None:
    with hub.start("sub", "orders.>", "--group", "billing", ready="listening") as sub:
        hub.run("pub", "orders.new", "{{count}}", "-t", "--count", "3")
        assert [sub.read_line() for _ in range(3)]
        told = json.loads(hub.run("hub", "status", "--format", "json").text)
        text = hub.run("hub", "status").text
        sub.send_signal(signal.SIGINT)
        sub.end()
    assert (told["totals"]["received"], told["totals"]["delivered"]) == (3, 3)
    [client] = told["clients"]
    assert client["delivered"] == 3
    assert ("orders.>", "billing") in {
        (subscription["pattern"], subscription["group"]) for subscription in client["subscriptions"]
    }
    assert re.search(r"^in +3 messages, ", text, re.MULTILINE)
    assert re.search(r"^1 +orders\.> +billing +block .* 3 +0$", text, re.MULTILINE)


def test_rates_are_printed_once_per_interval(hub: CommandLine) -> None:
    with (
        hub.start("sub", "ticks", "-q") as _,
        hub.start("pub", "ticks", "1", "-c", "100000", "--interval", "5ms", "--log", "memory:"),
    ):
        hub.shell("until hms-bus hub status | grep -q ticks; do :; done")
        lines = hub.run("hub", "top", "-c", "2", "--interval", "200ms", "--format", "json").lines
        text = hub.run("hub", "top", "-c", "1", "--interval", "200ms").text
    assert len(lines) == 2
    for picture in map(json.loads, lines):
        assert picture["rates"]["received"] > 0
        assert picture["rates"]["delivered"] > 0
        assert any(client["rates"]["received"] > 0 for client in picture["clients"])
    assert text.startswith("hub      ipc://agents, up ")
    assert re.search(r"^client +name +pid +in/s +out/s +dropped/s ", text, re.MULTILINE)


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (b"Q", 0), (b"\x03", 130)])
def test_a_terminal_is_redrawn_until_a_key_is_pressed(
    machine: CommandLine, key: bytes, status: int
) -> None:
    with (
        machine.start("hub", ready="listens"),
        at_terminal(machine, "hub", "top", "--interval", "100ms") as top,
    ):
        top.wait_for("q ends")
        top.wait_for("q ends")
        top.press(key)
        text = top.end(status=status)
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    assert "\x1b[?25h" in text.rpartition("\x1b[?25l")[2]


def test_the_picture_fits_a_small_terminal(machine: CommandLine) -> None:
    machine.settings |= {"COLUMNS": "40", "LINES": "12"}
    with (
        machine.start("hub", ready="listens"),
        machine.start("sub", "x", "--bus", "ipc://agents", ready="listening"),
    ):
        text = machine.on_terminal("hub", "top", "-c", "2", "--interval", "100ms")
    assert "in/s" in text
    lines = CONTROL.sub("", text.replace("\x1b[H", "\n")).splitlines()
    assert all(len(line) <= 40 for line in lines)


def test_a_dumb_terminal_is_not_redrawn(machine: CommandLine) -> None:
    machine.settings["TERM"] = "dumb"
    with machine.start("hub", ready="listens"):
        text = machine.on_terminal("hub", "top", "-c", "1", "--interval", "100ms")
    assert "\x1b" not in text
    assert text.startswith("hub ")


def test_watching_a_hub_that_ends_says_so(machine: CommandLine) -> None:
    with (
        machine.start("hub", ready="listens") as hub,
        machine.start("hub", "top", "--interval", "100ms") as top,
    ):
        assert top.read_line()
        hub.send_signal(signal.SIGTERM)
        hub.end()
        ended = top.end()
    assert ended.status == 1
    assert "no hub" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["status", "top", "stop"])
def test_no_hub_is_an_error_and_none_is_started(machine: CommandLine, command: str) -> None:
    err = machine.run("hub", command, "shop", fails=1).err
    assert err.startswith("error: no hub runs at ipc://shop")
    assert "`hms-bus hub ls`" in err
    assert listed(machine) == []


def test_a_hub_that_was_stopped_has_ended(hub: CommandLine) -> None:
    hub.run("pub", "a", "1", "--log", "run.db")
    text = hub.run("hub", "stop").text
    assert re.fullmatch(r"stopped ipc://agents, process \d+\n", text)
    assert listed(hub) == []
    assert not list(runtime(hub).glob("*.lock"))
    hub.run("log", "verify", "run.db")


def test_the_hubs_of_the_runtime_folder_are_listed(machine: CommandLine) -> None:
    assert machine.run("hub", "ls").err == f"no hubs in {runtime(machine)}\n"
    with (
        machine.start("hub", "--listen", "ipc://a", ready="listens"),
        machine.start("hub", "--listen", "ipc://b", "--log", "b.db", ready="listens") as b,
        machine.start("hub", "--listen", "ipc://c", "--tcp", ready="listens") as c,
        machine.start("hub", "--listen", "ipc://d", ready="listens") as d,
        machine.start("sub", "x", "--bus", "ipc://a", ready="listening"),
    ):
        b.send_signal(signal.SIGKILL)
        b.end()
        d.send_signal(signal.SIGSTOP)
        (runtime(machine) / "no name.sock").touch()
        rows = [json.loads(line) for line in machine.run("hub", "ls", "--format", "json").lines]
        text = machine.run("hub", "ls").text
        d.send_signal(signal.SIGCONT)
        c.send_signal(signal.SIGTERM)
        c.end()
    found = {row["hub"].removeprefix("ipc://"): row for row in rows}
    assert {name: row["state"] for name, row in found.items()} == {
        "a": "running",
        "b": "stale",
        "c": "running",
        "d": "silent",
    }
    assert found["a"]["clients"] == 1
    assert found["b"]["pid"] is None
    assert re.match(r"process \d+ on ", found["d"]["problem"])
    assert text.split()[:5] == ["hub", "state", "pid", "clients", "up"]


async def test_one_hub_that_answers_something_else_does_not_hide_the_others(
    machine: CommandLine,
) -> None:
    """One is of another version; one ends at this moment."""
    folder = runtime(machine)
    await asyncio.to_thread(folder.mkdir, mode=0o700)
    other = await asyncio.start_unix_server(_answer_something, folder / "other.sock")
    dying = await asyncio.start_unix_server(_welcome_and_end, folder / "dying.sock")
    with machine.start("hub", "--listen", "ipc://good", ready="listens"):
        lines = (await asyncio.to_thread(machine.run, "hub", "ls", "--format", "json")).lines
    for server in (other, dying):
        server.close()
        await server.wait_closed()
    found = {row["hub"]: row for row in map(json.loads, lines)}
    assert {url: row["state"] for url, row in found.items()} == {
        "ipc://good": "running",
        "ipc://other": "refuses",
        "ipc://dying": "stale",
    }
    assert "update the older one" in found["ipc://other"]["problem"]


async def _welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Welcome a client; return the content of its first question."""
    await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
    hub = HubInfo(name="x", pid=1, version="9", started_ns=1, instance="x")
    welcome = Welcome(
        protocol=1, envelope="1.0", codecs=["json"], hub=hub, client=1, limits=Limits()
    )
    writer.write(frames.frame(frames.WELCOME, session.to_json(welcome)))
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


async def _answer_something(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = await _welcome(reader, writer)
    call = frames.read_u32(asked)
    writer.write(frames.call_frame(frames.ANSWER, call, bytes(1), b'{"hub":{"colour":"red"}}'))
    await reader.read()
    writer.close()


async def _welcome_and_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _welcome(reader, writer)
    writer.close()


def test_the_log_of_a_hub_is_read_and_followed_while_it_writes(hub: CommandLine) -> None:
    with hub.start("hub", "--log", "run.db", ready="listens"):
        receipts = hub.run("pub", "a.b", "{{count}}", "-t", "-c", "2", "--format", "json").lines
        assert [json.loads(line)["position"] for line in receipts] == [1, 2]
        assert "position 2, not 1" in hub.run("pub", "a.b", "x", "--expect", "1", fails=1).err
        with hub.start("log", "tail", "-f", "-n", "1", "run.db", "--raw") as tail:
            assert tail.read_line() == "2\n"
            hub.run("pub", "a.b", "3", "--expect", "2")
            assert tail.read_line() == "3\n"
        assert len(hub.run("log", "cat", "run.db").lines) == 3
        hub.run("log", "verify", "run.db")
        (hub.folder / "more.jsonl").write_bytes(hub.run("log", "export", "run.db").out)
        refused = hub.run("log", "import", "run.db", "more.jsonl", fails=1).err
    assert "is open for writing by process" in refused


def test_a_quiet_hub_says_nothing(machine: CommandLine) -> None:
    with machine.start("hub", "-q") as hub:
        machine.shell("until hms-bus hub status; do :; done")
        hub.send_signal(signal.SIGTERM)
        ended = hub.end()
    assert (ended.status, ended.out, ended.err) == (0, b"", "")
