"""`effect`: what is not deterministic comes from the record, with the values that it had."""

import math
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from msgspec import Struct

from hms_bus import Bus, Envelope, effect
from hms_bus.bus import context
from hms_bus.errors import (
    DecodeError,
    EffectError,
)
from hms_bus.plugins import open_log
from hms_bus.replay import ReplaySettings, open_rerun, rerun
from hms_bus.replay.events import EFFECT, EffectBody
from tests.support import runs


async def test_the_clock_and_chance_are_replayed(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'run.db'}"

    def gambler(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/gambler")

        @bus.subscribe("play")
        async def play() -> None:
            drawn = [(await effect.now()).isoformat(), await effect.random(), await effect.uuid()]
            await bus.publish("drawn", drawn)

        return bus

    async with (
        gambler("direct://casino", log),
        Bus("direct://casino", log=log, source="/desk") as desk,
        desk.subscribe("drawn") as drawn,
    ):
        await desk.publish("play")
        original = (await anext(drawn)).data
    outcome = await rerun(str(tmp_path / "run.db"), gambler, effects="strict")
    assert runs.payloads_on(outcome.outputs, "drawn") == [original]
    unrecorded = await rerun(str(tmp_path / "run.db"), gambler, effects="live")
    assert runs.payloads_on(unrecorded.outputs, "drawn") != [original]


class OddError(Exception):
    """Takes more than a text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("raised", "replayed"),
    [(ValueError("so it is"), ValueError), (OddError(1, 2), EffectError)],
    ids=["built-in", "foreign"],
)
async def test_what_an_effect_raised_is_raised_again(
    raised: Exception, replayed: type[Exception], tmp_path: Path
) -> None:
    log = f"sqlite:{tmp_path / 'run.db'}"
    failed: list[Exception] = []

    def failing(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/failing")

        def fail() -> None:
            raise raised

        @bus.subscribe("try")
        async def attempt() -> None:
            try:
                await effect("tool.fail", fail)
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                failed.append(error)
                await bus.publish("failed", str(error))

        return bus

    async with (
        failing("direct://failing", log),
        Bus("direct://failing", log=log, source="/desk") as desk,
        desk.subscribe("failed") as news,
    ):
        await desk.publish("try")
        await anext(news)
    await rerun(str(tmp_path / "run.db"), failing, effects="strict")
    assert [type(error) for error in failed] == [type(raised), replayed]
    assert str(raised) in str(failed[1])


async def test_without_a_handler_or_a_log_an_effect_just_runs() -> None:
    assert await effect("sum", sum, [1, 2]) == 3
    seen: list[int] = []
    async with Bus("direct://", source="/agents/plain") as bus:

        @bus.subscribe("add")
        async def add(numbers: list[int]) -> None:
            assert context.running.get() is not None
            seen.append(await effect("sum", sum, numbers))

        await bus.publish("add", [3, 4])
    assert seen == [7]


@pytest.mark.parametrize("rate", [None, 36_000.0], ids=["at-once", "scaled"])
async def test_an_agent_waits_at_the_speed_of_the_replay(
    rate: float | None, tmp_path: Path
) -> None:
    def sleeper(url: str) -> Bus:
        bus = Bus(url, source="/agents/sleeper")

        @bus.subscribe("wait")
        async def wait(duration: str) -> None:
            await effect.sleep(duration)
            await bus.publish("awake", duration)

        return bus

    log = f"sqlite:{tmp_path / 'run.db'}"
    async with sleeper("direct://wait"), Bus("direct://wait", log=log, source="/desk") as desk:
        async with desk.subscribe("awake") as news:
            await desk.publish("wait", "1ms")
            assert (await anext(news)).data == "1ms"
        await desk.publish("nap", "1h")
    remap = {"nap": "wait"}
    async with open_rerun(ReplaySettings(log=log, rate=rate, remap=remap), sleeper) as running:
        await running.play()
        assert [output.decode(str) for output in running.take_outputs()] == ["1ms", "1h"]


async def recorded_use(using: Callable[..., Bus], tmp_path: Path) -> str:
    """Let the agent use its tool once; return the path of the record."""
    log = f"sqlite:{tmp_path / 'run.db'}"
    async with (
        using("direct://using", log),
        Bus("direct://using", log=log, source="/desk") as desk,
        desk.subscribe("used") as used,
    ):
        await desk.publish("use")
        await anext(used)
    return str(tmp_path / "run.db")


class Point(Struct, frozen=True):
    """What a function may return."""

    x: int


def a_point() -> Point:
    return Point(1)


def some_points() -> set[int]:
    return {1}


def some_octets() -> bytes:
    return b"bytes"


async def now_or_later(value: Any) -> Any:
    return value


def a_promise() -> Awaitable[str]:
    return now_or_later("text")


def a_promise_of_points() -> Coroutine[Any, Any, list[Point]]:
    return now_or_later([Point(1)])


def something_else() -> int:
    return cast("int", "no number")


def no_number() -> float:
    return math.nan


def iterated() -> Iterable[str]:
    return ["a"]


class Place(Struct, frozen=True):
    """Another class that msgspec cannot tell from a `Point`."""

    x: int


def one_of_two() -> Point | Place:
    return Point(1)


class HasX(Protocol):
    """What a class may look like; nothing can be built of it."""

    @property
    def x(self) -> int: ...


def only_described() -> HasX:
    return Point(1)


@pytest.mark.parametrize(
    ("fn", "returned"),
    [
        (lambda: {"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
        (lambda: {1}, [1]),
        (lambda: (1, 2), [1, 2]),
        (lambda: Point(1), {"x": 1}),
        (lambda: {1: "one"}, {"1": "one"}),
        (lambda: math.nan, None),
        (lambda: b"bytes", "Ynl0ZXM="),
        (a_point, Point(1)),
        (some_points, {1}),
        (some_octets, b"bytes"),
        (a_promise, "text"),
        (a_promise_of_points, [Point(1)]),
        (something_else, "no number"),
        (no_number, None),
        (iterated, ["a"]),
        (one_of_two, {"x": 1}),
        (only_described, {"x": 1}),
    ],
)
async def test_an_effect_returns_what_its_record_holds_also_when_it_runs(
    fn: Callable[[], object], returned: object, tmp_path: Path
) -> None:
    results: list[object] = []

    def using(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/using")

        @bus.subscribe("use")
        async def use() -> None:
            results.append(await effect("tool", fn))
            await bus.publish("used")

        return bus

    run = await recorded_use(using, tmp_path)
    for effects in ("strict", "live"):
        await rerun(run, using, effects=effects)
    assert results == [returned] * 3
    assert {type(result) for result in results} == {type(returned)}


async def test_a_recorded_result_that_a_changed_function_would_not_return_is_refused(
    tmp_path: Path,
) -> None:
    def using(url: str, log: str | None = None, fn: Callable[[], object] = a_point) -> Bus:
        bus = Bus(url, log=log, source="/agents/using")

        @bus.subscribe("use")
        async def use() -> None:
            await effect("tool", fn)
            await bus.publish("used")

        return bus

    run = await recorded_use(using, tmp_path)
    outcome = await rerun(run, lambda url: using(url, fn=something_else))
    [failure] = outcome.failures
    assert isinstance(failure.error, DecodeError)
    assert "Expected `int`" in str(failure.error)


async def test_of_an_effect_that_was_run_by_two_processes_the_last_counts(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'run.db'}"
    word = runs.said("word", "hello", by="/desk")
    async with open_log(log) as opened:
        await opened.append([word])
        for draw in (1, 2):  # the first one died before it had said anything
            await opened.append([drawn(word, draw)])
        await opened.append([runs.said("drawn", 2, by="/agents/drawer", cause=word)])

    def drawer(url: str) -> Bus:
        bus = Bus(url, source="/agents/drawer")

        @bus.subscribe("word")
        async def draw() -> None:
            await bus.publish("drawn", await effect("draw", lambda: 3))

        return bus

    outcome = await rerun(str(tmp_path / "run.db"), drawer, effects="strict")
    assert [output.decode() for output in outcome.outputs] == [2]


def drawn(word: Envelope, value: int) -> Envelope:
    body = EffectBody(value=value)
    made = runs.said("a", body, by="/agents/drawer", cause=word)
    return made.replace(topic="$effect.draw", type=EFFECT, sequence=f"{0:010d}")
