"""When code counts as changed, for snapshots."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from hms_bus.sourcing.fingerprint import fingerprint

SAME = "class A:\n    x: int = 1\n    def f(self, a): return a in {'p', 'q', 'r'}\n"


def of(code: str) -> str:
    made: dict[str, Any] = {"__name__": "made"}
    exec(code, made)  # noqa: S102 - the code is what is tested
    return fingerprint([made["A"]], [])


@pytest.mark.parametrize(
    "changed",
    [
        SAME.replace("x: int", "x: float"),
        SAME.replace("= 1", "= 2"),
        SAME.replace("'p'", "'P'"),
        SAME.replace("return a in", "return a not in"),
        SAME.replace("def f", "def g"),
        SAME + "    @property\n    def y(self): return 1\n",
        "class B:\n    def f(self): ...\n" + SAME.replace("class A", "class A(B)"),
    ],
)
def test_a_change_of_fields_or_methods_counts(changed: str) -> None:
    assert of(changed) != of(SAME)


@pytest.mark.parametrize("kind", ["property", "staticmethod", "classmethod"])
def test_what_is_wrapped_counts(kind: str) -> None:
    code = "class A:\n    @%s\n    def f(self): return %d\n"
    assert of(code % (kind, 1)) != of(code % (kind, 2))


AROUND = """
import functools
def around(factor):
    def decorate(f):
        @functools.wraps(f)
        def wrapped(self): return factor * f(self)
        return wrapped
    return decorate
"""

FACTORY = """
from dataclasses import dataclass, field
@dataclass
class A:
    f: list = field(default_factory=lambda: [%d])
"""


@pytest.mark.parametrize(
    "code",
    [
        AROUND + "class A:\n    @around(1)\n    def f(self): return %d\n",
        AROUND + "class A:\n    @around(%d)\n    def f(self): return 1\n",
        AROUND + "class A:\n    @functools.lru_cache\n    def f(self): return %d\n",
        AROUND + "class A:\n    @functools.cached_property\n    def f(self): return %d\n",
        AROUND + "class A:\n    f = functools.partial(print, %d)\n",
        AROUND + "class A:\n    f = functools.partial(lambda: %d)\n",
        "class A:\n    def f(self, *, by=%d): return by\n",
        "class A:\n    RATES = {'x': %d}\n",
        "class A:\n    RATES = {'x': [1, {%d}]}\n",
        "class A:\n    RATES = {'x': lambda: %d}\n",
        FACTORY,
    ],
)
def test_what_a_function_holds_and_what_a_class_holds_counts(code: str) -> None:
    assert of(code % 1) != of(code % 2)
    assert of(code % 1) == of(code % 1)


def test_what_leads_back_to_itself_is_followed_once() -> None:
    code = """
ROUND = []
ROUND.append(ROUND)
def made():
    def f(self): return g(self)
    def g(self): return f(self) + %d
    return f
class A:
    f = made()
    all = ROUND
"""
    assert of(code % 1) != of(code % 2)


def test_which_of_two_is_named_again_counts() -> None:
    code = "def f(): return 1\ndef g(): return 2\nclass A:\n    a, b, c = f, g, %s\n"
    assert of(code % "f") != of(code % "g")


@pytest.mark.parametrize(
    "same", [SAME, "\n\n" + SAME, SAME.replace(" = 1", " = 1  # one"), "Z = 1\n" + SAME]
)
def test_lines_and_comments_do_not_count(same: str) -> None:
    assert of(same) == of(SAME)


def test_functions_count() -> None:
    def made(number: int) -> Callable[[], int]:
        namespace: dict[str, Any] = {}
        exec(f"def f(): return [lambda: {number}]", namespace)  # noqa: S102 - as above
        return namespace["f"]

    assert fingerprint([], [made(1)]) != fingerprint([], [made(2)])
    assert fingerprint([], [made(1)]) == fingerprint([], [made(1)])


def test_what_msgspec_leaves_in_a_dataclass_does_not_count() -> None:
    @dataclass
    class Account:
        balance: int = 0

    before = fingerprint([Account], [])
    msgspec.convert({"balance": 1}, Account)
    assert "__msgspec_cache__" in vars(Account)
    assert fingerprint([Account], []) == before


def test_where_an_object_lies_does_not_count() -> None:
    code = "from typing import Annotated\nclass A:\n    f: Annotated[int, %s]\n"
    same = code % "lambda n: n"
    assert of(same) == of(same)
    assert of(code % "1") != of(code % "2")


def test_what_a_closure_has_gathered_does_not_count() -> None:
    def remembering(function: Callable[[int], int]) -> Callable[[int], int]:
        known: dict[int, int] = {}
        asked: list[int] = []

        def remembered(number: int) -> int:
            asked.append(number)
            return known.setdefault(number, function(number))

        return remembered

    square = remembering(lambda number: number * number)
    before = fingerprint([], [square])
    assert square(3) == 9
    assert fingerprint([], [square]) == before
    assert fingerprint([], [remembering(lambda number: number)]) != before


def test_an_object_that_has_every_attribute_is_not_followed() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> "Proxy":
            return Proxy()

        def __call__(self) -> None: ...

    proxy = Proxy()

    class Account:
        far = proxy

    assert fingerprint([Account], [lambda: proxy])


@pytest.mark.parametrize("seed", ["1", "2"])
def test_all_processes_find_the_same(seed: str) -> None:
    program = (
        "from hms_bus.sourcing.fingerprint import fingerprint\n"
        f"__name__ = 'made'\n{SAME}\nprint(fingerprint([A], []))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == of(SAME)
