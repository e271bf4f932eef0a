"""The API page is written from the source: what it shows, and what stops it."""

import ast
import inspect

import pytest

import hms_bus
from hms_bus import Bus
from hms_bus.errors import BusError
from scripts import api_reference


def signature_of(source: str) -> str:
    [(_, (definition, _))] = api_reference.definitions(ast.parse(source).body)
    return api_reference.signature(definition)


def test_every_class_and_function_that_the_package_exports_is_on_the_page() -> None:
    page = api_reference.reference()
    for name in hms_bus.__all__:
        value = getattr(hms_bus, name)
        if not isinstance(value, str) and not is_error(value):
            assert f"### {name} {{" in page, name


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BusError)


def test_a_name_is_imported_from_the_outermost_package_that_exports_it() -> None:
    assert api_reference.home("hms_bus.bus.bus", "Bus") == "hms_bus"
    assert api_reference.home("hms_bus.bus.streams", "MessageStream") == "hms_bus.bus"
    assert api_reference.home("hms_bus.abc", "EventLog") == "hms_bus.abc"


def test_every_public_method_of_the_bus_is_on_the_page() -> None:
    page = api_reference.reference()
    for name, _ in inspect.getmembers(Bus, callable):
        if not name.startswith("_"):
            assert f"#### Bus.{name} {{" in page, name


@pytest.mark.parametrize(
    "written",
    [
        "async def get(topic: str, /, *names: str, wait_s: float = 1.5, **rest: int) -> None",
        "def plain(a, b=2)",
        "def keywords(*, a: int, b: int = 2) -> str",
    ],
)
def test_a_signature_stands_as_it_was_written(written: str) -> None:
    assert signature_of(f"{written}: ...") == written


def test_a_long_signature_has_a_line_for_each_parameter() -> None:
    names = [f"parameter_{number}: int" for number in range(8)]
    lines = signature_of(f"def long({', '.join(names)}) -> None: ...").splitlines()
    assert lines == ["def long(", *[f"    {name}," for name in names], ") -> None"]


def test_a_property_reads_like_a_field_and_a_class_shows_its_fields() -> None:
    assert signature_of("@property\ndef size(self) -> int: ...") == "size: int"
    source = "class Point(Struct):\n    x: int\n    y: int = 0\n    def norm(self): ..."
    assert signature_of(source) == "class Point(Struct):\n    x: int\n    y: int = 0"


def test_overloads_are_left_out_for_the_function_that_is_documented() -> None:
    source = "@overload\ndef get(a: int) -> int: ...\ndef get(a):\n    'Contract.'"
    [(name, (_, docstring))] = api_reference.definitions(ast.parse(source).body)
    assert (name, docstring) == ("get", "Contract.")


def test_a_public_name_without_a_docstring_stops_the_build() -> None:
    [statement] = ast.parse("def bare(): ...").body
    assert isinstance(statement, ast.FunctionDef)
    with pytest.raises(SystemExit, match="bare is public and has no docstring"):
        api_reference.entry("hms_bus.somewhere", "bare", statement, "")
