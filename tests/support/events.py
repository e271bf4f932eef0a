"""Envelopes for tests that do not care what is in them."""

from typing import Any

from hms_bus.attributes import new_envelope
from hms_bus.envelope import Envelope


def event(
    topic: str = "orders.created", data: Any = "text", *, source: str = "test", **attributes: Any
) -> Envelope:
    """Return a new envelope."""
    return new_envelope(topic, data, source=source, **attributes)


def events(count: int, topic: str = "orders.created") -> list[Envelope]:
    """Return `count` new envelopes, numbered from 1 in their payloads."""
    return [event(topic, {"n": n}) for n in range(1, count + 1)]
