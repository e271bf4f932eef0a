"""Paths into payloads: what they select, and which texts are none."""

from typing import Any, cast

import pytest
from hypothesis import given

from hms_bus.errors import UsageError
from hms_bus.replay.paths import Routes, extend, go_down, is_end, parse_ignored, parse_path
from tests.support.envelopes import json_texts

DOCUMENT = {
    "ts": 1,
    "total": 2,
    "items": [{"ts": 3, "price": {"ts": 4}}, {"ts": 5}],
    "odd name": {"a.b": 6},
}


def selected(path: str) -> list[int]:
    """The numbers of the document that the path leads to, or to something around them."""

    def walk(value: Any, routes: Routes, *, inside: bool) -> list[int]:
        inside = inside or is_end(routes)
        if isinstance(value, int):
            return [value] if inside else []
        members = (
            cast("dict[Any, Any]", value)
            if isinstance(value, dict)
            else dict[Any, Any](enumerate(cast("list[Any]", value)))
        )
        return [
            number
            for key, member in members.items()
            for number in walk(member, go_down(routes, key), inside=inside)
        ]

    return walk(DOCUMENT, frozenset({parse_path(path)}), inside=False)


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("$", [1, 2, 3, 4, 5, 6]),
        ("$.ts", [1]),
        ("$.items", [3, 4, 5]),
        ("$.items[0]", [3, 4]),
        ("$.items[1].ts", [5]),
        ("$.items[*].ts", [3, 5]),
        ("$.items.*.ts", [3, 5]),
        ("$.*", [1, 2, 3, 4, 5, 6]),
        ("$.*.*", [3, 4, 5, 6]),
        ("$..ts", [1, 3, 4, 5]),
        ("$..price..ts", [4]),
        ("$.items..ts", [3, 4, 5]),
        ("$..[1]", [5]),
        ("$..['a.b']", [6]),
        ("$['odd name'][\"a.b\"]", [6]),
        ("$.items.0", []),
        ("$.nothing", []),
    ],
)
def test_a_path_selects(path: str, numbers: list[int]) -> None:
    assert selected(path) == numbers


@pytest.mark.parametrize("text", ["$.", "$ts", "$..", "$.a[", "$.a[x]", "$.a]", "$..a.."])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no path|write \$\.total"):
        parse_path(text)


def test_a_name_is_something_that_is_compared() -> None:
    assert parse_ignored(["subject", "$.ts"]).facets == {"subject"}
    with pytest.raises(UsageError, match="'ts' is nothing that could be ignored"):
        parse_ignored(["ts"])


def test_a_name_in_double_quotes_is_a_json_string() -> None:
    [step] = parse_path(r'$["it\u0027s \"so\""]')
    assert step.key == 'it\'s "so"'
    with pytest.raises(UsageError, match="is no JSON string"):
        parse_path(r'$["\x"]')


@given(json_texts)
def test_a_path_that_is_shown_can_be_ignored(name: str) -> None:
    [step] = parse_path(extend("$", name))
    assert step.key == name
