"""Ids and timestamps: unique and increasing whatever the clock, the threads and forks do."""

import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, count, repeat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hms_bus import ids
from hms_bus.ids import Stamper, format_time, is_stamped_time, parse_time, stamp, to_moment
from tests.support.envelopes import times, times_ns

NOON_NS = 1_769_860_800_000_000_000  # 2026-01-31T12:00:00Z
MS_NS = 1_000_000
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def clock(readings: Iterator[int]) -> Callable[[], int]:
    return readings.__next__


def milliseconds_of(text: str) -> int:
    return uuid.UUID(text).int >> 80


# -- ids -----------------------------------------------------------------------------------------


def test_a_stamp_is_a_uuid7_and_the_time_of_one_clock_reading() -> None:
    stamper = Stamper(clock(repeat(NOON_NS + 123_456_789)))
    identity, time = stamper.stamp()
    assert UUID7.fullmatch(identity)
    assert uuid.UUID(identity).version == 7
    assert uuid.UUID(identity).variant == uuid.RFC_4122
    assert milliseconds_of(identity) == NOON_NS // MS_NS + 123
    assert time == "2026-01-31T12:00:00.123456Z"


def test_the_time_is_now() -> None:
    before = datetime.now(UTC) - timedelta(microseconds=1)
    time = to_moment(parse_time(stamp()[1]))
    assert before <= time <= datetime.now(UTC)


def test_ids_of_one_millisecond_increase_until_its_counter_is_used_up_and_on() -> None:
    stamper = Stamper(clock(repeat(NOON_NS)))
    made = [stamper.stamp()[0] for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {milliseconds_of(text) - NOON_NS // MS_NS for text in made} == {0, 1, 2}


def test_a_timestamp_does_not_run_ahead_with_its_id() -> None:
    stamper = Stamper(clock(repeat(NOON_NS)))
    assert {stamper.stamp()[1] for _ in range(10_000)} == {"2026-01-31T12:00:00.000000Z"}


def test_ids_increase_when_the_clock_runs_backwards() -> None:
    stamper = Stamper(clock(count(NOON_NS, -MS_NS // 3)))
    made = [stamper.stamp() for _ in range(1000)]
    identities = [identity for identity, _ in made]
    assert identities == sorted(set(identities))
    times_made = [time for _, time in made]
    assert times_made == sorted(times_made, reverse=True)


def test_ids_increase_when_the_clock_jumps_back_and_forth() -> None:
    jumps = (0, 5, -3, 5, 100, -1_000_000, 7, 7, 0)
    readings = (NOON_NS + jump * MS_NS for _ in range(200) for jump in jumps)
    stamper = Stamper(clock(chain(readings, repeat(NOON_NS))))
    made = [stamper.stamp()[0] for _ in range(800)]
    assert made == sorted(set(made))


def test_random_bits_are_drawn_anew_for_each_millisecond() -> None:
    stamper = Stamper(clock(count(NOON_NS, MS_NS // 2)))
    made = [stamper.stamp()[0] for _ in range(100)]
    assert len({text[-12:] for text in made}) > 40


def test_threads_never_get_the_same_id_and_each_gets_increasing_ones() -> None:
    stamper = Stamper()
    made: list[list[str]] = [[] for _ in range(8)]
    barrier = threading.Barrier(len(made))

    def run(mine: list[str]) -> None:
        barrier.wait()
        mine.extend(stamper.stamp()[0] for _ in range(5000))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len(set(chain.from_iterable(made))) == 40_000


def test_a_fresh_millisecond_that_another_thread_has_entered_is_used() -> None:
    stamper = Stamper(clock(repeat(NOON_NS)))
    spent = stamper._tick
    first = stamper.stamp()[0]
    late = stamper._stamp_anew(spent)[0]
    assert milliseconds_of(late) == milliseconds_of(first)
    assert late > first


def test_a_forked_child_makes_ids_of_its_own() -> None:
    stamp()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, stamp()[0].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs, ours = os.read(reader, 36).decode(), stamp()[0]
    os.close(reader)
    os.close(writer)
    assert UUID7.fullmatch(theirs)
    assert theirs[-12:] != ours[-12:]


# -- times ---------------------------------------------------------------------------------------


@given(time_ns=times_ns)
@example(time_ns=0)
@example(time_ns=-1)
@example(time_ns=-62_135_596_800 * 10**9)
@example(time_ns=253_402_300_799 * 10**9 + 999_999_999)
def test_parse_time_is_the_inverse_of_format_time(time_ns: int) -> None:
    text = format_time(time_ns)
    assert parse_time(text) == time_ns
    assert text.endswith("Z")
    assert len(text) in {27, 30}


@given(text=times())
def test_parse_time_agrees_with_datetime(text: str) -> None:
    moment = datetime.fromisoformat(text.upper())
    assert to_moment(parse_time(text)) == moment


@pytest.mark.parametrize("time_ns", [253_402_300_800 * 10**9, -62_135_596_801 * 10**9, 10**40])
def test_format_time_refuses_years_out_of_reach(time_ns: int) -> None:
    with pytest.raises(OverflowError):
        format_time(time_ns)


def test_a_leap_second_is_the_second_behind_it() -> None:
    assert parse_time("2016-12-31T23:59:60.5Z") == parse_time("2017-01-01T00:00:00.5Z")
    assert parse_time("2017-01-01T00:59:60+01:00") == parse_time("2017-01-01T00:00:00Z")


def test_digits_past_the_ninth_are_cut() -> None:
    assert parse_time("1970-01-01T00:00:00.1234567899Z") == 123_456_789


BASE = "2026-11-20T22:57:39.849073Z"


@st.composite
def nearly_times(draw: st.DrawFn) -> str:
    text = list(BASE)
    for _ in range(draw(st.integers(0, 6))):
        text[draw(st.integers(0, 26))] = draw(st.sampled_from("0123456789-:.,TZW+tz ٣"))
    return "".join(text)


def is_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


@given(text=nearly_times())
@example(text="2026-W47-5T22:57:39.849073Z")
@example(text="2026-11-20T24:00:00.000000Z")
@example(text="2026-11-20T2257398490.3040Z")
@example(text="2026-11-20T22:57:39.84+0730Z"[:27])
@example(text="0000-11-20T22:57:39.849073Z")
@example(text="2023-02-29T22:57:39.849073Z")
def test_a_stamped_time_is_a_time_in_the_form_that_stamp_gives(text: str) -> None:
    shape = re.fullmatch(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\.[0-9]{6}Z", text)
    leaps = text[17:19] == "60"
    assert is_stamped_time(text) == (shape is not None and not leaps and is_time(text))


@pytest.mark.parametrize("text", ["", "Z", BASE[:-1], BASE + "Z", BASE.lower(), "x" * 27])
def test_another_form_is_no_stamped_time(text: str) -> None:
    assert not is_stamped_time(text)


def test_every_stamp_is_in_the_form_of_a_stamp() -> None:
    assert all(is_stamped_time(ids.stamp()[1]) for _ in range(1000))
