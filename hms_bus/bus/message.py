"""What a handler is given: an envelope and how it came."""

import builtins
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from hms_bus.envelope import Envelope

T = TypeVar("T")

_NOT_DECODED = object()


class Message:
    """One delivery of an envelope to one subscription.

    `captures` holds what the pattern's `{name}`s stand for. `reply_to` is the address that a reply
    goes to, `None` for an event. `position` and `recorded_ns` are set when it was read from a log.
    """

    __slots__ = ("_data", "captures", "envelope", "position", "recorded_ns", "reply_to")

    def __init__(
        self,
        envelope: Envelope,
        *,
        captures: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        position: int | None = None,
        recorded_ns: int | None = None,
    ) -> None:
        self.envelope = envelope
        self.captures: Mapping[str, str] = captures or {}
        self.reply_to = reply_to
        self.position = position
        self.recorded_ns = recorded_ns
        self._data: Any = _NOT_DECODED

    @property
    def id(self) -> str:
        """The envelope's `id`."""
        return self.envelope.id

    @property
    def topic(self) -> str:
        """The topic it was published on."""
        return self.envelope.topic

    @property
    def type(self) -> str:
        """The event type."""
        return self.envelope.type

    @property
    def source(self) -> str:
        """The agent that published it."""
        return self.envelope.source

    @property
    def time(self) -> datetime | None:
        """When it was published, aware, cut to microseconds."""
        return self.envelope.moment

    @property
    def recorded(self) -> datetime | None:
        """When the log recorded it, in UTC; `None` for a live message."""
        if self.recorded_ns is None:
            return None
        return datetime.fromtimestamp(self.recorded_ns / 1e9, UTC)

    @property
    def data(self) -> Any:
        """The payload as builtins (bytes for octets), decoded once."""
        if self._data is _NOT_DECODED:
            self._data = self.envelope.decode()
        return self._data

    @overload
    def decode(self) -> Any: ...
    @overload
    def decode(self, wanted: builtins.type[T]) -> T: ...
    def decode(self, wanted: Any = Any) -> Any:
        """Return the payload as `wanted`. Raises `DecodeError` (see `Envelope.decode`)."""
        return self.envelope.decode(wanted)

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, id={self.id!r}, source={self.source!r})"
