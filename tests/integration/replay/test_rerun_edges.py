"""Reruns where the record is damaged, narrowed, renamed, or handled by what hangs."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from hms_bus import Bus, Envelope, effect
from hms_bus.abc import Selector
from hms_bus.errors import LogCorruptError
from hms_bus.plugins import open_log
from hms_bus.replay import ReplaySettings, Rerun, compare, open_rerun, rerun, stage
from tests.support.runs import said

EVENTS = 1500  # more than a replay reads ahead unless it has to


def echo(url: str, log: str | None = None) -> Bus:
    bus = Bus(url, log=log, source="/agents/echo")

    @bus.subscribe("word")
    async def say(word: int) -> None:
        await bus.publish("said", word)

    return bus


def numbers(outputs: list[Envelope]) -> list[object]:
    return [output.decode() for output in outputs]


# -- damage --------------------------------------------------------------------------------------


@pytest.fixture
async def damaged(tmp_path: Path) -> str:
    """The path of a log whose last record, at `EVENTS`, cannot be read."""
    path = tmp_path / "damaged.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append([said("word", number) for number in range(1, EVENTS + 1)])
    await asyncio.to_thread(_damage, path)
    return str(path)


def _damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DROP VIEW IF EXISTS events")
        file.execute("UPDATE records SET document = X'7B' WHERE position = ?", (EVENTS,))


@asynccontextmanager
async def running(log: str, *, first: int = 1, last: int | None = None) -> AsyncGenerator[Rerun]:
    selector = Selector(first=first, last=last)
    url = f"sqlite:{log}?readonly=true"
    async with open_rerun(ReplaySettings(log=url, selector=selector), asking) as made:
        yield made


def asking(url: str) -> Bus:
    """Return an agent that looks for an answer which the record lacks, as far as it goes."""
    bus = Bus(url, source="/agents/asking")

    @bus.subscribe("word")
    async def ask(word: int) -> None:
        await bus.publish("said", word + await effect("draw", lambda: 0))

    return bus


async def test_what_lies_before_damage_is_played_though_a_handler_met_it(damaged: str) -> None:
    async with running(damaged, first=EVENTS - 1000) as made:
        assert made.damage is None
        with pytest.raises(LogCorruptError):
            await made.play()
        assert numbers(made.outputs) == list(range(EVENTS - 1000, EVENTS))
        assert made.damage is not None
        assert made.damage.position == EVENTS
        assert made.failures == []
    with pytest.raises(LogCorruptError):
        await rerun(damaged, asking)


async def test_damage_behind_what_is_played_is_told_and_ends_nothing(damaged: str) -> None:
    outcome = await rerun(damaged, asking, selector=Selector(last=3))
    assert numbers(outcome.outputs) == [1, 2, 3]
    assert outcome.damage is not None
    async with running(damaged, last=3) as made:
        await made.play()
        with pytest.raises(LogCorruptError):
            await made.stage.pass_rest(10_000)


# -- one conversation ----------------------------------------------------------------------------


async def test_what_a_conversation_led_to_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    def namer(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/namer")

        @bus.subscribe("word")
        async def say(word: int) -> None:
            drawn = await effect("draw", lambda: word)
            await bus.publish("said", drawn, correlationid=f"own {word}")

        return bus

    path, log = str(tmp_path / "run.db"), f"sqlite:{tmp_path / 'run.db'}"
    async with (
        namer("direct://names", log),
        Bus("direct://names", log=log, source="/desk") as desk,
        desk.subscribe("said") as news,
    ):
        for word in (1, 2, 3):
            await desk.publish("word", word, correlationid=f"c{word}")
            await anext(news)
    outcome = await rerun(path, namer, selector=Selector(correlation="c2"), effects="strict")
    assert numbers(outcome.outputs) == [2]
    assert outcome.played == 1
    assert compare(outcome.recorded, outcome.outputs).is_same
    settings = ReplaySettings(log=log, selector=Selector(correlation="c2"))
    async with open_rerun(settings, namer) as made:
        [upcoming] = await made.stage.upcoming()
        assert upcoming.envelope.decode() == 2
        assert await made.step() == upcoming
        while await made.step():
            pass
        assert numbers(made.take_outputs()) == [2]


# -- other names ---------------------------------------------------------------------------------


def historian(
    url: str,
    log: str | None = None,
    *,
    source: str = "/agents/old/0123abcd",
    heard: str = "old",
    told: str = "told.old",
) -> Bus:
    """Return an agent that tells how much was said so far, by all and by itself."""
    bus = Bus(url, log=log, source=source)

    @bus.subscribe(heard)
    async def note(word: int) -> None:
        await bus.publish(told, word)
        past = [message.data async for message in bus.replay("*.>")]
        own = [message.data async for message in bus.replay(told)]
        await bus.publish(told, [len(past), own])

    @bus.serve(f"{heard}.count")
    async def count(word: int) -> int:
        return word

    return bus


async def test_a_renamed_agent_says_the_same_and_reads_what_it_has_said(tmp_path: Path) -> None:
    path, log = str(tmp_path / "run.db"), f"sqlite:{tmp_path / 'run.db'}"
    async with (
        historian("direct://history", log),
        Bus("direct://history", log=log, source="/desk") as desk,
        desk.subscribe("told.old") as news,
    ):
        for word in (1, 2, 3):
            await desk.publish("old", word)
            await anext(news)
            await anext(news)
        await desk.request("old.count", 4)

    def renamed(url: str) -> Bus:
        return historian(url, source="/agents/new", heard="new", told="told.new")

    remap = {
        "old": "new",
        "old.count": "new.count",
        "told.old": "told.new",
        "/agents/old": "/agents/new",
    }
    for build, names in ((historian, {}), (renamed, remap)):
        outcome = await rerun(path, build, remap=names, effects="strict")
        assert outcome.failures == []
        assert compare(outcome.recorded, outcome.outputs).is_same
        assert len(outcome.outputs) == 7


# -- waiting -------------------------------------------------------------------------------------


async def test_a_handler_that_hangs_is_named_also_when_one_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "_STALL_S", 0.01)
    path = tmp_path / "run.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append([said("word", number) for number in (1, 2, 3)])
    told = asyncio.Event()

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has been handling" in record.getMessage():
                told.set()

    handler = Telling()
    logging.getLogger("hms_bus").addHandler(handler)

    def hanging(url: str) -> Bus:
        bus = Bus(url, source="/agents/hanging")

        @bus.subscribe("word")
        async def wait(word: int) -> None:
            if word == 2:
                await told.wait()

        return bus

    settings = ReplaySettings(log=f"sqlite:{path}")
    try:
        async with open_rerun(settings, hanging) as made:
            while await made.step():
                pass
            assert "handling word (position 2)" in caplog.text
            caplog.clear()
            told.clear()
        async with open_rerun(settings, hanging) as made:
            await made.play()  # the three of them at once
            assert "handling word (position 2)" in caplog.text
    finally:
        logging.getLogger("hms_bus").removeHandler(handler)
