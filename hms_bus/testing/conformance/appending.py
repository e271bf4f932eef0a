"""Checks: what enters a log, at which place, and that it is sound."""

import asyncio
from typing import Any

from hms_bus.abc import EventLog, Expect
from hms_bus.attributes import new_envelope
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, ConflictError, EncodeError, UsageError
from hms_bus.testing.conformance.probes import equal, raises, read, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")


def event(subject: Subject, data: Any, topic: str = "a", /, **attributes: Any) -> Envelope:
    """Return an event that only this check can have written."""
    return new_envelope(subject.topic(topic), data, **(_own(subject) | attributes))


def _own(subject: Subject) -> dict[str, Any]:
    return {"source": subject.source}


async def kept(log: EventLog, subject: Subject, topic: str = ">") -> list[Any]:
    """Return the payloads of this check's records on `topic`."""
    records = await read(log, pattern=subject.topic(topic))
    return [record.envelope.decode() for record in records]


@check()
async def positions_begin_at_one_without_gaps(subject: Subject) -> None:
    """The first record of a log is at position 1, each further one at the next."""
    async with subject.open_log() as log:
        for number in range(5):
            await log.append([event(subject, number)])
        records = await read(log)
        positions = [record.position for record in records]
        equal(positions[0], 1, "position of the first record")
        equal(positions, list(range(1, len(positions) + 1)), "positions")


@check()
async def receipts_are_in_the_order_of_the_batch(subject: Subject) -> None:
    """A receipt has the id of its envelope and the position at which that can be read."""
    async with subject.open_log() as log:
        batch = [event(subject, number) for number in range(4)]
        receipts = [(await log.append([envelope]))[0] for envelope in batch]
        equal([r.id for r in receipts], [e.id for e in batch], "ids")
        for receipt, envelope in zip(receipts, batch, strict=True):
            [record] = await read(log, first=receipt.position, last=receipt.position)
            equal(record.envelope.id, envelope.id, "id of the record at the receipt's position")
        equal(await log.append([]), [], "receipts of an empty batch")


@check()
async def concurrent_appends_each_have_a_place(subject: Subject) -> None:
    """Appends that are under way at once get positions in the order in which they were made."""
    async with subject.open_log() as log:
        appending = [log.append([event(subject, number)]) for number in range(100)]
        receipts = [r for [r] in await within(asyncio.gather(*appending), "100 appends")]
        positions = [receipt.position or 0 for receipt in receipts]
        equal(positions, sorted(set(positions)), "positions")
        equal(await kept(log, subject), list(range(100)), "records")


@check()
async def a_record_is_the_envelope_that_was_appended(subject: Subject) -> None:
    """Attributes, extensions and payload of whatever kind come back as they were."""
    extensions = {"comexampleone": "näh 🧩", "comexampletwo": -7, "comexamplethree": True}
    payloads: list[Any] = [None, "", "text", b"", b"\x00\xff", [], {"a": [1, None, 2**64 - 1]}]
    async with subject.open_log() as log:
        for data in payloads:
            envelope = event(
                subject, data, subject="x", priority=9, time="2026-01-31T12:00:00.5+02:00"
            ).replace(extensions=extensions)
            [receipt] = await log.append([envelope])
            [record] = await read(log, first=receipt.position, last=receipt.position)
            equal(record.envelope.decode(), data, "payload")
            attributes = record.envelope.replace(data=None), envelope.replace(data=None)
            equal(attributes[0], attributes[1], "attributes")


@check("log-dedup")
async def an_id_is_kept_once(subject: Subject) -> None:
    """A repeated (source, id) is not appended again; its receipt has the first position."""
    async with subject.open_log() as log:
        one = event(subject, "first", id="7")
        [first] = await log.append([one])
        await log.append([event(subject, "between", id="8")])
        [again] = await log.append([one.replace(data="again", topic=subject.topic("b"))])
        equal((again.id, again.position, again.duplicate), ("7", first.position, True), "receipt")
        equal(await kept(log, subject), ["first", "between"], "records")


@check("log-dedup")
async def ids_belong_to_their_source(subject: Subject) -> None:
    """The same id of another source is another event, whatever the order of the ids."""
    async with subject.open_log() as log:
        for number, id_ in enumerate(("b", "a", "c", "", "B")):
            for source in ("/one", "/two"):
                envelope = event(subject, number, source=subject.source + source, id=id_ or "0")
                [receipt] = await log.append([envelope])
                that(not receipt.duplicate, f"{id_!r} of {source} counts as a duplicate")
        equal(len(await kept(log, subject)), 10, "number of records")
        for id_ in ("b", "a", "c", "0", "B"):
            [receipt] = await log.append(
                [event(subject, 0, source=f"{subject.source}/two", id=id_)]
            )
            that(receipt.duplicate, f"the second {id_!r} of /two is no duplicate")


@check("log-dedup", "log-batch")
async def a_batch_may_hold_duplicates(subject: Subject) -> None:
    """Doubles within a batch, and ones that the log holds, are left out; the others are kept."""
    async with subject.open_log() as log:
        old, new = event(subject, "old"), event(subject, "new")
        [first] = await log.append([old])
        receipts = await log.append([new, old, new, event(subject, "last")])
        equal([r.duplicate for r in receipts], [False, True, True, False], "duplicates")
        equal(receipts[1].position, first.position, "position of the old one")
        equal(receipts[2].position, receipts[0].position, "position of the double")
        equal(await kept(log, subject), ["old", "new", "last"], "records")


