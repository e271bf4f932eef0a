"""What may be asked of a log, whoever keeps it: checked at the call, before anything is sent."""

from collections.abc import Iterable
from typing import TypeGuard

import msgspec

from hms_bus.abc import ConsumingLog, Durable, EventLog, Expect, Selector
from hms_bus.errors import TopicError, UnsupportedError, UsageError
from hms_bus.topics import Pattern, check_topic, parse_pattern

_MOST_POSITIONS = 2**63


def keeps_durables(log: EventLog | None) -> TypeGuard[ConsumingLog]:
    """Whether there is a log, and it keeps durables."""
    return isinstance(log, ConsumingLog) and "log-durable" in log.capabilities


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


def check_durable(durable: Durable) -> None:
    """Check that a durable can be what it says, its dead letters' topic included.

    Raises `UsageError` for its name, group, start and limits, `TopicError` for its pattern.
    """
    _check_types(durable)
    parse_pattern(durable.pattern)
    _check_name(durable.name)
    if durable.group is not None and not durable.group:
        raise UsageError("the group's name is empty: leave it out, or name it")
    if not isinstance(durable.start, str) and not 1 <= durable.start < _MOST_POSITIONS:
        raise UsageError(f"start is {durable.start}: positions start at 1, and stay below 2^63")
    for name, value in (
        ("max_deliveries", durable.max_deliveries),
        ("max_unacked", durable.max_unacked),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, at least 1 is needed")
    if not 0 < durable.ack_wait_s < float("inf"):
        raise UsageError(f"ack_wait is {durable.ack_wait_s:g} s: give some seconds")


def _check_types(durable: Durable) -> None:
    """Check that all of it comes back as it is from where it is kept."""
    try:
        kept = msgspec.json.decode(msgspec.json.encode(durable), type=Durable)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{durable} is no durable: {error}") from error
    if kept != durable:
        raise UsageError(f"{durable} is no durable: it would be kept as {kept}")


def _check_name(name: str) -> None:
    try:
        check_topic(dead_letter_topic(name))
    except TopicError as error:
        raise UsageError(f"{name!r} is no name of a durable: {error.message}") from error
    if "." in name:
        raise UsageError(f"{name!r} is no name of a durable: it has a dot")


def dead_letter_topic(durable: str) -> str:
    """Return the topic of a durable's dead letters."""
    return f"$dlq.{durable}"


def json_text(name: str, value: str) -> str:
    """Return a text in JSON. Raises `UsageError` when it is none that UTF-8 has."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError as error:
        raise UsageError(f"no {name} can be {value!r}: it is no text that UTF-8 has") from error
