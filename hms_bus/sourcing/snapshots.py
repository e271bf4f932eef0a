"""Snapshots: a cache of what a stream added up to. Deleting any of them changes nothing."""

from typing import Any, Protocol

import msgspec
from msgspec import Struct

from hms_bus import payload
from hms_bus.errors import BusError, EncodeError
from hms_bus.sourcing.aggregates import Behaviour
from hms_bus.sourcing.events import upcasts
from hms_bus.sourcing.fingerprint import fingerprint
from hms_bus.sourcing.personal import field_names, personal_fields


class Snapshot(Struct, frozen=True, kw_only=True):
    """What the events of `topic` up to `position` added up to, as JSON, for code of one `version`.

    `event_id` is the id of the record at `position`: in another log, or in one that was restored
    from an older copy, it is not found there, and the snapshot is not used.
    """

    topic: str
    version: str
    position: int
    event_id: str
    state: bytes


class Snapshots(Protocol):
    """Where snapshots are kept, one for each topic. Whatever is lost is made again."""

    async def load(self, topic: str) -> Snapshot | None:
        """Return the snapshot of `topic`."""
        ...

    async def save(self, snapshot: Snapshot) -> None:
        """Keep `snapshot` in place of an older one of its topic, or of another version."""
        ...

    async def drop(self, topic: str | None = None) -> None:
        """Delete the snapshot of `topic`, or all."""
        ...


class MemorySnapshots:
    """Snapshots for as long as the process lives."""

    def __init__(self) -> None:
        self._kept: dict[str, Snapshot] = {}

    async def load(self, topic: str) -> Snapshot | None:
        """Return the snapshot of `topic`."""
        return self._kept.get(topic)

    async def save(self, snapshot: Snapshot) -> None:
        """Keep `snapshot`; see `Snapshots.save`."""
        kept = self._kept.get(snapshot.topic)
        if kept is None or kept.version != snapshot.version or kept.position < snapshot.position:
            self._kept[snapshot.topic] = snapshot

    async def drop(self, topic: str | None = None) -> None:
        """Delete the snapshot of `topic`, or all."""
        if topic is None:
            self._kept.clear()
        else:
            self._kept.pop(topic, None)


class Freezer:
    """Turns the state of one class of aggregates into snapshots and back.

    Events with personal fields allow none: the state would keep what is to be forgotten.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self._cls = behaviour.cls
        classes = behaviour.events.classes
        self.is_allowed = not any(map(personal_fields, classes))
        self.version = behaviour.version or fingerprint(
            (behaviour.cls, *classes), (step for cls in classes for step in upcasts(cls).values())
        )
        """What a snapshot must be of to be used."""

    def check(self) -> None:
        """Raise `ConfigError` for a class whose state has no form to be kept in."""
        if self.is_allowed:
            field_names(self._cls)

    def freeze(self, state: object) -> bytes:
        """Return `state` as JSON. Raises `EncodeError` when it would not come back as it is."""
        frozen = payload.to_json(state)
        again = self.thaw(frozen)
        if again is None or payload.to_json(again) != frozen:
            raise EncodeError(f"a {self._cls.__qualname__} does not survive being kept as JSON")
        return frozen

    def thaw(self, state: bytes) -> Any:
        """Return the aggregate, `None` when its class has another shape now."""
        try:
            return payload.decode(msgspec.Raw(state), self._cls, payload.JSON)
        except BusError:
            return None
