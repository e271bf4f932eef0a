"""Lengths and points of time as people write them."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.durations import Duration, Moment, parse_duration, parse_moment
from hms_bus.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (2, 2.0),
        (0, 0.0),
        (0.25, 0.25),
        ("2", 2.0),
        ("1e-3", 0.001),
        ("500ms", 0.5),
        ("2.5s", 2.5),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1d", 86_400.0),
        ("2w", 1_209_600.0),
        ("1m500ms", 60.5),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read(written: Duration, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "soon", "1x", "1h 30m", "h", "-1s", "1.s", "٣s", -1, -0.001, timedelta(seconds=-1)],
)
def test_what_is_no_duration_is_refused(written: Duration) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        parse_duration(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), "nan", "inf", "1e300", "99999w"])
def test_a_duration_that_no_timestamp_can_reach_is_refused(written: Duration) -> None:
    with pytest.raises(ConfigError, match="1000 years"):
        parse_duration(written)


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_a_number_and_its_text_are_the_same_duration(seconds: float) -> None:
    assert parse_duration(repr(seconds)) == parse_duration(seconds) == seconds


@pytest.mark.parametrize(
    ("written", "time_ns"),
    [
        (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 10**9),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
        (datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC), 1_769_860_800_123_456_000),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000_000),
        ("2026-01-31T12:00:00.123456789+00:00", 1_769_860_800_123_456_789),
        ("2026-01-31t13:00:00+01:00", 1_769_860_800_000_000_000),
        ("2026-01-31", 1_769_817_600_000_000_000),
        ("1969-12-31T23:59:59Z", -(10**9)),
    ],
)
def test_a_moment_is_read(written: Moment, time_ns: int) -> None:
    assert parse_moment(written) == time_ns


@pytest.mark.parametrize("written", [3600, "1h", timedelta(hours=1)])
def test_a_duration_as_a_moment_counts_back_from_now(written: Moment) -> None:
    before = time.time_ns()
    moment = parse_moment(written)
    after = time.time_ns()
    assert before <= moment + 3_600_000_000_000 <= after


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        parse_moment(datetime(2026, 1, 31))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    "written", ["2026-13-01", "2026-01-31T12:00:00", "yesterday", "0000-01-01", "-1h", "now-1h"]
)
def test_what_is_no_moment_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match=written):
        parse_moment(written)
