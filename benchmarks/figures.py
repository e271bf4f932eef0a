"""From seconds to medians, ratios and verdicts."""

import math
from collections.abc import Sequence
from statistics import median, quantiles

from msgspec import Struct

from benchmarks.model import Direction, RaceResult, Target, Timing

BROKEN_BY = 10.0
"""A ratio that misses its target by this factor is no noise and no other machine: it broke."""


class Ratio(Struct, frozen=True, kw_only=True):
    """Ours against one peer: the median of the rounds' ratios, and their quartiles.

    A ratio is taken within a round, between neighbours, so what slows the machine for a while slows
    both sides of it. `direction` says what is divided: speeds (`at least`) or times (`at most`).
    """

    against: str
    direction: Direction
    median: float
    low: float
    high: float
    target: float | None = None

    @property
    def is_reached(self) -> bool | None:
        """Whether the median meets the target; `None` without one."""
        if self.target is None:
            return None
        if self.direction == "at least":
            return self.median >= self.target
        return self.median <= self.target

    @property
    def share(self) -> float | None:
        """How much of the target is reached: 1 is just met, 2 is twice as good."""
        if self.target is None:
            return None
        if self.direction == "at least":
            return self.median / self.target
        return self.target / self.median

    @property
    def is_broken(self) -> bool:
        """Whether the target is missed by so much that it must have a cause."""
        return self.share is not None and self.share < 1 / BROKEN_BY


def per_second(timing: Timing) -> float:
    """Return the median of the rounds' rates."""
    return timing.operations / median(timing.seconds)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper quartile; of a single value, that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def compare(ours: Timing, peer: Timing, target: Target | None = None) -> Ratio:
    """Return the ratio of the two, round by round."""
    direction: Direction = "at least" if target is None else target.direction
    ratios = [
        _ratio(direction, mine * peer.operations, theirs * ours.operations)
        for mine, theirs in zip(ours.seconds, peer.seconds, strict=True)
    ]
    low, high = spread(ratios)
    return Ratio(
        against=peer.name,
        direction=direction,
        median=median(ratios),
        low=low,
        high=high,
        target=None if target is None else target.limit,
    )


def _ratio(direction: Direction, ours: float, theirs: float) -> float:
    return theirs / ours if direction == "at least" else ours / theirs


def ratios(result: RaceResult) -> list[Ratio]:
    """Return our ratio to each peer, in the order of the peers."""
    targets = {target.against: target for target in result.targets}
    return [compare(result.ours, peer, targets.get(peer.name)) for peer in result.peers]


def is_of_order(rate: float, order: float) -> bool:
    """Whether `rate` is at least nearer to `order` than to a tenth of it, on a log scale."""
    return rate >= order / math.sqrt(10)
