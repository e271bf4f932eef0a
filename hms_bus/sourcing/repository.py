"""The repository: aggregates by id, loaded from their streams and appended to them."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from hms_bus.abc import EventLog, Record
from hms_bus.bus import Bus
from hms_bus.errors import BusError
from hms_bus.sourcing.aggregates import Behaviour, behaviour_of, recording
from hms_bus.sourcing.snapshots import Freezer, Snapshot, Snapshots
from hms_bus.sourcing.streams import Stream, Streams, decide_again
from hms_bus.sourcing.vault import Vault

A = TypeVar("A")
R = TypeVar("R")

_logger = logging.getLogger("hms_bus")


class Loaded(Struct, Generic[A], frozen=True):
    """An aggregate as its events make it; `position` is that of the last one, 0 without any."""

    state: A
    position: int


class _Known(Struct, frozen=True):
    """What a repository keeps of one class."""

    behaviour: Behaviour
    streams: Streams
    freezer: Freezer


class Repository:
    """Aggregates on a bus with a log, or on a bare `EventLog` (which needs `source`).

        async with repository.edit(Account, "42") as account:
            account.deposit(5)

    With `snapshots`, one is kept once `snapshot_every` events came since the last: loading reads
    what came after it. `vault` is for aggregates with personal events; they have no snapshots.
    """

    def __init__(
        self,
        target: Bus | EventLog,
        *,
        source: str | None = None,
        snapshots: Snapshots | None = None,
        snapshot_every: int = 100,
        vault: Vault | None = None,
    ) -> None:
        self._target = target
        self._source = source
        self._snapshots = snapshots
        self._every = snapshot_every
        self._vault = vault
        self._known: dict[type, _Known] = {}

    async def load(self, cls: type[A], id: str) -> Loaded[A]:  # noqa: A002 - the aggregate's
        """Return the aggregate, to look at: what it emits has nowhere to go (`StateError`).

        Raises `ConfigError` for a class that cannot be one, `TopicError` for an id that is no
        token, `DecodeError` for an event that cannot be read, and what reading the log raises.
        """
        known = self._know(cls)
        topic = known.behaviour.topic_of(id)
        state, position, _ = await self._load(known, topic)
        return Loaded(state, position)

    @asynccontextmanager
    async def edit(self, cls: type[A], id: str) -> AsyncGenerator[A]:  # noqa: A002 - as above
        """Yield the aggregate; when the scope ends well, append what it has emitted, all or none.

        Nothing is appended when the scope raises. Raises `ConflictError` at the end when somebody
        has appended meanwhile: load and decide anew, or let `change` do it. Also raises as `load`
        and `Streams.append` do.
        """
        known = self._know(cls)
        topic = known.behaviour.topic_of(id)
        state, position, unkept = await self._load(known, topic)
        with recording(state) as events:
            yield state
        if not events:
            return
        last = await known.streams.append(topic, events, expect=position)
        if unkept + len(events) >= self._every:
            await self._keep(known, topic, state, last)

    async def change(
        self,
        cls: type[A],
        id: str,  # noqa: A002 - as above
        decide: Callable[[A], R | Awaitable[R]],
        *,
        attempts: int = 10,
    ) -> R:
        """Return what `decide` does with the aggregate, within `edit`, and again at a conflict.

        `decide` may run several times, each time on what is true by then; it has no effects but on
        the aggregate. Raises the last `ConflictError` after so many attempts.
        """

        async def once() -> R:
            async with self.edit(cls, id) as state:
                result: Any = decide(state)
                return await result if isawaitable(result) else result

        return await decide_again(once, attempts=attempts)

    def _know(self, cls: type) -> _Known:
        known = self._known.get(cls)
        if known is None:
            behaviour = behaviour_of(cls)
            streams = Streams(
                self._target, behaviour.events.classes, source=self._source, vault=self._vault
            )
            freezer = Freezer(behaviour)
            if self._snapshots is not None:
                freezer.check()
            known = self._known[cls] = _Known(behaviour, streams, freezer)
        return known

    async def _load(self, known: _Known, topic: str) -> tuple[Any, int, int]:
        """Return the state, its position, and how many events no snapshot covers."""
        found = await self._find(known, topic)
        if found is not None:
            snapshot, state = found
            stream = await known.streams.load(topic, first=snapshot.position)
            if stream.records and _is_at(stream.records[0], snapshot):
                return _added_up(known, state, stream, skipped=1)
            await self._drop(topic)
        stream = await known.streams.load(topic)
        return _added_up(known, known.behaviour.make(), stream, skipped=0)

    async def _find(self, known: _Known, topic: str) -> tuple[Snapshot, Any] | None:
        """Return a snapshot that fits the code, and its state."""
        if self._snapshots is None or not known.freezer.is_allowed:
            return None
        try:
            snapshot = await self._snapshots.load(topic)
        except BusError:
            _logger.warning("the snapshot of %r cannot be read", topic, exc_info=True)
            return None
        if snapshot is None:
            return None
        state = (
            known.freezer.thaw(snapshot.state)
            if snapshot.version == known.freezer.version
            else None
        )
        if state is None:
            await self._drop(topic)
            return None
        return snapshot, state

    async def _keep(self, known: _Known, topic: str, state: object, position: int) -> None:
        """Keep a snapshot at the last event; the log is the truth, so no failure goes further."""
        if self._snapshots is None or not known.freezer.is_allowed:
            return
        try:
            frozen = known.freezer.freeze(state)
            end = await known.streams.load(topic, first=position)
            if not end.records or end.records[0].position != position:
                return
            await self._snapshots.save(
                Snapshot(
                    topic=topic,
                    version=known.freezer.version,
                    position=position,
                    event_id=end.records[0].envelope.id,
                    state=frozen,
                )
            )
        except BusError:
            _logger.warning("no snapshot of %r was kept", topic, exc_info=True)

    async def _drop(self, topic: str) -> None:
        if self._snapshots is not None:
            try:
                await self._snapshots.drop(topic)
            except BusError:
                _logger.warning("the snapshot of %r was not dropped", topic, exc_info=True)


def _is_at(record: Record, snapshot: Snapshot) -> bool:
    return (record.position, record.envelope.id) == (snapshot.position, snapshot.event_id)


def _added_up(known: _Known, state: Any, stream: Stream, *, skipped: int) -> tuple[Any, int, int]:
    for event in stream.events[skipped:]:
        known.behaviour.apply(state, event)
    return state, stream.position, len(stream.events) - skipped
