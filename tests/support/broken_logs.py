"""Logs that break one promise each, to show that the conformance suite notices.

`broken:NAME?break=KIND`: a log in memory that does all right but one thing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from hms_bus import jsonformat
from hms_bus.abc import (
    Capability,
    EventLog,
    Expect,
    Head,
    Receipt,
    Record,
    Selector,
    Verification,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import UnsupportedError
from hms_bus.plugins import Address, open_log


@asynccontextmanager
async def open_broken(address: Address) -> AsyncGenerator[EventLog]:
    """Open `broken:NAME?break=KIND`."""
    async with open_log(f"memory:{address.path}") as log:
        yield BROKEN[address.options["break"]](log)


class Faithful:
    """Wraps a log and changes nothing."""

    def __init__(self, log: EventLog) -> None:
        self.log = log

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.log.capabilities

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        return await self.log.append(envelopes, expect=expect)

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        return self.log.read(selector, follow=follow)

    async def head(self) -> Head:
        return await self.log.head()

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        return await self.log.verify(expected=expected, progress=progress)


class LeavesGaps(Faithful):
    """Positions go up by two."""

    async def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        async for record in super().read(selector, follow=follow):
            yield replace(record, position=2 * record.position)


class KeepsDoubles(Faithful):
    """The same id is appended again."""

    count = 0

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        self.count += 1
        fresh = [e.replace(id=f"{e.id}-{self.count}-{n}") for n, e in enumerate(envelopes)]
        return await super().append(fresh, expect=expect)


class IgnoresExpect(Faithful):
    """Appends whatever the caller expects."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        return await super().append(envelopes)


class ChecksBeforeItsTurn(Faithful):
    """Looks at the last position first, and appends a moment later."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        pattern = envelopes[0].topic
        found = [record async for record in self.read(Selector(pattern=pattern))]
        if expect == "any" or (expect == "none" and not found):
            await asyncio.sleep(0)
            return await super().append(envelopes)
        return await super().append(envelopes, expect=expect)


class TearsBatches(Faithful):
    """Appends one by one."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        receipts: list[Receipt] = []
        for envelope in envelopes:
            receipts += await super().append([envelope], expect=expect)
            await asyncio.sleep(0)
        return receipts


class AnswersBeforeTheCommit(Faithful):
    """Tells the position first, and appends a moment later."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        head = await self.head()
        loop = asyncio.get_running_loop()
        append = super().append
        self.late = loop.call_later(0.02, lambda: loop.create_task(append(envelopes)))
        return [
            Receipt(id=envelope.id, position=head.position + n + 1)
            for n, envelope in enumerate(envelopes)
        ]


class ExcludesTheLast(Faithful):
    """Takes `last` for the first position that is not wanted."""

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        if selector.last is not None:
            selector = replace(selector, last=max(0, selector.last - 1))
        return super().read(selector, follow=follow)


class LimitsBeforeItSelects(Faithful):
    """Counts records that are not selected."""

    async def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        count = 0
        async for record in super().read(replace(selector, limit=None), follow=follow):
            first = selector.first or 1
            if selector.limit is not None and record.position - first >= selector.limit:
                return
            count += 1
            yield record


class NeverRunsBackwards(Faithful):
    """Reads forwards, whatever is asked."""

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        return super().read(replace(selector, backwards=False), follow=follow)


class ExcludesTheMoment(Faithful):
    """Takes `until_ns` for the first time that is not wanted."""

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        if selector.until_ns is not None:
            selector = replace(selector, until_ns=selector.until_ns - 1)
        return super().read(selector, follow=follow)


class SkipsBetweenOldAndNew(Faithful):
    """Follows from the end that it finds after it has read what there was."""

    async def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        count = 0
        async for record in super().read(selector):
            count += 1
            yield record
        if not follow or count == selector.limit:
            return
        await asyncio.sleep(0.01)
        first = (await self.head()).position + 1
        left = None if selector.limit is None else selector.limit - count
        async for record in super().read(replace(selector, first=first, limit=left), follow=True):
            yield record


class FindsNothingWrong(Faithful):
    """Takes every head for its own."""

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        return await super().verify(progress=progress)


class TurnsTimeBack(Faithful):
    """Records by a clock that is set back."""

    async def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        async for record in super().read(selector, follow=follow):
            yield replace(record, recorded_ns=10**18 - record.position)


class LosesExtensions(Faithful):
    """Only keeps the attributes that it knows."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        return await super().append([e.replace(extensions=None) for e in envelopes], expect=expect)


class LooksIntoPayloads(Faithful):
    """Searches the whole record for what an attribute should be."""

    async def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        wide = replace(selector, types=frozenset[str](), source=None, correlation=None)
        wanted = {*selector.types, selector.source, selector.correlation} - {None}
        async for record in super().read(wide, follow=follow):
            document = jsonformat.encode(record.envelope).decode()
            if all(str(text) in document for text in wanted):
                yield record


class OpenForEver(Faithful):
    """Tells its head when it is closed, too."""

    last: Head

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        receipts = await super().append(envelopes, expect=expect)
        self.last = await super().head()
        return receipts

    async def head(self) -> Head:
        return self.last


class AcceptsWhatItDoesNotClaim(Faithful):
    """Does not claim to follow, and just ends when it is asked to."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return super().capabilities - {"log-follow"}

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        return super().read(selector)


class ClaimsLittle(Faithful):
    """Claims nothing beyond the contract, and says so: this breaks no promise."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset()

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        if expect != "any" or len(envelopes) > 1:
            raise UnsupportedError("expect= and batches", "this log")
        return await super().append(envelopes)

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        if selector.backwards or follow or (selector.since_ns, selector.until_ns) != (None, None):
            raise UnsupportedError("this read", "this log")
        return super().read(selector)

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        raise UnsupportedError("verify", "this log")


BROKEN: dict[str, Callable[[EventLog], EventLog]] = {
    kind.__name__: kind
    for kind in (
        Faithful,
        LeavesGaps,
        KeepsDoubles,
        IgnoresExpect,
        ChecksBeforeItsTurn,
        TearsBatches,
        AnswersBeforeTheCommit,
        ExcludesTheLast,
        LimitsBeforeItSelects,
        NeverRunsBackwards,
        ExcludesTheMoment,
        SkipsBetweenOldAndNew,
        FindsNothingWrong,
        TurnsTimeBack,
        LosesExtensions,
        LooksIntoPayloads,
        OpenForEver,
        AcceptsWhatItDoesNotClaim,
        ClaimsLittle,
    )
}
