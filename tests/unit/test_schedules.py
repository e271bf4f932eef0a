"""When a schedule is due."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hms_bus.attributes import new_envelope
from hms_bus.errors import ConfigError
from hms_bus.schedules import Schedule, load_zone, make_schedule, schedule_topic
from hms_bus.testing.equality import canonical

MESSAGE = new_envelope("reports.daily", {"n": 1}, source="/shop", id="7")
BERLIN = ZoneInfo("Europe/Berlin")


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def utc(*parts: int) -> int:
    return ns(datetime(*parts, tzinfo=UTC))  # pyright: ignore[reportArgumentType]


def berlin(*parts: int) -> int:
    return ns(datetime(*parts, tzinfo=BERLIN))  # pyright: ignore[reportArgumentType]


def cron(text: str, timezone: str = "UTC") -> Schedule:
    return make_schedule(MESSAGE, cron=text, timezone=timezone)


def test_a_schedule_holds_its_message() -> None:
    message = make_schedule(MESSAGE, delay=1).message()
    assert canonical(message) == canonical(MESSAGE)
    octets = MESSAGE.replace(data=b"\x00\xff", datacontenttype="application/octet-stream")
    assert make_schedule(octets, delay=1).message().decode(bytes) == b"\x00\xff"


def test_one_at_a_time_is_due_then_and_never_again() -> None:
    schedule = make_schedule(MESSAGE, at="2026-03-01T10:00:00Z")
    due = utc(2026, 3, 1, 10)
    assert schedule.last_due_ns(0, due - 1) is None
    assert schedule.next_due_ns(due - 1) == due
    assert schedule.last_due_ns(0, due) == due
    assert schedule.next_due_ns(due) is None


def test_a_time_may_be_a_datetime_of_any_zone() -> None:
    moment = datetime(2026, 3, 1, 11, tzinfo=BERLIN)
    assert make_schedule(MESSAGE, at=moment).at == "2026-03-01T10:00:00.000000Z"


def test_a_delay_counts_from_now() -> None:
    before = datetime.now(UTC) + timedelta(hours=1, seconds=-1)
    at = make_schedule(MESSAGE, delay="1h").at
    assert at is not None
    assert before < datetime.fromisoformat(at) < before + timedelta(seconds=60)


def test_cron_is_due_at_each_of_its_times() -> None:
    schedule = cron("30 9 * * MON-FRI")
    friday, monday = utc(2026, 3, 6, 9, 30), utc(2026, 3, 9, 9, 30)
    assert schedule.next_due_ns(friday - 1) == friday
    assert schedule.next_due_ns(friday) == monday
    made = utc(2026, 3, 2)
    assert schedule.last_due_ns(made, friday) == friday
    assert schedule.last_due_ns(made, monday - 1) == friday
    assert schedule.last_due_ns(made, monday) == monday


def test_what_was_due_before_it_was_made_is_not_sent() -> None:
    schedule = cron("0 * * * *")
    made = utc(2026, 3, 6, 9, 30)
    assert schedule.last_due_ns(made, utc(2026, 3, 6, 9, 59)) is None
    assert schedule.last_due_ns(made, utc(2026, 3, 6, 10)) == utc(2026, 3, 6, 10)


def test_of_the_times_that_nobody_was_there_for_the_last_counts() -> None:
    schedule = cron("0 * * * *")
    assert schedule.last_due_ns(utc(2026, 3, 6), utc(2026, 3, 8, 7, 45)) == utc(2026, 3, 8, 7)


def test_cron_goes_by_the_clock_of_its_zone() -> None:
    schedule = cron("0 9 * * *", "Europe/Berlin")
    assert schedule.next_due_ns(utc(2026, 1, 15)) == utc(2026, 1, 15, 8)
    assert schedule.next_due_ns(utc(2026, 7, 15)) == utc(2026, 7, 15, 7)


def test_an_hour_that_is_skipped_or_comes_twice_is_due_once() -> None:
    # In 2026 the clock goes from 2:00 to 3:00 on 29 March, and from 3:00 to 2:00 on 25 October.
    schedule = cron("30 2 * * *", "Europe/Berlin")
    for day in (datetime(2026, 3, 28, tzinfo=BERLIN), datetime(2026, 10, 24, tzinfo=BERLIN)):
        at = ns(day + timedelta(hours=12))
        due: list[int] = []
        for _ in range(3):
            following = schedule.next_due_ns(at)
            assert following is not None
            assert following > at
            due.append(following)
            at = following
        dates = [datetime.fromtimestamp(each / 1e9, BERLIN).date() for each in due]
        assert len(set(dates)) == 3
        assert schedule.last_due_ns(ns(day), due[1]) == due[1]


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "a b c d e", "0 0 30 2 *"])
def test_what_is_no_cron_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        cron(text)


@pytest.mark.parametrize("name", ["a.b", "", "a b", ">", "*", "{x}", "x" * 300])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name of a schedule"):
        schedule_topic(name)


@pytest.mark.parametrize("name", ["Middle/Earth", "", "../etc/passwd", "/etc/passwd"])
async def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no time zone"):
        await load_zone(name)
