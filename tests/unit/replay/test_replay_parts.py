"""Names, settings, pace, breaks and keys: what a replay consists of, without a replay."""

import pytest

from hms_bus import new_envelope
from hms_bus.abc import Record
from hms_bus.cli.replay.breaking import parse_break
from hms_bus.cli.replay.live import RATES, Controls
from hms_bus.errors import ConfigError, UsageError
from hms_bus.plugins import parse_address
from hms_bus.replay.naming import agent_of, derived_id, is_named
from hms_bus.replay.settings import parse_remap, parse_settings, record_url
from hms_bus.replay.stage import Pace


def test_random_digits_of_a_source_are_no_part_of_the_agent() -> None:
    assert agent_of("/agents/shop/0123abcd") == "/agents/shop"
    assert agent_of("/agents/shop") == "/agents/shop"
    assert agent_of("/agents/0123abcde") == "/agents/0123abcde"
    assert agent_of("/0123abcd") == "/0123abcd"


def test_an_agent_is_named_by_its_source_or_the_end_of_it() -> None:
    assert is_named("/agents/shop", frozenset({"shop"}))
    assert is_named("/agents/shop", frozenset({"/agents/shop"}))
    assert not is_named("/agents/shop", frozenset({"hop"}))


def test_a_derived_id_is_a_uuid_that_tells_its_arguments_apart() -> None:
    one = derived_id("/a", "1", 0)
    assert one == derived_id("/a", "1", 0)
    others = {derived_id("/a", "1", 1), derived_id("/a", "2", 0), derived_id("/b", "1", 0)}
    assert len({one, *others}) == 4
    assert [len(part) for part in one.split("-")] == [8, 4, 4, 4, 12]
    assert one[14] == "8"
    assert one[19] in "89ab"


def test_a_url_says_how_to_replay() -> None:
    settings = parse_settings(
        parse_address(
            "replay:///tmp/a%20b.db?first=3&last=9&since=2026-01-31&corr=x&only=a,b"
            "&effects=strict&rate=2x&remap=old:=new&ahead=10&capture=o.jsonl"
        )
    )
    selector = settings.selector
    assert settings.log == "sqlite:/tmp/a%20b.db?readonly=true"
    assert (selector.first, selector.last, selector.correlation) == (3, 9, "x")
    assert selector.since_ns == 1_769_817_600_000_000_000
    assert settings.only == {"a", "b"}
    assert (settings.effects, settings.rate, settings.ahead) == ("strict", 2.0, 10)
    assert (settings.remap, settings.capture) == ({"old": "new"}, "o.jsonl")
    assert parse_settings(parse_address("replay://run.db")).rate is None


def test_a_record_is_opened_for_reading() -> None:
    assert record_url("run.db") == "sqlite:run.db?readonly=true"
    assert record_url("sqlite:run.db?busy=1") == "sqlite:run.db?busy=1&readonly=true"
    assert record_url("memory:run") == "memory:run"


@pytest.mark.parametrize("pair", ["old", "old:=", ":=new", "old=new"])
def test_a_pair_that_renames_nothing_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError):
        parse_remap([pair])


def test_the_record_sets_the_pace() -> None:
    pace = Pace(2.0)
    second = 1_000_000_000
    assert pace.due_in_s(5 * second) == 0
    assert 4 < pace.due_in_s(15 * second) <= 5
    pace.restart()
    assert pace.due_in_s(15 * second) == 0
    assert Pace(None).due_in_s(5 * second) == 0


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("topic == 'orders.new'", True),
        ("data['total'] > 40 and position == 7", True),
        ("data['nothing']", False),
        ("source.startswith('/b')", False),
        ("cause is None and corr", True),
    ],
)
def test_a_break_looks_at_the_record(expression: str, holds: bool) -> None:
    envelope = new_envelope("orders.new", {"total": 42}, source="/a").replace(correlationid="c")
    breaks = parse_break(expression)
    assert breaks is not None
    assert breaks(Record(position=7, recorded_ns=1, envelope=envelope)) is holds


def test_a_break_that_is_no_expression_is_refused() -> None:
    assert parse_break(None) is None
    with pytest.raises(UsageError):
        parse_break("total >")


@pytest.mark.parametrize(
    ("keys", "rate", "state"),
    [
        (b" ", 1, (True, 0, False)),
        (b"  ", 1, (False, 0, False)),
        (b"\x1b[C\x1b[C", 1, (True, 2, False)),
        (b"\x1b[A", 2, (False, 0, False)),
        (b"\x1b[B", 0.5, (False, 0, False)),
        (b"\x1b[A" * 20, None, (False, 0, False)),
        (b"\x1b[B" * 20, RATES[0], (False, 0, False)),
        (b"xyzQ", 1, (False, 0, True)),
    ],
)
async def test_keys_change_what_happens(
    keys: bytes, rate: float | None, state: tuple[bool, int, bool]
) -> None:
    controls = Controls(is_paused=False, rate=1)
    controls.press(keys)
    assert controls.rate == rate
    assert (controls.is_paused, controls.steps, controls.has_ended) == state
    assert controls.changed.is_set()


@pytest.mark.parametrize(("key", "rate"), [(b"\x1b[A", 5), (b"\x1b[B", 2)])
async def test_a_rate_between_goes_to_its_neighbours(key: bytes, rate: float) -> None:
    controls = Controls(is_paused=False, rate=3)
    controls.press(key)
    assert controls.rate == rate
