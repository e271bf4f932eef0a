"""`--break EXPR`: when it holds, what it may speak of, and that failures are counted."""

from typing import Any

import pytest

from hms_bus import Record
from hms_bus.cli.replay.breaking import Break, parse_break
from hms_bus.errors import UsageError
from tests.support.runs import recorded, said


def parsed(expression: str) -> Break:
    found = parse_break(expression)
    assert found is not None
    return found


def record(data: Any) -> Record:
    [found] = recorded([said("order", data, by="/shop")])
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "topic == 'order' and source == '/shop' and position == 1",
        "any(item['n'] == data['total'] for item in data['items'])",
        "[data for _ in '1'][0]['total'] == 3",
        "sorted(data['items'], key=lambda item: -item['n'])[0]['n'] == 3",
        "(total := data['total']) and total == 3",
        "corr is None and cause is None and id and type",
    ],
)
def test_an_expression_is_python(expression: str) -> None:
    assert parsed(expression)(record({"total": 3, "items": [{"n": 1}, {"n": 3}]}))


@pytest.mark.parametrize("expression", ["topik == 'x'", "any(x == totl for x in data)", "no way"])
def test_what_says_nothing_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="--break"):
        parse_break(expression)


def test_a_record_for_which_it_fails_is_counted_once() -> None:
    breaks = parsed("data['zz'] > 1")
    first, second = recorded([said("a", {"zz": 0}), said("b", {})])
    assert [breaks(each) for each in (first, second, second)] == [False, False, False]
    assert breaks.take_failures() == "for 1 record: KeyError: 'zz'"
    assert breaks.take_failures() is None


def test_nothing_holds_without_an_expression() -> None:
    assert parse_break(None) is None
