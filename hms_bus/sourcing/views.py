"""Where projections write to: the seam, and targets that know no transactions of ours."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from hms_bus.errors import StateError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Cursor(Struct, frozen=True, kw_only=True):
    """The position of the last record that a projection has handled; 0 is none.

    `version` is that of the projection which has handled them. `event_id` is the id of the record
    at `position`, empty for none: in another log, or in one that was compacted or restored, it is
    not found there, and the projection does not go on.
    """

    position: int
    version: int
    event_id: str = ""


class Cursors(Protocol):
    """Cursors by the name of their projection."""

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands, `None` when it never ran."""
        ...

    async def save(self, name: str, before: Cursor | None, after: Cursor) -> None:
        """Keep `after` in the place of `before`, durable when this returns if the cursors are.

        Comparing and keeping are one step. Raises `StateError` if the cursor is not at `before`.
        """
        ...


class Views(Protocol[T_co]):
    """Where the rows of projections are, with their cursors."""

    @property
    def is_transactional(self) -> bool:
        """Whether cursor and rows change together or not at all: an effect exactly once."""
        ...

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands, `None` when it never ran."""
        ...

    async def update(
        self,
        name: str,
        before: Cursor | None,
        after: Cursor,
        work: Callable[[T_co], Awaitable[None] | None],
    ) -> None:
        """Do `work` on the target, and move the cursor from `before` to `after`.

        A transactional one does both or neither, runs `work` in a thread, and takes none that is
        awaited. Another does `work` first; when that raises, the cursor stays. Raises what `work`
        does, `StateError` if the cursor is not at `before`: two run the same projection. Without a
        transaction that may be found out behind `work`, which both have done then.
        """
        ...


class MemoryCursors:
    """Cursors that end with the process."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands."""
        return self._cursors.get(name)

    async def save(self, name: str, before: Cursor | None, after: Cursor) -> None:
        """Keep `after`; see `Cursors.save`."""
        check_cursor(name, before, self._cursors.get(name))
        self._cursors[name] = after


class Elsewhere(Generic[T]):
    """Any `target`: a dict, a client of a search engine. What is handled is so at least once.

    The cursor is saved to `cursors` after each batch. A process that dies before handles the batch
    again, and so may two that run the same projection until one is stopped by `StateError`. Hence
    handlers are to be idempotent; the record's position tells what was handled.
    """

    is_transactional = False

    def __init__(self, target: T, cursors: Cursors | None = None) -> None:
        self._target = target
        self._cursors: Cursors = MemoryCursors() if cursors is None else cursors

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands."""
        return await self._cursors.cursor(name)

    async def update(
        self,
        name: str,
        before: Cursor | None,
        after: Cursor,
        work: Callable[[T], Awaitable[None] | None],
    ) -> None:
        """Do `work`, then save the cursor; see `Views.update`."""
        check_cursor(name, before, await self._cursors.cursor(name))
        awaited: Any = work(self._target)
        if awaited is not None:
            await awaited
        await self._cursors.save(name, before, after)


def check_cursor(name: str, expected: Cursor | None, found: Cursor | None) -> None:
    """Raise `StateError` when somebody else has moved the cursor."""
    if expected != found:
        raise StateError(
            f"the cursor of projection {name!r} is at {_described(found)}, not at "
            f"{_described(expected)}: is it run twice?"
        )


def _described(cursor: Cursor | None) -> str:
    if cursor is None:
        return "nothing"
    return f"position {cursor.position} (version {cursor.version})"
