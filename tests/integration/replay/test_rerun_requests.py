"""Requests and streams in reruns: unchanged agents ask and answer as they did."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from hms_bus import Bus, DeadlineExceededError
from hms_bus.abc import Record
from hms_bus.bounces import returned
from hms_bus.envelope import Envelope
from hms_bus.errors import NoRespondersError
from hms_bus.ids import format_time
from hms_bus.plugins import open_log
from hms_bus.replay import Outcome, compare, rerun
from hms_bus.replay.recording import Recording
from tests.support.runs import answered, said

Build = Callable[..., Bus]


async def recorded(path: Path, build: Build) -> str:
    """Let the agent handle `go` until it has said `out`; return the name of the log."""
    url, log = f"direct://{path.stem}", f"sqlite:{path}"
    async with (
        build(url, log),
        Bus(url, log=log, source="/desk") as desk,
        desk.subscribe("out") as news,
    ):
        await desk.publish("go")
        await asyncio.wait_for(anext(news), 10)
    return str(path)


def heard(outcome: Outcome) -> list[object]:
    return [output.decode() for output in outcome.outputs if output.topic == "out"]


def assert_same(outcome: Outcome) -> None:
    assert compare(outcome.recorded, outcome.outputs).is_same
    assert outcome.failures == []


async def test_an_event_with_a_ttl_is_no_request(tmp_path: Path) -> None:
    def both(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/both")

        @bus.serve("get")
        async def get(number: int) -> int:
            return number + 1

        @bus.subscribe("go")
        async def go() -> None:
            answers: list[int] = []
            for number in (1, 2):
                await bus.publish("get", 100, ttl=60)
                answers.append(await bus.request("get", number, returns=int))
            await bus.publish("out", answers)

        return bus

    path = await recorded(tmp_path / "ttl.db", both)
    outcome = await rerun(path, both, effects="strict")
    assert_same(outcome)
    assert heard(outcome) == [[2, 3]]


@pytest.mark.parametrize(("left_s", "answer"), [(3600, "yes"), (-1, "too late")])
async def test_an_answer_counts_until_the_deadline(
    tmp_path: Path, left_s: int, answer: str
) -> None:
    go = said("go", by="/desk")
    asked = said("get", 1, by="/agents/asking", cause=go)
    async with open_log(f"sqlite:{tmp_path / 'late.db'}") as log:
        await log.append([go])
        due_ns = (await log.head()).recorded_ns // 1000 * 1000 + left_s * 1_000_000_000
        asked = asked.replace(expirytime=format_time(due_ns))
        await log.append([asked])
        await log.append([answered(asked, "yes", by="/agents/tool")])

    def asking(url: str) -> Bus:
        bus = Bus(url, source="/agents/asking")

        @bus.subscribe("go")
        async def go() -> None:
            try:
                await bus.publish("out", await bus.request("get", 1, returns=str))
            except DeadlineExceededError:
                await bus.publish("out", "too late")

        return bus

    outcome = await rerun(str(tmp_path / "late.db"), asking, effects="strict")
    assert heard(outcome) == [answer]


async def test_a_recorded_reply_says_that_nobody_served_the_topic(tmp_path: Path) -> None:
    go = said("go", by="/desk")
    asked = said("get", 1, by="/agents/asking", cause=go, expirytime=format_time(2**62))
    bounced = returned(asked, NoRespondersError("get"), source="/hub")
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        await log.append([go, asked, bounced])

    def asking(url: str) -> Bus:
        bus = Bus(url, source="/agents/asking")

        @bus.subscribe("go")
        async def go() -> None:
            try:
                await bus.request("get", 1)
            except NoRespondersError:
                await bus.publish("out", "nobody")

        return bus

    outcome = await rerun(str(tmp_path / "run.db"), asking, effects="strict")
    assert heard(outcome) == ["nobody"]


async def test_a_request_that_nobody_has_answered_is_answered_by_nobody(tmp_path: Path) -> None:
    def both(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/both")

        @bus.serve("sleep")
        async def sleep() -> str:
            await asyncio.sleep(0.2)
            return "well"

        @bus.subscribe("go")
        async def go() -> None:
            with pytest.raises(DeadlineExceededError):
                await bus.request("sleep", timeout=0.02)
            await bus.publish("out")

        return bus

    path = await recorded(tmp_path / "never.db", both)
    assert_same(await rerun(path, both, effects="strict"))


@pytest.mark.parametrize("wanted", [1, 4])
async def test_a_stream_that_its_caller_left_is_left_again(tmp_path: Path, wanted: int) -> None:
    ended: list[int] = []

    def endless(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/endless")

        @bus.serve("ticks")
        async def ticks() -> AsyncIterator[int]:
            number = 0
            try:
                while True:
                    yield number
                    number += 1
            finally:
                ended.append(number)

        return bus

    url, log = "direct://endless", f"sqlite:{tmp_path / 'run.db'}"
    async with (
        endless(url, log),
        Bus(url, log=log, source="/desk") as desk,
        desk.request_stream("ticks", returns=int, credit=2) as items,
    ):
        for _ in range(wanted):
            await anext(items)
    outcome = await asyncio.wait_for(rerun(str(tmp_path / "run.db"), endless), 10)
    assert_same(outcome)
    assert len(outcome.outputs) >= wanted
    assert len(ended) == 2


async def test_a_stream_that_was_left_before_its_first_item_has_none(tmp_path: Path) -> None:
    request = said("ticks", by="/desk").replace(credit=4)
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        await log.append([request])

    def endless(url: str) -> Bus:
        bus = Bus(url, source="/agents/endless")

        @bus.serve("ticks")
        async def ticks() -> AsyncIterator[int]:
            while True:
                yield 0

        return bus

    outcome = await asyncio.wait_for(rerun(str(tmp_path / "run.db"), endless), 10)
    assert outcome.outputs == []


async def test_a_message_that_is_sent_later_is_an_output_of_its_handler(tmp_path: Path) -> None:
    def delaying(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/delaying")

        @bus.subscribe("go")
        async def go() -> None:
            await bus.publish("later", 1, delay=0.02)

        @bus.subscribe("later")
        async def later(number: int) -> None:
            await bus.publish("out", number)

        return bus

    path = await recorded(tmp_path / "delay.db", delaying)
    outcome = await rerun(path, delaying, effects="strict")
    assert_same(outcome)
    assert [output.topic for output in outcome.outputs] == ["later", "out"]


async def test_schedules_that_are_replaced_ended_or_open_are_said_again(tmp_path: Path) -> None:
    """Also where names are changed, and beside what a `cron` sends, which nobody says."""

    def scheduling(url: str, log: str | None = None, topic: str = "late") -> Bus:
        bus = Bus(url, log=log, source="/agents/scheduling")

        @bus.subscribe("go")
        async def go() -> None:
            await bus.schedule("open", topic, 1, delay=3600)
            await bus.schedule("replaced", topic, 2, delay=3600)
            await bus.schedule("replaced", topic, 3, delay=3600)
            await bus.unschedule("replaced")
            await bus.schedule("each", "tick", cron="* * * * * *")
            await bus.schedule("due", topic, 4, delay=0)

        @bus.subscribe("tick")
        async def tick() -> None:
            await bus.unschedule("each")
            await bus.publish("out", "done")

        return bus

    path = await recorded(tmp_path / "schedules.db", scheduling)
    for topic, remap in (("late", {}), ("later", {"late": "later"})):
        build = partial(scheduling, topic=topic)
        outcome = await rerun(path, build, remap=remap, effects="strict")
        assert_same(outcome)
        said = [output.decode() for output in outcome.outputs if output.topic == topic]
        assert said == [1, 2, 3, 4]


async def test_many_requests_of_one_handler_are_found_without_a_search_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = 300

    def both(url: str, log: str | None = None) -> Bus:
        bus = Bus(url, log=log, source="/agents/both")

        @bus.serve("get")
        async def get(number: int) -> int:
            return number

        @bus.subscribe("go")
        async def go() -> None:
            for number in range(requests):
                assert await bus.request("get", number) == number
            await bus.publish("out", "done")

        return bus

    looked_at = 0

    class Counted(Sequence[Record]):
        def __init__(self, records: Sequence[Record]) -> None:
            self._records = records

        def __len__(self) -> int:
            return len(self._records)

        def __getitem__(self, place: Any) -> Any:
            nonlocal looked_at
            looked_at += 1
            return cast("Any", self._records[place])

    found = Recording.records_caused_by
    path = await recorded(tmp_path / "many.db", both)

    def counted(recording: Recording, cause: str | None) -> Sequence[Record]:
        return Counted(found(recording, cause))

    monkeypatch.setattr(Recording, "records_caused_by", counted)
    assert_same(await rerun(path, both, effects="strict"))
    assert looked_at < 30 * requests


async def test_what_a_task_says_behind_its_handler_has_an_id_of_its_own(tmp_path: Path) -> None:
    async with open_log(f"sqlite:{tmp_path / 'run.db'}") as log:
        await log.append([said("go"), said("wait")])

    def leaving(url: str) -> Bus:
        bus = Bus(url, source="/agents/leaving")
        has_returned, is_done = asyncio.Event(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def later() -> None:
            await has_returned.wait()
            await bus.publish("out", "later")
            is_done.set()

        @bus.subscribe("go")
        async def go() -> None:
            await bus.publish("out", "at once")
            tasks.add(asyncio.create_task(later()))

        @bus.subscribe("wait")
        async def wait() -> None:
            has_returned.set()
            await is_done.wait()

        return bus

    outputs: list[Envelope] = (await rerun(str(tmp_path / "run.db"), leaving)).outputs
    assert [output.decode() for output in outputs] == ["at once", "later"]
    assert len({output.id for output in outputs}) == 2
