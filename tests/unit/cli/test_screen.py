"""Tables and sizes as plain lines; what a terminal gets is in tests/integration/cli."""

from typing import Any

import pytest

from hms_bus.cli.screen import Column, Form, byte_count, fit, show_table

COLUMNS = (
    Column(name="name"),
    Column(name="count", kind="number"),
    Column(name="at", kind="time"),
    Column(name="rate", kind="number"),
)
ROWS: list[dict[str, Any]] = [
    {"name": "a", "count": 1000, "at": 1_000_000_000, "rate": None},
    {"name": ["b", "c"], "count": 2, "at": None, "rate": 1 / 3},
]


@pytest.mark.parametrize(
    ("form", "printed"),
    [
        ("text", "a\t1000\t1970-01-01T00:00:01.000000Z\t-\nb,c\t2\t-\t0.333333\n"),
        (
            "json",
            (
                '{"name":"a","count":1000,"at":"1970-01-01T00:00:01.000000Z","rate":null}\n'
                '{"name":["b","c"],"count":2,"at":null,"rate":0.3333333333333333}\n'
            ),
        ),
        (
            "csv",
            'name,count,at,rate\na,1000,1970-01-01T00:00:01.000000Z,\n"b,c",2,,0.333333\n',
        ),
    ],
)
def test_a_table_on_a_pipe(form: Form, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(COLUMNS, ROWS, form)
    assert capsys.readouterr().out == printed


def test_a_headed_table_is_aligned_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (COLUMNS[0], COLUMNS[1])
    show_table(columns, ROWS, "text", headed=True)
    assert capsys.readouterr().out == "name  count\na     1,000\nb, c      2\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 << 20, "3.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(size: int, text: str) -> None:
    assert byte_count(size) == text


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        (80, {"topic": 30, "count": 5, "since": 19, "types": 20}),
        (70, {"topic": 30, "count": 5, "since": 19, "types": 10}),
        (60, {"topic": 20, "count": 5, "since": 19, "types": 10}),
        (59, {"topic": 28, "count": 5, "since": 19}),
        (50, {"topic": 30, "count": 5}),
        (30, {"topic": 20, "count": 5}),
        (20, {"topic": 10, "count": 5}),
        (5, {"topic": 8, "count": 5}),
    ],
)
def test_a_narrow_terminal_gets_what_it_has_room_for(width: int, widths: dict[str, int]) -> None:
    columns = (
        Column(name="topic", least=20),
        Column(name="count", kind="number"),
        Column(name="since", kind="time", spare=1),
        Column(name="types", least=10, spare=2),
    )
    natural = {"topic": 30, "count": 5, "since": 19, "types": 20}
    assert fit(columns, natural, width) == widths
