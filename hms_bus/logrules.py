"""What may be asked of a log, whoever keeps it: checked at the call, before anything is sent."""

from collections.abc import Iterable

import msgspec

from hms_bus.abc import Expect, Selector
from hms_bus.errors import UnsupportedError, UsageError
from hms_bus.topics import Pattern, parse_pattern


def check_expect(topics: Iterable[str], expect: Expect) -> None:
    """Check that `expect` can be asked for a batch on `topics`. Raises `UsageError`."""
    if expect == "any":
        return
    if expect != "none" and (type(expect) is not int or expect < 0):
        raise UsageError(f"expect is {expect!r}: give a position, 'none' or 'any'")
    if len(set(topics)) > 1:
        raise UsageError("expect= speaks of one topic, but the batch has several: split it")


def check_selector(selector: Selector, *, follow: bool, where: str) -> Pattern | None:
    """Check what shall be read, and return the parsed pattern.

    A range that is empty (`first` after `last`) selects nothing and is no error. Raises
    `TopicError` for the pattern, `UsageError` for a wrong value, `UnsupportedError` for following
    backwards.
    """
    for name in ("first", "last", "limit"):
        value: int | None = getattr(selector, name)
        if value is not None and value < 0:
            raise UsageError(f"{name} of a selector is {value}: positions and counts start at 0")
    pattern = None if selector.pattern is None else parse_pattern(selector.pattern)
    for kind in selector.types:
        json_text("type", kind)
    json_text("correlationid", selector.correlation or "")
    json_text("source", selector.source or "")
    if follow and selector.backwards:
        raise UnsupportedError("following backwards", where, "a log has one growing end")
    return pattern


def json_text(name: str, value: str) -> str:
    """Return a text in JSON. Raises `UsageError` when it is none that UTF-8 has."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError as error:
        raise UsageError(f"no {name} can be {value!r}: it is no text that UTF-8 has") from error
