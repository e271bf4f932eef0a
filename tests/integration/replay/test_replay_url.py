"""`replay://` as the bus of unchanged programs: alone, with requests, streams and a log."""

import asyncio
import subprocess
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
)
from pathlib import Path
from typing import cast

import pytest

from hms_bus import Bus, DeadlineExceededError, Message, RemoteError, StatusError, effect
from hms_bus.abc import Selector
from hms_bus.errors import (
    ConfigError,
    UnrecordedError,
    UnsupportedError,
)
from hms_bus.plugins import get_codec, open_log, open_transport
from hms_bus.replay import rerun
from hms_bus.replay.transport import ReplayTransport
from hms_bus.replay.writing import capturing_to
from tests.support import runs

PROGRAM = """
import asyncio
from hms_bus import Bus

bus = Bus.from_config(source="/agents/echo")

@bus.subscribe("word")
async def say(word: str) -> None:
    await bus.publish("said", word.upper())
    if word == "last":
        done.set()

async def main() -> None:
    global done
    done = asyncio.Event()
    async with bus:
        await done.wait()

asyncio.run(main())
"""


async def test_a_program_is_replayed_by_its_environment(tmp_path: Path) -> None:
    async with Bus("direct://", log=f"sqlite:{tmp_path / 'run.db'}", source="/desk") as desk:
        for word in ("first", "last"):
            await desk.publish("word", word)
    out = tmp_path / "out.jsonl"
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "HMS_BUS_URL": f"replay://{tmp_path}/run.db?capture={out}",
        "HMS_BUS_LOG": f"sqlite:{tmp_path}/run.db",
    }
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=60,
    )
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [line.count("FIRST") + 2 * line.count("LAST") for line in lines] == [1, 2]


AGENT = """
from hms_bus import Bus, effect

bus = Bus.from_config(source="/agents/gambler")

@bus.subscribe("word")
async def draw() -> None:
    await effect.random()

bus.run()
"""


@pytest.mark.parametrize(
    ("effects", "status", "said"),
    [("recorded", 0, "the replay is over: 2 records handled"), ("strict", 1, "UnrecordedError")],
)
async def test_an_agent_ends_with_its_replay(
    effects: str, status: int, said: str, tmp_path: Path
) -> None:
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        await log.append([runs.said("word", word) for word in (1, 2)])
    (tmp_path / "agent.py").write_text(AGENT, encoding="utf-8")
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "agent.py"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "HMS_BUS_URL": f"replay://{tmp_path}/run.db?effects={effects}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize(
    "query", ["rate=fast", "effects=some", "first=0", "remap=a", "unknown=1", "since=xx"]
)
def test_wrong_options_are_refused_when_the_bus_is_made(query: str) -> None:
    with pytest.raises(ConfigError):
        Bus(f"replay://run.db?{query}")


async def test_a_replay_captures_into_no_log(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append([runs.said("word")])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"run\.db is a log"):
        async with Bus(f"replay://{path}?capture={path}"):
            pass
    assert path.read_bytes() == before


