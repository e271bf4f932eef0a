"""`pub`, `sub`, `req` and `reply` between real processes, over a transport that was installed."""

import json
import signal

import pytest

from tests.support.command_line import CommandLine


def test_a_subscriber_prints_what_another_process_publishes(shared: CommandLine) -> None:
    with shared.start("sub", "orders.>", "-c", "2", "--format", "json", ready="listening") as sub:
        shared.run("pub", "orders.created", '{"id": 1}', "--type", "Order", "-H", "urgency:=3")
        shared.run("pub", "elsewhere", "1")
        shared.run("pub", "orders.sent", "-", stdin=b"\xff\x00")
        ended = sub.end()
    first, second = map(json.loads, ended.lines)
    assert ended.status == 0
    assert first["position"] is None
    assert first["event"]["topic"] == "orders.created"
    assert first["event"]["type"] == "Order"
    assert first["event"]["data"] == {"id": 1}
    assert first["event"]["urgency"] == 3
    assert second["event"]["data_base64"] == "/wA="


def test_lines_of_text_hold_the_payload_last(shared: CommandLine) -> None:
    with shared.start("sub", ">", "-c", "1", ready="listening") as sub:
        shared.run("pub", "notes.new", "first\nsecond\x1b[2J", "--source", "/me", "--type", "Note")
        [line] = sub.end().lines
    assert line.split("\t")[2:] == ["notes.new", "Note", "/me", "first\\nsecond\\u001b[2J"]


def test_raw_output_is_the_payload_to_the_byte(shared: CommandLine) -> None:
    octets = bytes(range(256))
    with shared.start("sub", ">", "-c", "1", "--raw", ready="listening") as sub:
        shared.run("pub", "octets", "-", stdin=octets)
        assert sub.end().out == octets


def test_members_of_a_group_share_the_messages(shared: CommandLine) -> None:
    options = ("sub", "work.*", "--group", "helpers", "--format", "json", "-c", "3")
    with (
        shared.start(*options, ready="listening") as one,
        shared.start(*options, ready="listening") as other,
    ):
        shared.run("pub", "work.todo", "{{count}}", "--template", "--count", "6")
        seen = [json.loads(line)["event"]["data"] for s in (one, other) for line in s.end().lines]
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]


def test_a_subscriber_that_hears_too_little_in_time_says_so_by_its_status(
    shared: CommandLine,
) -> None:
    assert shared.run("sub", "silence", "-c", "1", "--timeout", "100ms", fails=1).out == b""
    assert shared.run("sub", "silence", "--timeout", "100ms").out == b""


def test_a_request_is_answered_by_an_echo(shared: CommandLine) -> None:
    with shared.start("reply", "test.echo", "--echo", "-c", "3", ready="answering") as agent:
        assert shared.run("req", "test.echo", '{"a": [1, 2]}').text == '{"a":[1,2]}\n'
        assert shared.run("req", "test.echo", "some text").text == "some text\n"
        assert shared.run("req", "test.echo", "-", "--raw", stdin=b"\xff").out == b"\xff"
        assert agent.end().status == 0


def test_a_command_answers_and_is_told_of_the_request(shared: CommandLine) -> None:
    program = 'printf "%s %s " "$HMS_TOPIC" "$HMS_CAPTURE_name"; tr a-z A-Z'
    with shared.start("reply", "text.{name}", "--command", program, ready="answering"):
        assert shared.run("req", "text.upper", "abc").text == "text.upper upper ABC\n"


def test_a_command_that_fails_answers_with_an_error(shared: CommandLine) -> None:
    program = "echo broken pump >&2; exit 3"
    with shared.start("reply", "pump.start", "--command", program, ready="answering"):
        err = shared.run("req", "pump.start", fails=1).err
    assert "INTERNAL" in err
    assert "broken pump" in err
    assert "next:" in err


