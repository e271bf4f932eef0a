"""Checks: what comes out of a log, and in which order."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hms_bus.abc import EventLog, Record, Selector
from hms_bus.errors import TopicError
from hms_bus.testing.conformance.appending import event
from hms_bus.testing.conformance.probes import equal, follow, raises, read, reading, that, within
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("log")

_FAR_NS: int = 2**62
"""A time that is long after any record's."""


async def _fill(log: EventLog, subject: Subject, numbers: Sequence[int]) -> list[int]:
    """Append one event for each number and return their positions."""
    appended = [await log.append([event(subject, number)]) for number in numbers]
    return [receipt.position or 0 for [receipt] in appended]


def _numbers(records: Sequence[Record]) -> list[Any]:
    return [record.envelope.decode() for record in records]


@check()
async def all_is_read_in_order(subject: Subject) -> None:
    """A read without conditions yields every record, in the order of positions."""
    async with subject.open_log() as log:
        appending = [log.append([event(subject, number)]) for number in range(300)]
        await within(asyncio.gather(*appending), "300 appends")
        records = await read(log, pattern=subject.topic(">"))
        equal(_numbers(records), list(range(300)), "records")
        positions = [record.position for record in records]
        equal(positions, sorted(positions), "positions")


@check()
async def bounds_and_limit_belong_to_the_selection(subject: Subject) -> None:
    """`first` and `last` are inclusive, `limit` counts selected records, ranges may be empty."""
    async with subject.open_log() as log:
        places = await _fill(log, subject, range(10))
        mine = subject.topic(">")
        for selector, expected in (
            ({"first": places[3]}, [3, 4, 5, 6, 7, 8, 9]),
            ({"last": places[2]}, [0, 1, 2]),
            ({"first": places[3], "last": places[5]}, [3, 4, 5]),
            ({"first": places[4], "last": places[4]}, [4]),
            ({"first": places[5], "last": places[4]}, []),
            ({"first": places[9] + 1}, []),
            ({"first": places[2], "limit": 3}, [2, 3, 4]),
            ({"limit": 0}, []),
        ):
            equal(_numbers(await read(log, pattern=mine, **selector)), expected, f"{selector}")


@check()
async def a_pattern_selects_topics(subject: Subject) -> None:
    """A pattern selects records as it selects messages; what is no pattern is refused."""
    async with subject.open_log() as log:
        for topic in ("a", "a.b", "a.c", "a.b.c", "b"):
            await log.append([event(subject, topic, topic)])
        await log.append([event(subject, "system").replace(topic=f"${subject.name}.a")])
        for pattern, expected in (
            ("a", ["a"]),
            ("a.*", ["a.b", "a.c"]),
            ("a.>", ["a.b", "a.c", "a.b.c"]),
            ("{name}", ["a", "b"]),
            ("c.>", []),
        ):
            found = await read(log, pattern=subject.topic(pattern))
            equal(_numbers(found), expected, f"records of {pattern!r}")
        found = await read(log, pattern=f"${subject.name}.*")
        equal(_numbers(found), ["system"], "records of a system topic")
        with raises(TopicError, "read by what is no pattern"):
            await read(log, pattern="a..b")


@check()
async def attributes_select_records(subject: Subject) -> None:
    """`types`, `correlation` and `source` compare whole values, and add up."""
    async with subject.open_log() as log:
        for number in range(12):
            await log.append(
                [
                    event(
                        subject,
                        number,
                        type=f"t{number % 3}",
                        correlationid=f'c"{number % 2}\\ é',
                        source=f"{subject.source}/{number % 4}",
                    )
                ]
            )
        mine = subject.topic(">")
        for selector, expected in (
            ({"types": frozenset({"t1"})}, [1, 4, 7, 10]),
            ({"types": frozenset({"t1", "t2"})}, [1, 2, 4, 5, 7, 8, 10, 11]),
            ({"types": frozenset({"t"})}, []),
            ({"correlation": 'c"1\\ é'}, [1, 3, 5, 7, 9, 11]),
            ({"correlation": 'c"1'}, []),
            ({"source": f"{subject.source}/3"}, [3, 7, 11]),
            ({"source": f"{subject.source}/3", "types": frozenset({"t0"})}, [3]),
            ({"source": f"{subject.source}/0", "limit": 2}, [0, 4]),
        ):
            equal(_numbers(await read(log, pattern=mine, **selector)), expected, f"{selector}")


@check()
async def a_payload_is_no_attribute(subject: Subject) -> None:
    """Text in a payload that looks like an attribute selects nothing."""
    async with subject.open_log() as log:
        trap = {"type": "wanted", "source": "/wanted", "correlationid": "wanted"}
        await log.append([event(subject, trap)])
        mine = subject.topic(">")
        for selector in ({"source": "/wanted"}, {"correlation": "wanted"}):
            equal(await read(log, pattern=mine, **selector), [], f"{selector}")
        equal(await read(log, pattern=mine, types=frozenset({"wanted"})), [], "by type")


