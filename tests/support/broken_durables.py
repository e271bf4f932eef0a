"""Logs whose durables break one promise each, to show that the conformance suite notices.

`broken-durables:NAME?break=KIND`: a log in memory that keeps durables, and all right but one thing.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from msgspec.structs import replace

from hms_bus.abc import (
    Consumer,
    ConsumingLog,
    Delivery,
    Durable,
    DurableInfo,
    EventLog,
    Expect,
    Receipt,
    Settlement,
)
from hms_bus.envelope import Envelope
from hms_bus.plugins import Address, open_log
from tests.support.broken_logs import Faithful


@asynccontextmanager
async def open_broken_durables(address: Address) -> AsyncGenerator[EventLog]:
    """Open `broken-durables:NAME?break=KIND`."""
    async with open_log(f"memory:{address.path}") as log:
        assert isinstance(log, ConsumingLog)
        yield BROKEN[address.options["break"]](log)


class Whole(Faithful):
    """Wraps a log with durables and changes nothing. Contract: `hms_bus.abc.ConsumingLog`."""

    def __init__(self, log: ConsumingLog) -> None:
        super().__init__(log)
        self.keeper = log

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        return self.keeper.consume(durable)

    async def durables(self) -> list[DurableInfo]:
        return await self.keeper.durables()

    async def forget(self, name: str) -> None:
        await self.keeper.forget(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        await self.keeper.redrive(name, positions)


class Taking:
    """Wraps a consumer and changes nothing. Contract: `hms_bus.abc.Consumer`."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer

    async def fetch(self, limit: int) -> list[Delivery]:
        return await self.consumer.fetch(limit)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self.consumer.settle(settlements)

    def abandon(self) -> None:
        self.consumer.abandon()


class TakingWrongly(Whole):
    """Hands out consumers of the class `taking`."""

    taking: type[Taking] = Taking

    @asynccontextmanager
    async def consume(self, durable: Durable) -> AsyncGenerator[Consumer]:
        async with self.keeper.consume(durable) as consumer:
            yield self.taking(consumer)


# -- what is counted ---------------------------------------------------------------------------


class NeverCountsANak(TakingWrongly):
    """Takes every failure for one that was nobody's fault."""

    class Deferring(Taking):
        async def settle(self, settlements: Sequence[Settlement]) -> None:
            await super().settle(
                [replace(s, outcome="defer") if s.outcome == "nak" else s for s in settlements]
            )

    taking = Deferring


class NeverEndsAWait(Whole):
    """Waits for an ack as long as it takes."""

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        return super().consume(replace(durable, ack_wait_s=3600))


class RetriesAtOnce(TakingWrongly):
    """Takes no notice of a delay."""

    class Hasty(Taking):
        async def settle(self, settlements: Sequence[Settlement]) -> None:
            await super().settle([replace(s, delay_s=0) for s in settlements])

    taking = Hasty


class BelievesWhoIsLate(TakingWrongly):
    """Settles the attempt that is under way by the answer for an older one."""

    class Forgiving(Taking):
        def __init__(self, consumer: Consumer) -> None:
            super().__init__(consumer)
            self.attempts: dict[int, int] = {}

        async def fetch(self, limit: int) -> list[Delivery]:
            deliveries = await super().fetch(limit)
            self.attempts |= {each.record.position: each.attempt for each in deliveries}
            return deliveries

        async def settle(self, settlements: Sequence[Settlement]) -> None:
            await super().settle(
                [replace(s, attempt=self.attempts[s.position]) for s in settlements]
            )

    taking = Forgiving


class MakesNoDeadLetters(TakingWrongly):
    """Takes what will never succeed for handled."""

    class Dropping(Taking):
        async def settle(self, settlements: Sequence[Settlement]) -> None:
            await super().settle(
                [replace(s, outcome="ack") if s.outcome == "term" else s for s in settlements]
            )

    taking = Dropping


class ForgetsWhy(TakingWrongly):
    """Keeps a dead letter without the reason."""

    class Silent(Taking):
        async def settle(self, settlements: Sequence[Settlement]) -> None:
            await super().settle([replace(s, reason="") for s in settlements])

    taking = Silent


# -- what is delivered -------------------------------------------------------------------------


class MixesKeys(Whole):
    """Knows no keys, and delivers two of one at a time."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        return await super().append([e.replace(partitionkey=None) for e in envelopes])


class KnowsNoLimit(Whole):
    """Delivers more than may be unsettled."""

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        return super().consume(replace(durable, max_unacked=1000))


class LosesWhatNobodyWaitsFor(TakingWrongly):
    """Goes on fetching when the caller has gone, and keeps what comes for nobody."""

    class Careless(Taking):
        async def fetch(self, limit: int) -> list[Delivery]:
            fetching = asyncio.ensure_future(super().fetch(limit))
            _fetching.add(fetching)
            fetching.add_done_callback(_done)
            return await asyncio.shield(fetching)

    taking = Careless


_fetching: set[asyncio.Future[list[Delivery]]] = set()


def _done(fetching: asyncio.Future[list[Delivery]]) -> None:
    _fetching.discard(fetching)
    if not fetching.cancelled():
        fetching.exception()  # whoever waited has had it, or has gone


# -- what is kept ------------------------------------------------------------------------------


class ForgetsTheCursor(Whole):
    """Begins anew with each consumer."""

    @asynccontextmanager
    async def consume(self, durable: Durable) -> AsyncGenerator[Consumer]:
        async with self.keeper.consume(durable) as consumer:
            yield consumer
        await self.keeper.forget(durable.name)


class TakesDeliveredForHandled(Whole):
    """Tells how far it has caught up, not what was settled."""

    async def durables(self) -> list[DurableInfo]:
        return [replace(info, floor=info.delivered) for info in await super().durables()]


class LetsEverybodyIn(Whole):
    """Makes a group of those who asked for none."""

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        return super().consume(replace(durable, group=durable.group or "all"))


BROKEN: dict[str, Callable[[ConsumingLog], EventLog]] = {
    kind.__name__: kind
    for kind in (
        Whole,
        NeverCountsANak,
        NeverEndsAWait,
        RetriesAtOnce,
        BelievesWhoIsLate,
        MakesNoDeadLetters,
        ForgetsWhy,
        MixesKeys,
        KnowsNoLimit,
        LosesWhatNobodyWaitsFor,
        ForgetsTheCursor,
        TakesDeliveredForHandled,
        LetsEverybodyIn,
    )
}
