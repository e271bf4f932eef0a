"""Running races: everybody is warmed up, then all take turns, round after round."""

import gc
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from msgspec import Struct

from benchmarks.model import (
    Absent,
    Contender,
    Gauge,
    GaugeResult,
    PeerMissingError,
    Race,
    RaceResult,
    Result,
    Row,
    Run,
    Timing,
)

_PROBE_SHARE = 0.25
"""The part of a round that a probe must fill before its rate is trusted."""


class Effort(Struct, frozen=True, kw_only=True):
    """How long to measure: `rounds` of about `round_s` seconds for each contender.

    When it `is_short`, gauges that have something shorter measure that (`Gauge.in_short`).
    """

    rounds: int
    round_s: float
    is_short: bool = False


FULL = Effort(rounds=15, round_s=0.35)
SHORT = Effort(rounds=3, round_s=0.08, is_short=True)


def timed(work: Callable[[int], Awaitable[None]]) -> Run:
    """Return a `Run` that takes the time of `work` and of nothing else."""

    async def run(operations: int) -> float:
        started = time.perf_counter()
        await work(operations)
        return time.perf_counter() - started

    return run


async def measure(row: Row, effort: Effort) -> Result:
    """Measure one row."""
    if isinstance(row, Gauge):
        shorter = row.in_short if effort.is_short else None
        return await _gauge(shorter or row, effort)
    return await _race(row, effort)


async def _gauge(gauge: Gauge, effort: Effort) -> GaugeResult:
    rounds = min(gauge.rounds, effort.rounds)
    return GaugeResult(
        name=gauge.name,
        title=gauge.title,
        unit=gauge.unit,
        values=tuple([await gauge.measure() for _ in range(rounds)]),
        at_most=gauge.at_most,
    )


async def _race(race: Race, effort: Effort) -> RaceResult:
    absent: list[Absent] = []
    async with AsyncExitStack() as stack:
        contenders = [race.ours]
        runs = [await stack.enter_async_context(race.ours.open())]
        for peer in race.peers:
            try:
                runs.append(await stack.enter_async_context(peer.open()))
            except PeerMissingError as error:
                absent.append(Absent(name=peer.name, reason=str(error)))
            else:
                contenders.append(peer)
        sizes = [
            await _size(run, contender, race, effort)
            for run, contender in zip(runs, contenders, strict=True)
        ]
        seconds = await take_turns(runs, sizes, rounds=effort.rounds)
    ours, *peers = (
        Timing(name=contender.name, operations=size, seconds=tuple(times))
        for contender, size, times in zip(contenders, sizes, seconds, strict=True)
    )
    return RaceResult(
        name=race.name,
        title=race.title,
        unit=race.unit,
        ours=ours,
        peers=tuple(peers),
        targets=race.targets,
        order_of_magnitude=race.order_of_magnitude,
        at_least=race.at_least,
        each=race.each,
        absent=tuple(absent),
    )


async def _size(run: Run, contender: Contender, race: Race, effort: Effort) -> int:
    if race.operations is None:
        return await calibrate(run, step=contender.step, round_s=effort.round_s)
    await run(race.operations)
    return race.operations


async def calibrate(run: Run, *, step: int, round_s: float) -> int:
    """Return how many operations fill `round_s`, a multiple of `step`. Warms up on the way."""
    operations = step
    while (seconds := await run(operations)) < round_s * _PROBE_SHARE:
        operations *= 4
    return step * max(1, math.ceil(operations * round_s / seconds / step))


async def take_turns(
    runs: Sequence[Run], sizes: Sequence[int], *, rounds: int
) -> list[list[float]]:
    """Return the seconds of each round, per run.

    Within a round all run, one after the other; every second round in reverse, so that a machine
    that gets slower or faster favours nobody. The collector starts each of them with nothing to do.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    order = list(range(len(runs)))
    for _ in range(rounds):
        for index in order:
            gc.collect()
            seconds[index].append(await runs[index](sizes[index]))
        order.reverse()
    return seconds