@check("log-read-backwards")
async def a_read_can_run_backwards(subject: Subject) -> None:
    """`backwards` yields the same records from the last to the first; `limit` counts from there."""
    async with subject.open_log() as log:
        places = await _fill(log, subject, range(200))
        mine = subject.topic(">")
        for selector, expected in (
            ({}, list(range(199, -1, -1))),
            ({"limit": 3}, [199, 198, 197]),
            ({"first": places[195]}, [199, 198, 197, 196, 195]),
            ({"last": places[3], "limit": 2}, [3, 2]),
            ({"first": places[5], "last": places[4]}, []),
        ):
            found = await read(log, pattern=mine, backwards=True, **selector)
            equal(_numbers(found), expected, f"backwards {selector}")


@check("log-read-by-time")
async def a_read_can_be_bound_by_time(subject: Subject) -> None:
    """`since_ns` and `until_ns` compare the recorded time, and both belong to the range."""
    async with subject.open_log() as log:
        await _fill(log, subject, range(40))
        mine = subject.topic(">")
        records = await read(log, pattern=mine)
        early, late = records[10].recorded_ns, records[30].recorded_ns
        bounds: list[dict[str, int]] = [
            {"since_ns": early},
            {"until_ns": late},
            {"since_ns": early, "until_ns": late},
            {"since_ns": late + 1, "until_ns": early - 1},
            {"since_ns": 0, "until_ns": _FAR_NS},
        ]
        for selector in bounds:
            since, until = selector.get("since_ns", 0), selector.get("until_ns", _FAR_NS)
            expected = [r for r in records if since <= r.recorded_ns <= until]
            found = await read(log, pattern=mine, **selector)
            equal(_numbers(found), _numbers(expected), f"{selector}")


@check("log-follow")
async def a_follower_misses_and_repeats_nothing(subject: Subject) -> None:
    """Where history ends and what is new begins, no record is missing and none comes twice."""
    async with subject.open_log() as log:
        await _fill(log, subject, range(100))
        mine = subject.topic(">")
        followers = [asyncio.create_task(follow(log, pattern=mine, limit=400)) for _ in range(3)]
        for start in range(100, 400, 20):
            appending = [log.append([event(subject, n)]) for n in range(start, start + 20)]
            await within(asyncio.gather(*appending), "appends")
        for follower in followers:
            equal(_numbers(await follower), list(range(400)), "what was followed")


@check("log-follow")
async def a_follower_waits_for_what_it_selects(subject: Subject) -> None:
    """A follower skips what it does not select, waits at the end, and goes on with what is new."""
    async with subject.open_log() as log:
        selector = Selector(pattern=subject.topic("b"))
        async with reading(log.read(selector, follow=True)) as records:
            for number in range(3):
                await log.append([event(subject, number, "a")])
                await log.append([event(subject, number, "b")])
                record = await within(anext(records), "the next record")
                equal(record.envelope.topic, subject.topic("b"), "topic")
                equal(record.envelope.decode(), number, "payload")


@check("log-follow")
async def a_follower_ends_at_its_bound(subject: Subject) -> None:
    """`last` and `limit` end a follower; those that are reached already end it at once."""
    async with subject.open_log() as log:
        places = await _fill(log, subject, range(5))
        mine = subject.topic(">")
        found = await follow(log, pattern=mine, last=places[4])
        equal(_numbers(found), [0, 1, 2, 3, 4], "up to the last record")
        beyond = follow(log, pattern=mine, first=places[3], last=places[4] + 2)
        following = asyncio.create_task(beyond)
        await _fill(log, subject, [5, 6, 7])
        equal(_numbers(await following), [3, 4, 5, 6], "up to a position that is yet to come")


@check()
async def a_read_can_be_left_early(subject: Subject) -> None:
    """An iterator that is closed in the middle holds nothing back: the log goes on and closes."""
    async with subject.open_log() as log:
        await _fill(log, subject, range(150))
        for _ in range(5):
            async with reading(log.read(Selector(pattern=subject.topic(">")))) as records:
                first = await within(anext(records), "a record")
                equal(first.envelope.decode(), 0, "payload")
        await _fill(log, subject, [150])
        last = (await log.head()).position
        that(await read(log, first=last), "the log does not go on")


@check()
async def a_read_never_waits_for_writers(subject: Subject) -> None:
    """Reads and appends at once: each read sees a whole beginning of what is appended."""
    async with subject.open_log() as log:

        async def append() -> None:
            for number in range(60):
                await log.append([event(subject, number)])

        writing = asyncio.create_task(append())
        lengths = [0]
        while not writing.done():
            found = _numbers(await read(log, pattern=subject.topic(">")))
            equal(found, list(range(len(found))), "a read during the appends")
            lengths.append(len(found))
            await asyncio.sleep(0)
        await writing
        equal(lengths, sorted(lengths), "how much each read has seen")
        equal(len(await read(log, pattern=subject.topic(">"))), 60, "records at the end")
