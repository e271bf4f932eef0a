"""Where projections write to: the seam, and targets that know no transactions of ours."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from hms_bus.errors import StateError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Cursor(Struct, frozen=True, kw_only=True):
    """The position of the last record that a projection has handled; 0 is none.

    `version` is that of the projection which has handled them.
    """

    position: int
    version: int


class Cursors(Protocol):
    """Cursors by the name of their projection."""

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands, `None` when it never ran."""
        ...

    async def save(self, name: str, cursor: Cursor) -> None:
        """Keep `cursor`, durable when this returns if the cursors are."""
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
        does, `StateError` if the cursor is not at `before`: two run the same projection.
        """
        ...


class MemoryCursors:
    """Cursors that end with the process."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands."""
        return self._cursors.get(name)

    async def save(self, name: str, cursor: Cursor) -> None:
        """Keep `cursor`."""
        self._cursors[name] = cursor


class Elsewhere(Generic[T]):
    """Any `target`: a dict, a client of a search engine. What is handled is so at least once.

    The cursor is saved to `cursors` after each batch. A process that dies before handles the batch
    again, so handlers are to be idempotent; the record's position tells what was handled.
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
        await self._cursors.save(name, after)


def check_cursor(name: str, expected: Cursor | None, found: Cursor | None) -> None:
    """Raise `StateError` when somebody else has moved the cursor."""
    if expected != found:
        raise StateError(
            f"the cursor of projection {name!r} is at {found}, not at {expected}: is it run twice?"
        )