@check("log-dedup")
async def concurrent_doubles_are_kept_once(subject: Subject) -> None:
    """Of equal envelopes that are appended at once one is kept, the others are duplicates of it."""
    async with subject.open_log() as log:
        one = event(subject, "one")
        results = await within(asyncio.gather(*[log.append([one]) for _ in range(20)]), "appends")
        equal(sorted(r.duplicate for [r] in results), [False] + [True] * 19, "duplicates")
        equal(len({r.position for [r] in results}), 1, "number of positions")
        equal(await kept(log, subject), ["one"], "records")


@check("log-expect")
async def expect_compares_the_topics_last_position(subject: Subject) -> None:
    """`none` wants no record on the topic, a number its last position, `any` nothing."""
    async with subject.open_log() as log:
        [first] = await log.append([event(subject, 1)], expect="none")
        await log.append([event(subject, 2, "other")], expect="any")
        last = first.position or 0
        [second] = await log.append([event(subject, 3)], expect=last)
        wrong: list[tuple[Expect, int]] = [("none", 0), (last, last), (10**9, 10**9)]
        for expect, expected in wrong:
            with raises(ConflictError, f"append with expect={expect}") as caught:
                await log.append([event(subject, 4)], expect=expect)
            facts = (caught.error.topic, caught.error.expected, caught.error.actual)
            equal(facts, (subject.topic("a"), expected, second.position), "facts of the error")
        equal(await kept(log, subject), [1, 2, 3], "records")


@check("log-expect")
async def one_of_those_who_expect_the_same_wins(subject: Subject) -> None:
    """Of appends at once that expect the same position exactly one succeeds."""
    async with subject.open_log() as log:
        appending = [log.append([event(subject, n)], expect="none") for n in range(20)]
        gathered = asyncio.gather(*appending, return_exceptions=True)
        results = await within(gathered, "20 appends")
        won = [result for result in results if not isinstance(result, BaseException)]
        equal(len(won), 1, "number of winners")
        for lost in (result for result in results if isinstance(result, BaseException)):
            that(isinstance(lost, ConflictError), f"one failed with {lost!r}")
        equal(len(await kept(log, subject)), 1, "number of records")


@check("log-expect", "log-batch")
async def a_conflict_leaves_nothing_of_a_batch(subject: Subject) -> None:
    """When `expect` does not hold, nothing of the batch is kept; it must be of one topic."""
    async with subject.open_log() as log:
        await log.append([event(subject, 0)])
        with raises(ConflictError, "append of a batch with expect='none'"):
            await log.append([event(subject, n) for n in range(1, 4)], expect="none")
        with raises(UsageError, "expect for two topics"):
            await log.append([event(subject, 5), event(subject, 6, "b")], expect=1)
        equal(await kept(log, subject), [0], "records")


@check("log-expect", "log-dedup")
async def a_repeated_append_gets_its_answer_again(subject: Subject) -> None:
    """An append whose answer was lost can be repeated: duplicates, no conflict with itself."""
    async with subject.open_log() as log:
        one = event(subject, 1)
        [first] = await log.append([one], expect="none")
        [again] = await log.append([one], expect="none")
        equal((again.position, again.duplicate), (first.position, True), "second receipt")


@check("log-batch")
async def a_batch_stands_together(subject: Subject) -> None:
    """The records of a batch are neighbours, also when others append at once."""
    async with subject.open_log() as log:
        batches = [[event(subject, [batch, n]) for n in range(7)] for batch in range(12)]
        results = await within(asyncio.gather(*map(log.append, batches)), "appends")
        for receipts in results:
            first = receipts[0].position or 0
            equal([r.position for r in receipts], list(range(first, first + 7)), "positions")
        expected = [[batch, n] for batch in range(12) for n in range(7)]
        equal(await kept(log, subject), expected, "records")


@check("log-batch")
async def a_batch_is_kept_whole_or_not_at_all(subject: Subject) -> None:
    """One envelope that has no form keeps its whole batch out, and nobody else's."""
    async with subject.open_log() as log:
        batch = [event(subject, 1), event(subject, object()), event(subject, 3)]
        appending = asyncio.gather(
            log.append([event(subject, "before")]),
            log.append(batch),
            log.append([event(subject, "after")]),
            return_exceptions=True,
        )
        before, failed, after = await within(appending, "appends")
        that(isinstance(failed, EncodeError), f"the batch ended with {failed!r}")
        for fine in (before, after):
            that(not isinstance(fine, BaseException), f"another append failed with {fine!r}")
        equal(await kept(log, subject), ["before", "after"], "records")


@check()
async def every_error_is_one_of_ours(subject: Subject) -> None:
    """What a log refuses it refuses with a BusError, before anything is appended."""
    async with subject.open_log() as log:
        for data in (object(), {1: object()}, {"a": {1, object()}}):
            with raises(BusError, f"append of {data!r}"):
                await log.append([event(subject, data)])
        equal(await kept(log, subject), [], "records")
