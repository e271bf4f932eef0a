"""Checks: a log is whole, says so, and stays so."""

import asyncio

from hms_bus.abc import Head, Selector
from hms_bus.errors import StateError
from hms_bus.testing.conformance.appending import event, kept
from hms_bus.testing.conformance.probes import equal, raises, read, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")


@check()
async def recorded_time_never_runs_backwards(subject: Subject) -> None:
    """Each record's time is that of the record before, or later."""
    async with subject.open_log() as log:
        for number in range(30):
            await log.append([event(subject, number)])
        times = [record.recorded_ns for record in await read(log)]
        equal(times, sorted(times), "recorded times")


@check()
async def a_cancelled_append_harms_nothing(subject: Subject) -> None:
    """Cancelling an append leaves all of it or nothing, and the log goes on."""
    async with subject.open_log() as log:
        appending = asyncio.create_task(log.append([event(subject, "maybe")]))
        await asyncio.sleep(0)
        appending.cancel()
        await asyncio.wait({appending})
        await log.append([event(subject, "surely")])
        found = await kept(log, subject)
        that(found in (["maybe", "surely"], ["surely"]), f"the records are {found}")


@check()
async def the_head_is_the_end(subject: Subject) -> None:
    """The head has the position and time of the last record, and moves with every append."""
    async with subject.open_log() as log:
        heads = [await log.head()]
        for number in range(3):
            [receipt] = await log.append([event(subject, number)])
            heads.append(await log.head())
            equal(heads[-1].position, receipt.position, "position of the head")
            [record] = await read(log, first=receipt.position)
            equal(heads[-1].recorded_ns, record.recorded_ns, "time of the head")
        equal(len({head.hash for head in heads}), 4, "number of different hashes")
        equal({len(head.hash) for head in heads}, {32}, "length of the hashes")


@check("log-verify")
async def a_whole_log_is_sound(subject: Subject) -> None:
    """`verify` reads every record, reports its progress, and finds nothing in a whole log."""
    async with subject.open_log() as log:
        before = await log.head()
        for number in range(20):
            await log.append([event(subject, number)])
        steps: list[tuple[int, int]] = []
        found = await log.verify(
            expected=before, progress=lambda done, total: steps.append((done, total))
        )
        that(found.is_sound, f"a problem was found: {found.problem}")
        equal((found.head, found.records), (await log.head(), found.head.position), "result")
        equal(steps[-1], (found.records, found.records), "the last step of the progress")


@check("log-verify")
async def a_head_kept_outside_tells_of_a_loss(subject: Subject) -> None:
    """A log that ends before a head which was kept elsewhere, or differs there, is not sound."""
    async with subject.open_log() as log:
        await log.append([event(subject, 1)])
        head = await log.head()
        beyond = Head(position=head.position + 5, hash=head.hash, recorded_ns=head.recorded_ns)
        other = Head(position=head.position, hash=b"\x01" * 32, recorded_ns=head.recorded_ns)
        for expected, what in ((beyond, "one that lies beyond the end"), (other, "another hash")):
            found = await log.verify(expected=expected)
            that(not found.is_sound, f"verify saw nothing wrong with {what}")


@check("log-survives-process")
async def a_log_that_was_closed_goes_on(subject: Subject) -> None:
    """Opened again, a log has its records, its head, its order and its duplicates."""
    one = event(subject, "one")
    async with subject.open_log() as log:
        [first] = await log.append([one])
        head = await log.head()
    async with subject.open_log() as log:
        equal(await log.head(), head, "head")
        equal(await kept(log, subject), ["one"], "records")
        [again] = await log.append([one])
        equal((again.position, again.duplicate), (first.position, True), "receipt of a double")
        [second] = await log.append([event(subject, "two")], expect=first.position or 0)
        equal(second.position, head.position + 1, "the next position")
        that((await log.verify(expected=head)).is_sound, "the log is not sound")


@check()
async def a_closed_log_refuses_everything(subject: Subject) -> None:
    """After its scope every use of a log raises StateError."""
    async with subject.open_log() as log:
        await log.append([event(subject, 1)])
    with raises(StateError, "append"):
        await log.append([event(subject, 2)])
    with raises(StateError, "head"):
        await log.head()
    with raises(StateError, "read"):
        _ = [record async for record in log.read(Selector())]
