"""Streams: the events of one topic, loaded and appended on condition that nobody was faster."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.attributes import new_envelope
from hms_bus.bus import Bus
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, ConflictError, DecodeError, QueueFullError
from hms_bus.sourcing.batches import batches_of
from hms_bus.sourcing.events import EventTypes
from hms_bus.sourcing.vault import Vault, check_vault
from hms_bus.topics import check_topic

T = TypeVar("T")

_logger = logging.getLogger("hms_bus")


class Stream(Struct, frozen=True, kw_only=True):
    """Events of one topic in order. `position` is that of the topic's last record, 0 without one.

    `records` stand beside `events`, one for one: time, id, cause and position of each.
    """

    topic: str
    position: int
    events: tuple[Any, ...]
    records: tuple[Record, ...]


class Streams:
    """The streams of a bus with a log, or of a bare `EventLog`, as events of the classes `events`.

    Through a bus, what is appended is published: subscribers get it, and it is caused by the
    message that is being handled. A bare log needs `source`, who appends. `vault` is needed for
    personal events. Raises `ConfigError`.
    """

    def __init__(
        self,
        target: Bus | EventLog,
        events: Iterable[type],
        *,
        source: str | None = None,
        vault: Vault | None = None,
    ) -> None:
        self.types = EventTypes(events)
        check_vault(self.types.classes, vault)
        if isinstance(target, Bus) == (source is not None):
            raise ConfigError("source= names who appends to a bare log; a bus has its own")
        self._target = target
        self._source = source
        self._vault = vault

    async def load(self, topic: str, *, first: int = 1) -> Stream:
        """Return the events of `topic` at positions from `first` on, old ones lifted.

        Raises `TopicError`, `DecodeError` for an event that cannot be read or is of no known class,
        and what `EventLog.read` raises.
        """
        selector = Selector(pattern=check_topic(topic), first=first)
        events: list[Any] = []
        records: list[Record] = []
        async for batch in batches_of(self._log, selector):
            envelopes = [record.envelope for record in batch]
            if self._vault is not None:
                envelopes = await self._vault.unseal(envelopes)
            events += self._read(batch, envelopes)
            records += batch
        return Stream(
            topic=topic,
            position=records[-1].position if records else 0,
            events=tuple(events),
            records=tuple(records),
        )

    async def append(self, topic: str, events: Sequence[Any], *, expect: int) -> int:
        """Append all of `events` or none, and return the position of the stream's last record.

        `expect` is the position of the last record that was known, 0 for none. Raises
        `ConflictError` if another one is the last, `ConfigError` for an event of no known class,
        and what `Bus.publish_many` or `EventLog.append` raise. A subscriber that refuses them is
        logged only, as the log has them by then. Cancelling does not take them back.
        """
        for event in events:
            if type(event) not in self.types.classes:
                raise ConfigError(
                    f"{type(event).__name__} is not among the events of these streams"
                )
        if not events:
            return expect
        sealed = await self._vault.seal(events) if self._vault else events
        if isinstance(self._target, Bus):
            return await self._publish(self._target, topic, sealed, expect=expect)
        source = self._source or ""
        envelopes = [new_envelope(topic, event, source=source) for event in sealed]
        receipts = await self._target.append(envelopes, expect=expect or "none")
        return receipts[-1].position or 0

    async def _publish(self, bus: Bus, topic: str, events: Sequence[object], *, expect: int) -> int:
        pairs = [(topic, event) for event in events]
        try:
            receipts = await bus.publish_many(pairs, expect=expect or "none")
        except QueueFullError as error:
            if error.position is None:
                raise
            _logger.warning("from the stream %r: %s", topic, error)
        else:
            return receipts[-1].position or 0
        # They are neighbours, and the first records of the topic behind `expect`.
        place = Selector(pattern=topic, first=expect + 1, limit=1)
        [first] = [record async for record in self._log.read(place)]
        return first.position + len(events) - 1

    def _read(self, records: Sequence[Record], envelopes: Sequence[Envelope]) -> Iterator[Any]:
        for record, envelope in zip(records, envelopes, strict=True):
            try:
                yield self.types.read(envelope)
            except DecodeError as error:
                raise DecodeError(
                    f"at position {record.position}: {error.message}",
                    reason=error.reason,
                    field=error.field,
                    topic=envelope.topic,
                    type=envelope.type,
                ) from error

    @property
    def _log(self) -> EventLog:
        return self._target.log if isinstance(self._target, Bus) else self._target


async def decide_again(decide: Callable[[], Awaitable[T]], *, attempts: int = 10) -> T:
    """Return `await decide()`, which loads, decides and appends; do it anew at a `ConflictError`.

    Somebody has succeeded each time that we have not, so there is nothing to wait for. Raises the
    last `ConflictError` after so many attempts, and whatever else `decide` raises, at once.
    """
    for _ in range(attempts - 1):
        try:
            return await decide()
        except ConflictError:
            continue
    return await decide()
