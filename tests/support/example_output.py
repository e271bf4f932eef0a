"""What an example's docstring says of it: how it is run, and what it promises to print."""

import ast
import re
from collections.abc import Iterable
from itertools import takewhile
from textwrap import dedent


def promised_lines(source: str) -> list[str]:
    """The indented lines below `Prints:` in the docstring of a module, without blank ones."""
    return _section("Prints:", source)


def command_lines(source: str) -> list[str]:
    """The same below `Run with:`; none when the module is run by itself."""
    return _section("Run with:", source)


def _section(title: str, source: str) -> list[str]:
    lines = iter((ast.get_docstring(ast.parse(source)) or "").splitlines())
    if title not in lines:  # the iterator now stands behind that line
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
