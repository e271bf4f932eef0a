"""Durable subscriptions in reruns: what is given back comes again when the record is so far."""

import asyncio
import logging
from pathlib import Path

import pytest

from hms_bus import Bus, Message
from hms_bus.plugins import open_log
from hms_bus.replay import Outcome, ReplaySettings, open_rerun, rerun
from tests.support.runs import said


@pytest.fixture
async def run(tmp_path: Path) -> str:
    """The path of a log: an entry, and later what its handler waits for."""
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        for topic in ("entry", "other", "ready", "other"):
            await log.append([said(topic)])
    return str(tmp_path / "run.db")


def waiting(
    url: str, *, delay: float | None, most: int | None, needs: str, fails: bool = False
) -> Bus:
    """Return an agent that gives its entries back until it has heard `needs`."""
    bus = Bus(url, source="/agents/waiting")
    heard: list[str] = []

    @bus.subscribe("entry", durable="w", max_deliveries=most)
    async def enter(message: Message) -> None:
        await bus.publish("tried", message.attempt)
        if needs in heard:
            await bus.publish("entered", heard)
        elif fails:
            raise ValueError("not ready")
        else:
            await message.nak(delay)

    @bus.subscribe("ready")
    async def ready(message: Message) -> None:
        heard.append(message.topic)

    return bus


async def entered(run: str, **how: object) -> tuple[Outcome, list[object]]:
    outcome = await asyncio.wait_for(rerun(run, lambda url: waiting(url, **how)), 10)  # pyright: ignore[reportArgumentType]
    return outcome, [o.decode() for o in outcome.outputs if o.topic == "tried"]


@pytest.mark.parametrize("delay", [None, 1e-9])
async def test_without_a_limit_it_comes_again_with_each_record(
    run: str, delay: float | None
) -> None:
    outcome, tries = await entered(run, delay=delay, most=None, needs="ready")
    assert [o.decode() for o in outcome.outputs if o.topic == "entered"] == [["ready"]]
    assert tries == [1, 2, 3, 4]


async def test_what_is_due_behind_the_record_comes_at_its_end(run: str) -> None:
    outcome, tries = await entered(run, delay=3600, most=5, needs="ready")
    assert [o.decode() for o in outcome.outputs if o.topic == "entered"] == [["ready"]]
    assert tries == [1, 2]
    first, second = (o.time_ns for o in outcome.outputs if o.topic == "tried")
    assert first is not None
    assert second == first + 3600 * 1_000_000_000
    _, tries = await entered(run, delay=3600, most=5, needs="nothing")
    assert tries == [1, 2, 3, 4, 5]


async def test_what_fails_comes_again_at_once(run: str) -> None:
    outcome, tries = await entered(run, delay=None, most=3, needs="ready", fails=True)
    assert tries == [1, 2, 3]
    assert len(outcome.failures) == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_without_a_limit_it_is_given_up_at_the_end(
    run: str, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    with caplog.at_level(logging.WARNING, "hms_bus"):
        _, tries = await entered(run, delay=None, most=None, needs="nothing", fails=fails)
    assert tries == [1, 2, 3, 4, 5]
    assert "entry (position 1) was given back to the end of the record, 5 times" in caplog.text


async def test_a_step_delivers_what_still_waits_at_the_end(run: str) -> None:
    settings = ReplaySettings(log=f"sqlite:{run}")

    def build(url: str) -> Bus:
        return waiting(url, delay=3600, most=2, needs="ready")

    async with open_rerun(settings, build) as made:
        played: list[int] = []
        while upcoming := await made.stage.upcoming():
            record = await made.step()
            assert record is not None
            assert record == upcoming[0]
            played.append(record.position)
        assert played == [1, 2, 3, 4, 1]
        assert [output.topic for output in made.outputs] == ["tried", "tried", "entered"]
