"""Lengths and points of time as people write them: `2`, `"500ms"`, `"1h30m"`, `timedelta`."""

import re
import time
from datetime import UTC, datetime, timedelta

from hms_bus.errors import ConfigError
from hms_bus.ids import parse_time

Duration = float | str | timedelta
"""A length of time: seconds, or text such as `1h30m`, `2.5s`, `500ms`, or a timedelta."""

Moment = datetime | Duration
"""A point of time: an aware datetime, RFC 3339 text, or a duration before now."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")

_MAX_DURATION_S = 1000 * 366 * 86_400.0
"""Longer ones would leave the years that a timestamp can name."""


def parse_duration(value: Duration) -> float:
    """Return `value` in seconds.

    Raises `ConfigError` for text that is no duration, and for one that is negative, not a number
    or longer than a thousand years.
    """
    seconds = _seconds(value)
    if not 0 <= seconds <= _MAX_DURATION_S:
        raise ConfigError(f"{value!r} is no duration from 0 seconds to 1000 years")
    return seconds


def _seconds(value: Duration) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return float(value)
    if _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    try:
        return float(value)
    except ValueError:
        raise ConfigError(
            f"{value!r} is no duration: write seconds, or 500ms, 2.5s, 1h30m, 7d"
        ) from None


def parse_moment(value: Moment) -> int:
    """Return `value` in nanoseconds since 1970; a duration counts back from now.

    Raises `ConfigError` for text that is neither, and for a datetime without a time zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigError(f"{value} has no time zone: use datetime.now(UTC) or .astimezone()")
        micros = (value - _EPOCH) // timedelta(microseconds=1)
        return micros * 1000
    if isinstance(value, str) and "-" in value:
        try:
            return parse_time(f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value)
        except (ValueError, OverflowError) as error:
            # A cause says what is wrong with text of the right form.
            hint = "" if error.__cause__ else ", no date (2026-01-31) and no duration (1h)"
            raise ConfigError(f"{error}{hint}") from error
    return time.time_ns() - round(parse_duration(value) * 1e9)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
