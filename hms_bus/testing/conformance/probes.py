"""What checks wait and look with. Whatever is awaited here is awaited for a bounded time only."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.bus import Message, MessageStream
from hms_bus.errors import BusError
from hms_bus.testing.conformance.subject import Subject

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

patience_s: ContextVar[float] = ContextVar("patience_s", default=10.0)
"""How long a check waits for one effect before it fails."""

SHORT_S = (0.2, 1.0, 5.0)
"""Deadlines for checks that let one pass: the first, unless the machine was too busy to begin."""


def that(holds: object, otherwise: str) -> None:
    """Fail with `otherwise` unless `holds`."""
    if not holds:
        raise AssertionError(otherwise)


def equal(actual: object, expected: object, what: str) -> None:
    """Fail unless `actual` equals `expected`."""
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {actual!r}")


class Caught(Generic[E]):
    """Holds the error once the `raises` block is left."""

    error: E


@contextmanager
def raises(kind: type[E], what: str) -> Generator[Caught[E]]:
    """Fail unless the block raises a `kind`; `what` is done in it."""
    caught = Caught[E]()
    try:
        yield caught
    except kind as error:
        caught.error = error
    except BusError as error:
        raise AssertionError(f"{what}: expected {kind.__name__}, raised {error!r}") from error
    else:
        raise AssertionError(f"{what}: expected {kind.__name__}, nothing was raised")


async def within(awaitable: Awaitable[T], what: str) -> T:
    """Await, in this task. Fails when it takes longer than the patience of this run."""
    scope = asyncio.timeout(patience_s.get())
    try:
        async with scope:
            return await awaitable
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise AssertionError(f"{what}: not within {patience_s.get():g} s") from error


async def take(messages: MessageStream, count: int) -> list[Message]:
    """Return the next `count` messages."""
    taken: list[Message] = []
    while len(taken) < count:
        missing = f"message {len(taken) + 1} of {count} did not come"
        taken.append(await within(anext(messages), missing))
    return taken


def payloads(messages: list[Message]) -> list[Any]:
    """Return the payloads as builtins."""
    return [message.data for message in messages]


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Return once `condition` holds; for what no event tells, such as a counter."""

    async def hold() -> None:
        while not condition():  # noqa: ASYNC110 - what has an event is not waited for here
            await asyncio.sleep(0.002)

    await within(hold(), what)


_QUIET_S = 0.1


async def standstill(progress: Callable[[], int], what: str) -> None:
    """Return once `progress` does not change any more.

    It is taken to stand still when it has not moved for a moment, many times what a step takes
    between two processes: on a machine that is very busy a check can miss a failure by this, and
    cannot invent one.
    """

    async def settle() -> None:
        before, now = -1, progress()
        while now != before:
            await asyncio.sleep(_QUIET_S)
            before, now = now, progress()

    await within(settle(), what)


class Seen(Generic[T]):
    """What handlers have seen, in order."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._added = asyncio.Event()

    def add(self, item: T) -> None:
        """Note `item`, once more if need be."""
        self.items.append(item)
        self._added.set()

    async def reach(self, count: int, what: str = "handled") -> list[T]:
        """Return all that was seen, once it is at least `count` items."""

        async def grow() -> None:
            while len(self.items) < count:
                self._added.clear()
                await self._added.wait()

        try:
            await within(grow(), what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {len(self.items)} of {count}") from error
        return list(self.items)


class Gate:
    """Holds back who passes: `entered` waits for somebody to come, `open` lets all through."""

    def __init__(self) -> None:
        self._entered = asyncio.Event()
        self._opened = asyncio.Event()

    async def passing(self) -> None:
        """Stand at the gate until it is open."""
        self._entered.set()
        await self._opened.wait()

    async def entered(self) -> None:
        """Return when somebody has come to the gate."""
        await within(self._entered.wait(), "the handler did not begin")

    def open(self) -> None:
        """Let everybody through from now on."""
        self._opened.set()


async def carry(subject: Subject, data: Any, /, **options: Any) -> Message:
    """Publish `data` from one bus and return the message that another one receives."""
    topic = subject.topic("carried")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        await sender.publish(topic, data, **options)
        [message] = await take(messages, 1)
        return message


async def read(log: EventLog, **selector: Any) -> list[Record]:
    """Return all records that a selector of these fields selects."""
    return await within(_all(log.read(Selector(**selector))), f"reading {selector}")


async def follow(log: EventLog, **selector: Any) -> list[Record]:
    """Return the same and what is appended, until the selector's bound."""
    followed = _all(log.read(Selector(**selector), follow=True))
    return await within(followed, f"following {selector}")


async def _all(records: AsyncIterator[Record]) -> list[Record]:
    return [record async for record in records]


@asynccontextmanager
async def reading(records: AsyncIterator[Record]) -> AsyncGenerator[AsyncIterator[Record]]:
    """Use an iterator in a scope whose end closes it, if it can be closed."""
    try:
        yield records
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()
