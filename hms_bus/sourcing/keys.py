"""Keys of subjects: the seam, and keys that end with the process."""

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct

KEY_BYTES = 32
"""AES-256."""


class Key(Struct, frozen=True, kw_only=True):
    """What one subject's fields are sealed with. `id` names it and tells nothing about it."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"


class Keys(Protocol):
    """The keys of subjects, kept apart from the log: deleting one makes unreadable what it sealed.

    They are the only copy. Whoever restores an old backup of them brings back what was forgotten.
    """

    async def provide(self, subjects: Iterable[str]) -> Mapping[str, Key]:
        """Return the key of each subject; a subject without one gets a new one, durable by then."""
        ...

    async def find(self, ids: Iterable[str]) -> Mapping[str, Key]:
        """Return those of the keys that are there, by id."""
        ...

    async def forget(self, subject: str) -> bool:
        """Delete a subject's key for good; return whether there was one."""
        ...


def new_key() -> Key:
    """Return a key that nobody has had before."""
    return Key(id=os.urandom(9).hex(), secret=os.urandom(KEY_BYTES))


class MemoryKeys:
    """Keys that are gone with the process, and with them all that was sealed: for tests."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    async def provide(self, subjects: Iterable[str]) -> Mapping[str, Key]:
        """Return the key of each subject; see `Keys.provide`."""
        return {subject: self._keys.setdefault(subject, new_key()) for subject in subjects}

    async def find(self, ids: Iterable[str]) -> Mapping[str, Key]:
        """Return those of the keys that are there, by id."""
        wanted = set(ids)
        return {key.id: key for key in self._keys.values() if key.id in wanted}

    async def forget(self, subject: str) -> bool:
        """Delete a subject's key; return whether there was one."""
        return self._keys.pop(subject, None) is not None
