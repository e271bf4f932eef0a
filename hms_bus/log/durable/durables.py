"""All durables of one open log: who consumes which, and what is asked of them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from hms_bus.abc import Durable, DurableInfo, Selector
from hms_bus.errors import (
    DurableInUseError,
    LogCorruptError,
    LogReadOnlyError,
    UsageError,
)
from hms_bus.log.durable.engine import Engine, LogConsumer, Shelf
from hms_bus.log.durable.saved import Saved
from hms_bus.logrules import check_durable

_FIXED = ("pattern", "group")
"""What a durable keeps from its beginning to its end."""


class Durables:
    """The durables of the log at `path`, on one event loop."""

    def __init__(self, shelf: Shelf, path: str) -> None:
        self._shelf = shelf
        self._path = path
        self._engines: dict[str, Engine] = {}
        self._scopes: dict[str, AsyncExitStack] = {}
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def consume(self, durable: Durable) -> AsyncGenerator[LogConsumer]:
        """See `hms_bus.abc.ConsumingLog.consume`."""
        check_durable(durable)
        async with self._changing:
            engine = await self._engine_for(durable)
            consumer = LogConsumer(engine)
            engine.consumers.add(consumer)
        try:
            yield consumer
        finally:
            await asyncio.shield(self._leave(durable.name, engine, consumer))

    async def _engine_for(self, durable: Durable) -> Engine:
        engine = self._engines.get(durable.name)
        if engine is None:
            return await self._start(durable)
        _check_same(engine.cursor.durable, durable)
        if durable.group is None:
            raise DurableInUseError(
                f"the durable {durable.name!r} of {self._path} has a consumer already: give both "
                "the same group= to share it, or take another name",
                path=self._path,
                name=durable.name,
            )
        engine.cursor.configure(durable)
        return engine

    async def _start(self, durable: Durable) -> Engine:
        async with AsyncExitStack() as scope:
            scope.enter_context(self._shelf.claim(durable.name))
            saved = await self._shelf.load(durable.name)
            is_new = saved is None
            if saved is None:
                floor = await self._first_position(durable) - 1
                saved = Saved(durable=durable, floor=floor, delivered=floor, delivered_ns=0)
            _check_same(saved.durable, durable)
            engine = Engine(self._shelf, saved, is_new=is_new)
            engine.cursor.configure(durable)
            scope.push_async_callback(engine.stop)
            await engine.start()
            await engine.keep()
            self._engines[durable.name] = engine
            self._scopes[durable.name] = scope.pop_all()
        return engine

    async def _leave(self, name: str, engine: Engine, consumer: LogConsumer) -> None:
        async with self._changing:
            consumer.close()
            if not engine.consumers:
                del self._engines[name]
                await self._scopes.pop(name).aclose()

    async def _first_position(self, durable: Durable) -> int:
        """Return the position that a new durable begins with."""
        # Before it is searched: what is appended meanwhile lies behind it.
        head = (await self._shelf.head()).position
        if durable.start_ns is not None:
            selector = Selector(since_ns=durable.start_ns, limit=1)
            async for batch in self._shelf.read_batches(selector):
                return batch[0].position
        if durable.start == "beginning" and durable.start_ns is None:
            return 1
        if durable.start_ns is not None or isinstance(durable.start, str):
            return head + 1
        return durable.start

    async def infos(self) -> list[DurableInfo]:
        """See `hms_bus.abc.ConsumingLog.durables`."""
        for engine in list(self._engines.values()):
            with suppress(LogReadOnlyError):  # what is kept can be told all the same
                await engine.keep()
        infos: list[DurableInfo] = []
        for saved in await self._shelf.load_all():
            engine = self._engines.get(saved.durable.name)
            if engine is None:  # nobody consumes it here
                engine = Engine(self._shelf, saved)
                await engine.take_up()
            infos.append(await engine.info())
        return infos

    async def forget(self, name: str) -> None:
        """See `hms_bus.abc.ConsumingLog.forget`."""
        async with self._changing:
            if name in self._engines:
                raise DurableInUseError(
                    f"the durable {name!r} of {self._path} has a consumer: stop it first",
                    path=self._path,
                    name=name,
                )
            with self._shelf.claim(name):
                with suppress(LogCorruptError):
                    await self._saved(name)
                await self._shelf.remove(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """See `hms_bus.abc.ConsumingLog.redrive`."""
        async with self._changing:
            engine = self._engines.get(name)
            if engine is not None:
                await self._redrive(engine, positions)
                return
            with self._shelf.claim(name):
                engine = Engine(self._shelf, await self._saved(name))
                await engine.start()
                try:
                    await self._redrive(engine, positions)
                finally:
                    await engine.stop()

    async def _redrive(self, engine: Engine, positions: Sequence[int]) -> None:
        dead = engine.cursor.dead_positions
        wanted = sorted(set(positions))
        for position in wanted:
            if position not in dead:
                raise UsageError(
                    f"position {position} is no dead letter of {engine.cursor.durable.name!r} (any "
                    f"more): `hms-bus dlq ls` lists those that are"
                )
        await engine.redrive(await self._shelf.read_at(wanted))

    async def _saved(self, name: str) -> Saved:
        saved = await self._shelf.load(name)
        if saved is None:
            raise UsageError(
                f"{self._path} has no durable {name!r}: `hms-bus durable ls` lists them"
            )
        return saved


def _check_same(known: Durable, wanted: Durable) -> None:
    for field in _FIXED:
        was, is_now = getattr(known, field), getattr(wanted, field)
        if was != is_now:
            raise UsageError(
                f"the durable {known.name!r} exists with {field}={was!r} and was asked for with "
                f"{is_now!r}: ask for the same, take another name, or remove it with "
                f"`hms-bus durable rm {known.name}`"
            )
