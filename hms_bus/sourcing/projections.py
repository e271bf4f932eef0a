"""Projections: handlers that turn the events of a log into rows, from a saved position on.

    balances: Projection[Connection] = Projection("balances", "accounts.*")

    @balances.setup
    def create(rows: Connection) -> None: ...

    @balances.on(Deposited)
    def deposited(event: Deposited, rows: Connection) -> None: ...

    async with open_views("views.db") as views:
        await balances.run(bus.log, views)

Where the rows are decides how often an event has its effect (`hms_bus.sourcing.views`).
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, TypeVar

from msgspec.structs import replace

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.errors import ConfigError, ProjectionError, StateError, UsageError
from hms_bus.sourcing.batches import batches_of
from hms_bus.sourcing.events import EventTypes
from hms_bus.sourcing.following import Following
from hms_bus.sourcing.handling import (
    Failed,
    Handling,
    Step,
    asynchronous,
    check_plain,
    is_async,
)
from hms_bus.sourcing.vault import Vault, check_vault
from hms_bus.sourcing.views import Cursor, Views
from hms_bus.topics import parse_pattern

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])
P = TypeVar("P", bound=Callable[[Any], Awaitable[None] | None])

_PARAMETERS = {2, 3}


class Projection(Generic[T]):
    """Rows in a target of type `T` that follow from the events on topics that match `pattern`.

    `name` is that of the cursor. Raise `version` when the handlers change: what an older version
    has made must be rebuilt. Handlers run one at a time, in the order of the log. Types that no
    handler is for are passed over. Raises `TopicError`, `ConfigError`.
    """

    def __init__(
        self, name: str, pattern: str = ">", *, version: int = 1, vault: Vault | None = None
    ) -> None:
        parse_pattern(pattern)
        if not name:
            raise ConfigError("a projection needs a name: its cursor is saved by it")
        self.name = name
        self.pattern = pattern
        self.version = version
        self._vault = vault
        self._handlers: dict[type, Step] = {}
        self._setup: list[Callable[[Any], Any]] = []
        self._reset: list[Callable[[Any], Any]] = []

    def on(self, *events: type) -> Callable[[H], H]:
        """Handle events of these classes: a decorator.

        The handler gets the event and the target, and as a third, if it has one, the `Record`. It
        may be asynchronous where the target is not transactional.
        """

        def decorate(handler: H) -> H:
            count = len(inspect.signature(handler).parameters)
            if count not in _PARAMETERS:
                raise ConfigError(
                    f"{handler.__qualname__} has {count} parameters: a handler of a projection "
                    "takes the event, the target, and the record if it wants it"
                )
            for event in events:
                if event in self._handlers:
                    raise ConfigError(f"{self.name!r} handles {event.__name__} already")
                self._handlers[event] = Step(handler, count == max(_PARAMETERS))
            EventTypes(self._handlers)
            return handler

        return decorate

    def setup(self, function: P) -> P:
        """Have `function` prepare the target before the first event: a decorator."""
        self._setup.append(function)
        return function

    def reset(self, function: P) -> P:
        """Have `function` remove all rows before a rebuild: a decorator."""
        self._reset.append(function)
        return function

    async def run(self, log: EventLog, views: Views[T], *, follow: bool = False) -> int:
        """Handle what was not handled yet, up to the end of the log; return the cursor's position.

        With `follow`, go on with what is appended, until the log closes or the call is cancelled;
        what is under way is handled to its end before. Raises `ProjectionError` at the record that
        a handler or its event's payload fails on: all before it is handled and saved. Raises
        `UsageError` when an older version has made the rows, `ConfigError`, `StateError` when the
        same projection runs elsewhere or the log does not hold the record at the cursor (it was
        compacted or restored, or is another one), and what reading and the target raise.
        """
        return await self._run(log, views, moved=_nothing, follow=follow)

    async def _run(
        self, log: EventLog, views: Views[T], *, moved: Callable[[int], None], follow: bool
    ) -> int:
        handling = self._handling(views)
        cursor = await self._begin(views)
        await self._check_log(log, cursor)
        moved(cursor.position)
        selector = Selector(pattern=self.pattern, first=cursor.position + 1)
        async with aclosing(batches_of(log, selector, follow=follow)) as batches:
            async for batch in batches:
                cursor = await self._handle(handling, views, cursor, batch)
                moved(cursor.position)
        return cursor.position

    async def rebuild(self, log: EventLog, views: Views[T], *, follow: bool = False) -> int:
        """Remove the rows, if there are any, and `run` from the first record on.

        Readers see the rows grow meanwhile; to spare them that, rebuild into other views and swap.
        Raises `UsageError` when nothing was declared by `reset`, and as `run`.
        """
        if not self._reset:
            raise UsageError(
                f"{self.name!r} cannot be rebuilt: declare what removes its rows by @….reset"
            )
        self._handling(views)
        before = await views.cursor(self.name)
        after = Cursor(position=0, version=self.version)
        reset = [] if before is None else self._reset
        await views.update(self.name, before, after, _each((*reset, *self._setup), views))
        return await self.run(log, views, follow=follow)

    @asynccontextmanager
    async def running(self, log: EventLog, views: Views[T]) -> AsyncGenerator[Following]:
        """Keep the rows up to date as long as the scope lasts.

            async with balances.running(bus.log, views) as rows:
                receipt = await bus.publish(...)
                await rows.reached(receipt.position)

        The scope ends with what `run` raised, if that ended it before.
        """
        following = Following(self.name)
        async with following.beside(self._run(log, views, moved=following.move, follow=True)):
            yield following

    def _handling(self, views: Views[T]) -> Handling:
        types = EventTypes(self._handlers)
        check_vault(types.classes, self._vault)
        functions = [
            *(step.handler for step in self._handlers.values()),
            *self._setup,
            *self._reset,
        ]
        awaited = [function for function in functions if is_async(function)]
        if awaited and views.is_transactional:
            raise asynchronous(awaited[0])
        return Handling(types, self._handlers, self._vault, is_async=not views.is_transactional)

    async def _begin(self, views: Views[T]) -> Cursor:
        cursor = await views.cursor(self.name)
        if cursor is None:
            cursor = Cursor(position=0, version=self.version)
            await views.update(self.name, None, cursor, _each(self._setup, views))
        if cursor.version != self.version:
            raise UsageError(
                f"the rows of {self.name!r} were made by version {cursor.version}, this is version "
                f"{self.version}: rebuild() them"
            )
        return cursor

    async def _check_log(self, log: EventLog, cursor: Cursor) -> None:
        """Raise `StateError` unless the log holds, in its place, what was handled last."""
        if not cursor.position:
            return
        place = Selector(pattern=self.pattern, first=cursor.position, last=cursor.position)
        if [record.envelope.id async for record in log.read(place)] == [cursor.event_id]:
            return
        raise StateError(
            f"the rows of {self.name!r} follow from another log: position {cursor.position} of "
            f"this one is not the event {cursor.event_id!r} on {self.pattern!r}, which they were "
            "made of last; if the log was compacted or restored, rebuild() them"
        )

    async def _handle(
        self, handling: Handling, views: Views[T], cursor: Cursor, batch: Sequence[Record]
    ) -> Cursor:
        """Handle a batch and return where the cursor is then. Raises `ProjectionError`."""
        try:
            records = await handling.prepare(batch)
        except Failed as failure:
            if failure.index:
                await self._handle(handling, views, cursor, batch[: failure.index])
            raise self._stopped(batch, failure) from failure.cause
        try:
            return await self._update(handling.apply(records), views, cursor, records)
        except Failed as failure:
            good = records[: failure.index]
            if good:
                # Rolled back with the others where there is a transaction, and done elsewhere.
                work = handling.apply(good) if views.is_transactional else _nothing
                await self._update(work, views, cursor, good)
            raise self._stopped(records, failure) from failure.cause

    def _stopped(self, records: Sequence[Record], failure: Failed) -> ProjectionError:
        record, cause = records[failure.index], failure.cause
        return ProjectionError(
            f"{type(cause).__name__}: {cause}",
            name=self.name,
            position=record.position,
            topic=record.envelope.topic,
            type=record.envelope.type,
        )

    async def _update(
        self,
        work: Callable[[T], Awaitable[None] | None],
        views: Views[T],
        cursor: Cursor,
        records: Sequence[Record],
    ) -> Cursor:
        last = records[-1]
        after = replace(cursor, position=last.position, event_id=last.envelope.id)
        await views.update(self.name, cursor, after, work)
        return after


def _nothing(target: object) -> None:
    """Only the cursor moves."""


def _each(
    functions: Sequence[Callable[[Any], Any]], views: Views[Any]
) -> Callable[[Any], Awaitable[None] | None]:
    """Return the work of calling them in order."""

    def call(target: object) -> None:
        for function in functions:
            if (result := function(target)) is not None:
                check_plain(function, result)

    async def call_awaited(target: object) -> None:
        for function in functions:
            awaited = function(target)
            if inspect.isawaitable(awaited):
                await awaited

    return call if views.is_transactional else call_awaited