async def test_the_record_itself_is_captured_into_neither(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.touch()  # as another kind of log may begin
    with pytest.raises(ConfigError, match="record is a log"):
        async with capturing_to(tmp_path / "." / "record", f"other:{record}"):
            pass


def server(url: str, log: str | None = None) -> Bus:
    bus = Bus(url, log=log, source="/agents/server")

    @bus.serve("count")
    async def numbers(end: int) -> AsyncGenerator[int]:
        for number in range(end):
            yield number

    @bus.serve("refuse")
    async def refuse() -> None:
        raise StatusError("PERMISSION_DENIED", "not you")

    @bus.serve("sleep")
    async def sleep() -> None:
        await asyncio.Event().wait()

    @bus.serve("who", group=None)
    async def one() -> str:
        return "one"

    @bus.serve("who", group=None)
    async def two() -> str:
        return "two"

    return bus


def client(url: str, log: str | None = None) -> Bus:
    bus = Bus(url, log=log, source="/agents/client")

    @bus.subscribe("go")
    async def go() -> None:
        async with bus.request_stream("count", 200, returns=int) as items:
            await bus.publish("sum", sum([item async for item in items]))
        try:
            await bus.request("refuse")
        except RemoteError as error:
            await bus.publish("refused", error.code)
        try:
            await bus.request("sleep", timeout=0.05)
        except DeadlineExceededError:
            await bus.publish("late")
        replies = await bus.request_many("who", returns=str, timeout=0.05)
        await bus.publish("all", sorted(str(reply.result()) for reply in replies))

    return bus


async def recorded_conversation(log: str) -> None:
    async with (
        server("direct://talk", log),
        client("direct://talk", log),
        Bus("direct://talk", log=log, source="/desk") as desk,
        desk.subscribe("all") as done,
    ):
        await desk.publish("go")
        await anext(done)


async def test_streams_errors_timeouts_and_many_replies_come_from_the_record(
    tmp_path: Path,
) -> None:
    await recorded_conversation(f"sqlite:{tmp_path / 'run.db'}")
    outcome = await rerun(str(tmp_path / "run.db"), client, effects="strict")
    assert runs.payloads_on(outcome.outputs, "sum") == [sum(range(200))]
    assert runs.payloads_on(outcome.outputs, "refused") == ["PERMISSION_DENIED"]
    assert runs.payloads_on(outcome.outputs, "late") == [None]
    assert runs.payloads_on(outcome.outputs, "all") == [["one", "two"]]
    assert outcome.failures == []


async def test_a_server_answers_a_recorded_stream_to_its_end(tmp_path: Path) -> None:
    await recorded_conversation(f"sqlite:{tmp_path / 'run.db'}")

    def streaming(url: str) -> Bus:
        bus = Bus(url, source="/agents/server")

        @bus.serve("count")
        async def numbers(end: int) -> AsyncIterator[int]:
            for number in range(end):
                yield number

        return bus

    outcome = await rerun(str(tmp_path / "run.db"), streaming)
    assert len(outcome.outputs) == 201  # the items, and the end


async def test_the_log_of_an_agent_ends_where_the_replay_is(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'run.db'}"

    def historian(url: str) -> Bus:
        bus = Bus(url, log=log, source="/agents/historian")

        @bus.subscribe("event")
        async def note(msg: Message) -> None:
            seen = [past.data async for past in bus.replay("event")]
            receipt = await bus.publish("seen", seen, expect="any")
            assert receipt.position is not None
            with pytest.raises(UnsupportedError):
                bus.log.read(Selector(), follow=True)
            assert (await bus.log.head()).position == seen[-1]

        return bus

    async with Bus("direct://", log=log, source="/desk") as desk:
        for number in (1, 2, 3):
            await desk.publish("event", number)
    outcome = await rerun(str(tmp_path / "run.db"), historian)
    assert outcome.failures == []
    assert runs.payloads_on(outcome.outputs, "seen") == [[1], [1, 2], [1, 2, 3]]


async def test_durable_subscriptions_get_what_is_played(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'run.db'}"

    def keeper(url: str) -> Bus:
        bus = Bus(url, log=log, source="/agents/keeper")

        @bus.subscribe("entry", durable="books")
        async def book(msg: Message) -> None:
            if msg.data == 2 and msg.attempt == 1:
                raise ValueError("not yet")
            await bus.publish("booked", [msg.data, msg.attempt])

        return bus

    async with Bus("direct://", log=log, source="/desk") as desk:
        for number in (1, 2, 3):
            await desk.publish("entry", number)
    outcome = await rerun(str(tmp_path / "run.db"), keeper)
    assert runs.payloads_on(outcome.outputs, "booked") == [[1, 1], [2, 2], [3, 1]]
    assert [str(failure.error) for failure in outcome.failures] == ["not yet"]


async def replayed(
    path: Path, agent: Callable[[Bus], None], query: str = ""
) -> asyncio.Future[None]:
    """Let an agent handle the record at a URL until that is over; return how it ended."""
    url = f"replay://{path}?{query}"
    async with (
        open_transport(url, codec=get_codec("json")) as transport,
        Bus(url, source="/agents/agent") as bus,
    ):
        agent(bus)
        over = cast("ReplayTransport", transport).over
        assert over is not None
        await asyncio.wait([over], timeout=10)
        return over


async def test_the_end_of_a_replay_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        await log.append([runs.said("word", word) for word in (1, 2)])

    def lacking(bus: Bus) -> None:
        @bus.subscribe("word")
        async def use() -> None:
            await effect("tool", lambda: 1)

    ended = await replayed(tmp_path / "run.db", lacking)
    assert ended.result() is None
    told = caplog.records[-1]
    assert (told.levelname, told.getMessage()) == (
        "WARNING",
        "the replay is over: 2 records handled, 0 outputs, 2 answers not in the record",
    )
    ended = await replayed(tmp_path / "run.db", lacking, "effects=strict")
    assert isinstance(ended.exception(), UnrecordedError)
    [told] = [record for record in caplog.records if "the replay ended" in record.getMessage()]
    assert told.levelname == "ERROR"
    assert "$effect.tool" in told.getMessage()


async def test_those_who_come_and_go_at_once_share_one_replay(tmp_path: Path) -> None:
    async with Bus("direct://", log=f"sqlite:{tmp_path / 'run.db'}", source="/desk") as desk:
        await desk.publish("word", "first")

    async def come_and_go() -> None:
        async with Bus(f"replay://{tmp_path}/run.db", source="/agents/guest"):
            pass

    for _ in range(20):
        await asyncio.gather(*(come_and_go() for _ in range(8)))
