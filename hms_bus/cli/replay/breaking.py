"""`--break EXPR`: before which records a replay pauses."""

import ast
import builtins
from types import CodeType
from typing import Any

from hms_bus.abc import Record
from hms_bus.errors import UsageError
from hms_bus.replay.describing import amount

NAMES = ("topic", "type", "source", "id", "position", "corr", "cause", "data")
"""What an expression may speak of, besides what is built into Python."""


class Break:
    """Tells of a record whether to pause before it.

    Where the expression fails (a payload has no such key) it does not hold; `take_failures` tells.
    """

    def __init__(self, code: CodeType, *, uses_data: bool) -> None:
        self._code = code
        self._uses_data = uses_data
        self._failed: dict[int, Exception] = {}

    def __call__(self, record: Record) -> bool:
        """Whether the expression holds for the record."""
        try:
            return bool(eval(self._code, self._values(record)))  # noqa: S307 - the user's own
        except Exception as error:  # noqa: BLE001 - anything may be wrong with other payloads
            self._failed.setdefault(record.position, error)
            return False

    def take_failures(self) -> str | None:
        """Return for how many records the expression has failed since the last call, and how."""
        failed, self._failed = self._failed, {}
        if not failed:
            return None
        error = next(iter(failed.values()))
        return f"for {amount(len(failed), 'record')}: {type(error).__name__}: {error}"

    def _values(self, record: Record) -> dict[str, Any]:
        envelope = record.envelope
        values: dict[str, Any] = {
            "position": record.position,
            "topic": envelope.topic,
            "type": envelope.type,
            "source": envelope.source,
            "id": envelope.id,
            "corr": envelope.correlationid,
            "cause": envelope.causationid,
        }
        if self._uses_data:
            values["data"] = envelope.decode()
        return values


def parse_break(expression: str | None) -> Break | None:
    """Return what `expression` says of a record; `None` without one.

    It is Python, as the condition of a debugger is. Raises `UsageError` for what is no expression,
    and for a name that stands for nothing.
    """
    if expression is None:
        return None
    try:
        tree = ast.parse(expression.strip(), "--break", "eval")
        code = compile(tree, "--break", "eval")
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"--break {expression!r} is no Python expression: {error}") from error
    used = _free_names(tree)
    if unknown := sorted(used.difference(NAMES, dir(builtins))):
        raise UsageError(
            f"--break {expression!r} speaks of {unknown[0]!r}, which is none of {', '.join(NAMES)}"
        )
    return Break(code, uses_data="data" in used)


def _free_names(tree: ast.AST) -> set[str]:
    """Return the names that the expression does not bind itself, as `for` and `lambda` do."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {name.id for name in names} - bound
