"""Tables of the documentation say what the code says."""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from hms_bus import Bus, errors
from hms_bus.abc import Overflow
from hms_bus.config import ENVIRONMENT_PREFIX, BusConfig
from hms_bus.envelope import ATTRIBUTES
from hms_bus.errors import BusError, StatusError

DOCS = Path(__file__).parents[2] / "docs"
CODE = re.compile(r"`([^`]+)`")


def table(page: str, *header: str) -> Iterator[list[str]]:
    """The rows, as cells, of the table of `page` whose header starts with these cells."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("|") and cells(line)[: len(header)] == list(header):
            next(lines)
            break
    else:
        pytest.fail(f"{page} has no table with the header {header}")
    for line in lines:
        if not line.startswith("|"):
            return
        yield cells(line)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def names(cell: str) -> list[str]:
    """What stands in backquotes."""
    return CODE.findall(cell)


def test_configuration_lists_every_key_with_its_default_and_variable() -> None:
    rows = list(table("guide/configuration.md", "key", "default", "environment"))
    assert [names(key) for key, *_ in rows] == [[name] for name in BusConfig.__struct_fields__]
    for key, default, variable, _ in rows:
        [name] = names(key)
        assert stated(default) == builtin(getattr(BusConfig(), name)), name
        assert names(variable) == ([] if name == "routes" else [ENVIRONMENT_PREFIX + name.upper()])


def stated(default: str) -> Any:
    """The default in backquotes, or None for a description."""
    return next((json.loads(text) for text in names(default)), None)


def builtin(value: Any) -> Any:
    return None if value == {} else json.loads(json.dumps(value))


def test_errors_lists_the_whole_tree() -> None:
    documented = {
        names(error)[0]: (names(parent), code, retryable, names(facts))
        for error, parent, code, retryable, facts, _ in table("guide/errors.md", "error", "under")
    }
    assert documented == {
        name: facts_of(cls)
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, BusError)
    }


def facts_of(cls: type[BusError]) -> tuple[list[str], str, str, list[str]]:
    own = issubclass(cls, StatusError)
    return (
        [] if cls is BusError else [base.__name__ for base in cls.__bases__],
        "its own" if own else cls.code,
        "its own" if own else "yes" if cls.retryable else "no",
        list(inspect.get_annotations(cls)),
    )


def test_the_bus_page_explains_every_overflow_policy() -> None:
    rows = table("guide/bus.md", "`overflow`")
    assert [names(policy)[0] for policy, *_ in rows] == list(get_args(Overflow))


def test_the_envelope_page_explains_every_attribute() -> None:
    rows = table("guide/envelope.md", "attribute")
    explained = [name for attribute, *_ in rows for name in names(attribute)]
    assert sorted(explained) == sorted(ATTRIBUTES)


def test_limits_states_the_constants() -> None:
    for _, limit, constant, *_ in table("reference/limits.md", "what", "limit", "constant"):
        module, _, name = names(constant)[0].rpartition(".")
        assert int(limit) == getattr(importlib.import_module(f"hms_bus.{module}"), name), name


def test_limits_states_the_defaults_of_settings() -> None:
    for _, default, setting in table("reference/limits.md", "what", "default", "setting"):
        assert float(default) == getattr(BusConfig(), names(setting)[0]), setting


def test_limits_states_the_defaults_of_arguments() -> None:
    for _, default, argument in table("reference/limits.md", "what", "default", "argument"):
        call = re.fullmatch(r"(\w+)\((\w+)=…\)", names(argument)[0])
        assert call is not None
        parameters = inspect.signature(getattr(Bus, call[1])).parameters
        assert int(default) == parameters[call[2]].default, argument
