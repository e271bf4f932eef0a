"""Turns, calibration and rounds, with contenders whose time is made up."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from benchmarks.measuring import Effort, calibrate, measure, take_turns, timed
from benchmarks.model import (
    Absent,
    Contender,
    Gauge,
    GaugeResult,
    PeerMissingError,
    Race,
    RaceResult,
    Run,
    Target,
)

EFFORT = Effort(rounds=3, round_s=1.0)


class Machine:
    """Notes who ran how much, and lets an operation of each take as long as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.open: set[str] = set()

    def runner(self, name: str, seconds_each: float) -> Run:
        async def run(operations: int) -> float:
            self.calls.append((name, operations))
            return operations * seconds_each

        return run

    def contender(self, name: str, seconds_each: float, *, step: int = 1) -> Contender:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[Run]:
            self.open.add(name)
            yield self.runner(name, seconds_each)
            self.open.remove(name)

        return Contender(name=name, open=opened, step=step)

    def race(self, *, operations: int | None = None) -> Race:
        return Race(
            name="race",
            title="a race",
            unit="messages",
            ours=self.contender("hms-bus", 0.001),
            peers=(self.contender("peer", 0.01),),
            targets=(Target(against="peer", limit=5.0),),
            operations=operations,
        )


async def test_a_fast_contender_gets_as_many_operations_as_fill_the_round() -> None:
    assert await calibrate(Machine().runner("fast", 0.001), step=1, round_s=0.5) == 500


async def test_operations_are_a_multiple_of_the_step() -> None:
    assert await calibrate(Machine().runner("batches", 0.001), step=64, round_s=0.5) == 512


async def test_a_contender_slower_than_a_round_does_one_step() -> None:
    assert await calibrate(Machine().runner("slow", 9.0), step=1, round_s=0.5) == 1


async def test_all_take_turns_and_every_second_round_is_reversed() -> None:
    machine = Machine()
    runs = [machine.runner(name, 1.0) for name in ("a", "b", "c")]
    seconds = await take_turns(runs, [1, 2, 3], rounds=2)
    assert [name for name, _ in machine.calls] == ["a", "b", "c", "c", "b", "a"]
    assert seconds == [[1, 1], [2, 2], [3, 3]]


async def test_a_race_gives_as_many_rounds_to_each_of_the_contenders() -> None:
    machine = Machine()
    result = await measure(machine.race(), EFFORT)
    assert isinstance(result, RaceResult)
    assert (result.ours.operations, len(result.ours.seconds)) == (1000, 3)
    assert [(peer.name, peer.operations, len(peer.seconds)) for peer in result.peers] == [
        ("peer", 100, 3)
    ]
    assert machine.open == set()


async def test_fixed_operations_are_the_same_for_everybody() -> None:
    machine = Machine()
    result = await measure(machine.race(operations=7), EFFORT)
    assert isinstance(result, RaceResult)
    assert {operations for _, operations in machine.calls} == {7}


async def test_everybody_is_warmed_up_before_the_first_round() -> None:
    machine = Machine()
    await measure(machine.race(operations=7), EFFORT)
    assert [name for name, _ in machine.calls[:3]] == ["hms-bus", "peer", "hms-bus"]


async def test_a_gauge_is_read_no_more_often_than_it_asks_for() -> None:
    values = iter([3.0, 1.0, 2.0])

    async def read() -> float:
        return next(values)

    gauge = Gauge(name="gauge", title="a gauge", unit="ms", measure=read, rounds=2)
    result = await measure(gauge, EFFORT)
    assert isinstance(result, GaugeResult)
    assert result.values == (3.0, 1.0)


async def test_only_a_short_run_measures_what_is_there_for_short_runs() -> None:
    async def all_of_it() -> float:
        return 5.0

    async def a_part() -> float:
        return 2.0

    part = Gauge(name="gauge", title="2 of it", unit="s", measure=a_part)
    gauge = Gauge(name="gauge", title="5 of it", unit="s", measure=all_of_it, in_short=part)
    short = msgspec.structs.replace(EFFORT, is_short=True)
    found = [await measure(gauge, EFFORT), await measure(gauge, short), await measure(part, short)]
    titles = [(result.title, result.values) for result in found if isinstance(result, GaugeResult)]
    assert titles == [("5 of it", (5.0,)), ("2 of it", (2.0,)), ("2 of it", (2.0,))]


async def test_a_result_keeps_the_goals_of_its_race() -> None:
    race = msgspec.structs.replace(
        Machine().race(), order_of_magnitude=1e3, at_least=50_000.0, each="median"
    )
    result = await measure(race, EFFORT)
    assert isinstance(result, RaceResult)
    assert (result.order_of_magnitude, result.at_least, result.each) == (1e3, 50_000.0, "median")
    assert result.targets == race.targets


async def test_timed_passes_the_operations_on_and_returns_seconds() -> None:
    asked: list[int] = []

    async def work(operations: int) -> None:
        asked.append(operations)

    assert await timed(work)(12) >= 0
    assert asked == [12]


async def test_a_peer_that_is_not_there_is_named_and_the_others_run() -> None:
    @asynccontextmanager
    async def missing() -> AsyncGenerator[Run]:
        raise PeerMissingError("no such program")
        yield  # so that it is a generator

    machine = Machine()
    peers = (Contender(name="absent", open=missing), machine.contender("present", 0.001))
    result = await measure(msgspec.structs.replace(machine.race(), peers=peers), EFFORT)
    assert isinstance(result, RaceResult)
    assert [peer.name for peer in result.peers] == ["present"]
    assert result.absent == (Absent(name="absent", reason="no such program"),)