def test_a_command_is_killed_when_the_caller_does_not_wait_any_more(shared: CommandLine) -> None:
    # The shell's child is the one that would go on; it holds the lock that the next one needs.
    program = "echo started >> starts; sleep 60 & wait"
    with shared.start("reply", "slow", "--command", program, "-c", "1", ready="answering") as agent:
        err = shared.run("req", "slow", "--timeout", "500ms", fails=1).err
        assert "no answer" in err
        assert "--timeout" in err
        assert agent.end().status == 0
    assert (shared.folder / "starts").read_text() == "started\n"


def test_nobody_there_is_said_at_once(shared: CommandLine) -> None:
    err = shared.run("req", "nobody.home", "--timeout", "1h", fails=1).err
    assert "nobody serves 'nobody.home'" in err
    assert "hms-bus reply" in err


def test_all_agents_are_asked(shared: CommandLine) -> None:
    answers = ("reply", "status.get", "--each", "-q", "--source")
    with (
        shared.start(*answers, "/one", "up") as _,
        shared.start(*answers, "/two", "--command", "exit 1") as _,
        shared.start("reply", "status.get", "late", "--each", ready="answering"),
    ):
        _wait_for_agents(shared, 3)
        got = shared.run("req", "status.get", "--replies", "3", "--source", "/me", fails=1)
    assert len(got.lines) == 3
    assert "/one\tup" in got.lines
    assert any(line.startswith("/two\terror: INTERNAL") for line in got.lines)


def _wait_for_agents(shared: CommandLine, count: int) -> None:
    while True:
        found = shared.shell("hms-bus req status.get --replies 0 --timeout 500ms").lines
        if len(found) == count:
            return


COUNTING_AGENT = """
import sys
from hms_bus import Bus, StatusError

bus = Bus.from_config()

@bus.serve("numbers.count")
async def count_to(last: int):
    for number in range(1, last + 1):
        yield {"number": number}
    if last > 2:
        raise StatusError("OUT_OF_RANGE", "I can count to two only")

@bus.serve("numbers.ready")
async def ready() -> str:
    return "yes"

print("starting", file=sys.stderr, flush=True)
bus.run()
"""


def test_a_stream_is_printed_item_by_item(shared: CommandLine) -> None:
    with shared.start_python(COUNTING_AGENT, ready="starting"):
        _wait_for(shared, "numbers.ready")
        assert shared.run("req", "numbers.count", "2", "--stream").lines == [
            '{"number":1}',
            '{"number":2}',
        ]
        broken = shared.run("req", "numbers.count", "3", "--stream", fails=1)
    assert len(broken.lines) == 3
    assert "OUT_OF_RANGE" in broken.err


def _wait_for(shared: CommandLine, topic: str) -> None:
    while shared.shell(f"hms-bus req {topic}").status:
        pass


def test_interrupting_a_subscriber_ends_it_in_order(shared: CommandLine) -> None:
    with shared.start("sub", ">", ready="listening") as sub:
        shared.run("pub", "a", "1")
        assert sub.read_line()
        sub.send_signal(signal.SIGINT)
        ended = sub.end()
    assert ended.status == 130
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_an_agent_lets_it_finish(
    shared: CommandLine, number: signal.Signals, status: int
) -> None:
    program = "touch begun; sleep 0.3; echo finished"
    with (
        shared.start("reply", "work", "--command", program, ready="answering") as agent,
        shared.start("req", "work") as caller,
    ):
        agent.await_error_line("work from")
        agent.send_signal(number)
        assert caller.end().text == "finished\n"
        assert agent.end().status == status


def test_a_second_interrupt_ends_the_waiting(shared: CommandLine) -> None:
    program = "echo begun >&2; sleep 600"
    with (
        shared.start("reply", "work", "--command", program, ready="answering") as agent,
        shared.start("req", "work", "--timeout", "10m") as caller,
    ):
        agent.await_error_line("work from")
        agent.send_signal(signal.SIGINT)
        agent.await_error_line("finishing what was accepted; Ctrl-C again stops")
        agent.send_signal(signal.SIGINT)
        ended = agent.end()
        assert caller.end().status == 1
    assert ended.status == 130
    assert "Traceback" not in ended.err
