"""What an example promises to print: the section `Prints:` of its docstring."""

import ast
import re
from collections.abc import Iterable
from itertools import takewhile
from textwrap import dedent


def promised_lines(source: str) -> list[str]:
    """The indented lines below `Prints:` in the docstring of a module, without blank ones."""
    lines = iter((ast.get_docstring(ast.parse(source)) or "").splitlines())
    if "Prints:" not in lines:  # the iterator now stands behind that line
        return []
    section = takewhile(lambda line: not line or line.startswith(" "), lines)
    return [line.rstrip() for line in dedent("\n".join(section)).splitlines() if line.strip()]


def missing_line(promised: Iterable[str], printed: str) -> str | None:
    """The first promised line that is not printed after the one before it, None if all are.

    `...` in a promised line stands for any text, as in doctest.
    """
    lines = iter(printed.splitlines())
    for promise in promised:
        if not any(matches(promise, line.rstrip()) for line in lines):
            return promise
    return None


def matches(promised: str, printed: str) -> bool:
    """Whether `printed` is what was promised, `...` being any text on one line."""
    return re.fullmatch(".*".join(map(re.escape, promised.split("..."))), printed) is not None
