"""Medians, ratios and verdicts of known seconds."""

import pytest

from benchmarks.figures import compare, is_of_order, per_second, ratios, spread
from benchmarks.model import RaceResult, Target, Timing


def timing(*seconds: float, name: str = "hms-bus", operations: int = 100) -> Timing:
    return Timing(name=name, operations=operations, seconds=seconds)


def test_the_rate_is_that_of_the_median_round() -> None:
    assert per_second(timing(0.5, 0.1, 0.2)) == 500


def test_a_ratio_of_speeds_says_how_many_times_faster_we_are() -> None:
    ratio = compare(timing(1.0), timing(4.0, name="peer"))
    assert ratio.median == 4


def test_a_ratio_of_times_says_how_many_times_longer_we_take() -> None:
    target = Target(against="peer", limit=1.5, direction="at most")
    assert compare(timing(3.0), timing(2.0, name="peer"), target).median == 1.5


def test_contenders_are_compared_per_operation() -> None:
    ours, peer = timing(1.0, operations=1000), timing(1.0, name="peer", operations=10)
    assert compare(ours, peer).median == 100


def test_a_round_that_was_slow_for_both_does_not_change_the_ratio() -> None:
    ours, peer = timing(1.0, 5.0, 1.0), timing(2.0, 10.0, 2.0, name="peer")
    ratio = compare(ours, peer)
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 2)


def test_one_outlier_among_the_rounds_does_not_move_the_median() -> None:
    ours, peer = timing(1.0, 9.0, 1.0), timing(2.0, 2.0, 2.0, name="peer")
    assert compare(ours, peer).median == 2


def test_quartiles_enclose_the_middle_half() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (2, 4)


def test_a_single_round_has_no_spread() -> None:
    assert spread([7.0]) == (7, 7)


@pytest.mark.parametrize(("theirs", "reached"), [(2.0, True), (1.5, True), (1.4, False)])
def test_a_speed_must_be_at_least_its_target(theirs: float, reached: bool) -> None:
    target = Target(against="peer", limit=1.5)
    assert compare(timing(1.0), timing(theirs, name="peer"), target).is_reached is reached


@pytest.mark.parametrize(("ours", "reached"), [(1.0, True), (1.5, True), (1.6, False)])
def test_a_time_must_be_at_most_its_target(ours: float, reached: bool) -> None:
    target = Target(against="peer", limit=1.5, direction="at most")
    assert compare(timing(ours), timing(1.0, name="peer"), target).is_reached is reached


def test_without_a_target_there_is_no_verdict() -> None:
    ratio = compare(timing(1.0), timing(100.0, name="peer"))
    assert ratio.is_reached is None
    assert ratio.share is None
    assert not ratio.is_broken


def test_the_share_of_a_target_grows_with_how_good_we_are() -> None:
    faster = Target(against="peer", limit=2.0)
    shorter = Target(against="peer", limit=1.5, direction="at most")
    peer = timing(1.0, name="peer")
    assert compare(timing(0.25), peer, faster).share == 2
    assert compare(timing(3.0), peer, shorter).share == 0.5


def test_only_a_miss_by_a_factor_counts_as_broken() -> None:
    target = Target(against="peer", limit=80.0)
    assert not compare(timing(1.0), timing(10.0, name="peer"), target).is_broken
    assert compare(timing(1.0), timing(7.0, name="peer"), target).is_broken


def test_each_peer_is_held_to_its_own_target() -> None:
    result = RaceResult(
        name="race",
        title="a race",
        unit="messages",
        ours=timing(1.0),
        peers=(timing(2.0, name="one"), timing(3.0, name="other")),
        targets=(Target(against="other", limit=4.0),),
        order_of_magnitude=None,
    )
    one, other = ratios(result)
    assert (one.against, one.target, one.is_reached) == ("one", None, None)
    assert (other.against, other.target, other.is_reached) == ("other", 4.0, False)


def test_an_order_of_magnitude_is_the_nearest_power_on_a_log_scale() -> None:
    assert is_of_order(400_000, 100_000)
    assert is_of_order(32_000, 100_000)
    assert not is_of_order(31_000, 100_000)
