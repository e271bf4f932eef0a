"""What a handler is given: an envelope and how it came."""

import builtins
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from hms_bus.abc import Outcome, Settlement
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope
from hms_bus.errors import StateError, UnsupportedError

T = TypeVar("T")

_NOT_DECODED = object()


class Message:
    """One delivery of an envelope to one subscription.

    `captures` holds what the pattern's `{name}`s stand for. `reply_to` is the address that a reply
    goes to, `None` for an event. `position` and `recorded_ns` are set when it was read from a log.
    `attempt` counts the deliveries to a durable subscription, from 1.
    """

    __slots__ = (
        "_data",
        "_settle",
        "attempt",
        "captures",
        "envelope",
        "is_settled",
        "position",
        "recorded_ns",
        "reply_to",
    )

    def __init__(
        self,
        envelope: Envelope,
        *,
        captures: Mapping[str, str] | None = None,
        reply_to: str | None = None,
        position: int | None = None,
        recorded_ns: int | None = None,
        attempt: int = 1,
        settle: Callable[[Settlement], Awaitable[None]] | None = None,
    ) -> None:
        self.envelope = envelope
        self.captures: Mapping[str, str] = captures or {}
        self.reply_to = reply_to
        self.position = position
        self.recorded_ns = recorded_ns
        self.attempt = attempt
        self.is_settled = False
        self._settle = settle
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

    # -- of a durable subscription -------------------------------------------------------------

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before, and not settled."""
        return self.attempt > 1

    async def ack(self) -> None:
        """Say that it is handled; that is kept for good when this returns.

        This and the next three are for messages of a durable subscription, others raise
        `UnsupportedError`. Who settles a message by hand decides: what its handler raises
        afterwards is reported only. Raise `LogError`, `StateError` for one that is settled.

        None of the four says anything any more once the message was delivered again, since its ack
        wait was over: they return, change nothing, and the newer attempt decides.
        """
        await self._settle_as("ack")

    async def nak(self, delay: Duration | None = None, reason: str = "") -> None:
        """Have it delivered again, `delay` from now (at once without); it counts as an attempt.

        After the last attempt it becomes a dead letter, with the `reason`.
        """
        delay_s = 0.0 if delay is None else parse_duration(delay)
        await self._settle_as("nak", delay_s=delay_s, reason=reason)

    async def term(self, reason: str = "", *, code: str = "UNKNOWN") -> None:
        """Give it up for good: it becomes a dead letter, with the `reason` and a status by name."""
        await self._settle_as("term", reason=reason, code=code)

    async def progress(self) -> None:
        """Say that it is still being handled: its ack wait begins anew, unless it is over."""
        await self._settle_as("progress")

    async def _settle_as(self, outcome: Outcome, **how: Any) -> None:
        if self._settle is None:
            raise UnsupportedError(
                f"{outcome}()", f"a message on {self.topic!r}", "subscribe with durable='name'"
            )
        if self.is_settled:
            raise StateError(f"the message at position {self.position} is settled already")
        self.is_settled = outcome != "progress"
        settlement = Settlement(
            position=self.position or 0, attempt=self.attempt, outcome=outcome, **how
        )
        try:
            await self._settle(settlement)
        except BaseException:
            self.is_settled = False
            raise

    def __repr__(self) -> str:
        return f"Message(topic={self.topic!r}, id={self.id!r}, source={self.source!r})"
