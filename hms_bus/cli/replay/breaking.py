"""`--break EXPR`: before which records a replay pauses."""

from collections.abc import Callable
from typing import Any

from hms_bus.abc import Record
from hms_bus.errors import UsageError

Break = Callable[[Record], bool]
"""Whether to pause before the record."""


def parse_break(expression: str | None) -> Break | None:
    """Return what `expression` says of a record; `None` without one.

    It is Python, as the condition of a debugger is. Where it fails (a payload has no such key), it
    does not hold. Raises `UsageError` for what is no expression.
    """
    if expression is None:
        return None
    try:
        code = compile(expression, "--break", "eval")
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"--break {expression!r} is no Python expression: {error}") from error

    def holds(record: Record) -> bool:
        try:
            return bool(eval(code, {}, _names(record, code.co_names)))  # noqa: S307 - the user's own
        except Exception:  # noqa: BLE001 - anything may be wrong with other payloads
            return False

    return holds


def _names(record: Record, used: tuple[str, ...]) -> dict[str, Any]:
    envelope = record.envelope
    names: dict[str, Any] = {
        "position": record.position,
        "topic": envelope.topic,
        "type": envelope.type,
        "source": envelope.source,
        "id": envelope.id,
        "corr": envelope.correlationid,
        "cause": envelope.causationid,
    }
    if "data" in used:
        names["data"] = envelope.decode()
    return names
