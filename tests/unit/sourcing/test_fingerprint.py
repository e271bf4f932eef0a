"""When code counts as changed, for snapshots."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

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
