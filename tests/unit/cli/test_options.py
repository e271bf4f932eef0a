"""Values of options, and which selector and bus they choose."""

import time
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hms_bus.abc import Selector
from hms_bus.cli.options import (
    DURATION,
    MOMENT,
    PATTERN,
    TOPIC,
    bus_options,
    parse_range,
    selector_options,
)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [("100..200", (100, 200)), ("100..", (100, None)), ("..200", (None, 200)), ("7", (7, 7))],
)
def test_a_range_is_read(text: str, bounds: tuple[int | None, int | None]) -> None:
    assert parse_range(text) == bounds


@pytest.mark.parametrize("text", ["", "..", "a", "1-2", "-5", "1..2..3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"100\.\.200"):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "the first one, 1"),
        ("0..5", "the first one, 1"),
        ("..0", "the first one, 1"),
        ("5..3", "ends before"),
    ],
)
def test_a_range_that_selects_nothing_is_refused(text: str, says: str) -> None:
    with pytest.raises(click.BadParameter, match=says):
        parse_range(text)


def test_values_are_parsed_as_the_bus_parses_them() -> None:
    assert DURATION.convert("1h30m", None, None) == 5400
    assert MOMENT.convert("1970-01-01T00:00:01Z", None, None) == 1_000_000_000
    assert MOMENT.convert("1h", None, None) < time.time_ns()
    assert PATTERN.convert("a.*.>", None, None) == "a.*.>"
    assert TOPIC.convert("a.b", None, None) == "a.b"
    for kind, text in ((DURATION, "soon"), (MOMENT, "soon"), (PATTERN, "a..b"), (TOPIC, "a.>")):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def called_with(decorate: Any, *args: str) -> dict[str, Any]:
    """Return what a command with these options is called with."""
    got: dict[str, Any] = {}

    @click.command()
    @decorate
    def command(**given: Any) -> None:
        got.update(given)

    result = CliRunner().invoke(command, args)
    assert result.exit_code == 0, result.output
    return got


def test_a_selector_is_made_of_its_options() -> None:
    assert called_with(selector_options) == {"selector": Selector()}
    args = ["--topic", "a.>", "--seq", "2..9", "--type", "A", "--type", "B", "--corr", "c"]
    args += ["--source", "/me", "--since", "1970-01-02", "--until", "1970-01-01T00:00:01Z"]
    assert called_with(selector_options, *args) == {
        "selector": Selector(
            pattern="a.>",
            first=2,
            last=9,
            since_ns=86_400_000_000_000,
            until_ns=1_000_000_000,
            types=frozenset({"A", "B"}),
            correlation="c",
            source="/me",
        )
    }


def test_only_what_was_given_overrides_the_configuration() -> None:
    assert called_with(bus_options) == {"settings": {}, "config": None}
    args = ["--bus", "direct://a", "--log", "sqlite:x.db", "--codec", "cbor", "--source", "/me"]
    assert called_with(bus_options, *args)["settings"] == {
        "url": "direct://a",
        "log": "sqlite:x.db",
        "codec": "cbor",
        "source": "/me",
    }
