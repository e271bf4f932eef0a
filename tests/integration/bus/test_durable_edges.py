"""Durable subscriptions and schedules at their edges: opening, closing, garbage, a busy file."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hms_bus import Backoff, Bus, ConflictError, Envelope, Message, schedules
from hms_bus.abc import ConsumingLog, Durable, DurableInfo, Receipt
from hms_bus.attributes import new_envelope
from hms_bus.bus.middleware import Publish
from hms_bus.errors import ConfigError, UsageError


async def fill(url: str, count: int) -> None:
    async with Bus("direct://", log=url) as bus:
        await bus.publish_many([("orders.new", number) for number in range(count)])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'shop.db'}?busy=0.2"


async def test_a_handler_may_use_the_bus_from_its_first_message_on(url: str) -> None:
    await fill(url, 3)
    bus, seen, done = Bus("direct://", log=url), list[int](), asyncio.Event()

    @bus.subscribe("orders.new", durable="first", max_deliveries=1)
    async def pass_on(number: int) -> None:
        await bus.publish("orders.seen", number)

    for name in range(5):

        @bus.subscribe("orders.new", durable=f"other-{name}")
        async def look(number: int) -> None: ...

    @bus.subscribe("orders.seen")
    async def handle(number: int) -> None:
        seen.append(number)
        if len(seen) == 3:
            done.set()

    async with bus:
        await asyncio.wait_for(done.wait(), 10)
        assert [message async for message in bus.replay("$dlq.>")] == []
    assert seen == [0, 1, 2]


async def test_closing_does_not_wait_for_what_was_not_begun(url: str) -> None:
    await fill(url, 2000)
    bus, begun, handled = Bus("direct://", log=url), asyncio.Event(), list[int]()

    @bus.subscribe("orders.new", durable="slow")
    async def handle(number: int) -> None:
        begun.set()
        await asyncio.sleep(0.02)
        handled.append(number)

    async with bus:
        await begun.wait()
    assert 0 < len(handled) < 1000


async def test_a_file_that_is_busy_for_a_while_ends_nothing(url: str, tmp_path: Path) -> None:
    bus, seen, done = Bus("direct://", log=url), list[int](), asyncio.Event()

    @bus.subscribe("orders.new", durable="billing", backoff=Backoff(first_s=0.01))
    async def handle(number: int) -> None:
        seen.append(number)
        if number == 2:
            done.set()

    async with bus:
        await bus.publish("orders.new", 1)
        other = await asyncio.to_thread(hold, tmp_path / "shop.db")
        await asyncio.sleep(0.5)
        await asyncio.to_thread(other.close)
        await bus.publish("orders.new", 2)
        await asyncio.wait_for(done.wait(), 20)
    assert set(seen) == {1, 2}


def hold(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def test_what_is_no_schedule_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Bus("direct://", log="memory:") as bus,
        bus.subscribe("reminders") as reminders,
    ):
        payloads: tuple[Any, ...] = (
            {},
            {"envelope": {}, "at": "tomorrow"},
            {"envelope": {"id": 1}, "cron": "x"},
            {"envelope": {}, "cron": "* * * * *", "timezone": "Europe"},
            7,
            None,
        )
        for number, payload in enumerate(payloads):
            record = new_envelope(
                f"$schedule.bad-{number}", payload, source="/x", type="hms.bus.schedule.v1"
            )
            await bus.log.append([record])
        await bus.publish("reminders", "good", delay=0.05)
        assert (await asyncio.wait_for(anext(reminders), 10)).data == "good"
        letters = [message.data async for message in bus.replay("$dlq.scheduler")]
        assert [letter["code"] for letter in letters] == ["INVALID_ARGUMENT"] * 6
    assert "no schedule that can be run" in caplog.text


async def test_publish_middleware_that_fails_stops_no_other_schedule() -> None:
    bus = Bus("direct://", log="memory:")

    @bus.publish_middleware
    def refusing(publish: Publish) -> Publish:
        async def refuse(envelope: Envelope) -> Receipt:
            if envelope.topic == "refused":
                raise ZeroDivisionError("what a bug")
            return await publish(envelope)

        return refuse

    async with bus, bus.subscribe("taken") as taken:
        await bus.publish("refused", 1, delay=0.01)
        await bus.publish("taken", 2, delay=0.05)
        assert (await asyncio.wait_for(anext(taken), 10)).data == 2
        [letter] = [message.data async for message in bus.replay("$dlq.scheduler")]
    assert letter["code"] == "UNKNOWN"
    assert letter["reason"] == "it cannot be sent: ZeroDivisionError: what a bug"


async def test_what_takes_longer_than_the_ack_wait_is_sent_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedules, "SCHEDULER", replace(schedules.SCHEDULER, ack_wait_s=0.1))
    bus, sent = Bus("direct://", log="memory:", logged=["kept.>"]), list[Any]()

    @bus.publish_middleware
    def dawdling(publish: Publish) -> Publish:
        async def dawdle(envelope: Envelope) -> Receipt:
            sent.append(envelope.id)
            await asyncio.sleep(0.35)
            return await publish(envelope)

        return dawdle

    async with bus, bus.subscribe("slow") as slow:
        await bus.publish("slow", 1, delay=0.01)
        await asyncio.wait_for(anext(slow), 10)
        await until_durables(bus, lambda infos: infos[0].floor == 1)
    assert len(sent) == 1


async def until_durables(bus: Bus, hold: Callable[[list[DurableInfo]], bool]) -> None:
    assert isinstance(bus.log, ConsumingLog)
    async with asyncio.timeout(10):
        while not hold(await bus.log.durables()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_a_durable_that_cannot_be_read_stops_no_schedule(url: str, tmp_path: Path) -> None:
    async with Bus("direct://", log=url) as bus:
        assert isinstance(bus.log, ConsumingLog)
        async with bus.log.consume(Durable(name="billing", pattern="a")):
            pass
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("UPDATE durables SET settings = 'x'")
    async with Bus("direct://", log=url) as bus, bus.subscribe("a") as messages:
        await bus.publish("a", 1, delay=0.01)
        assert (await asyncio.wait_for(anext(messages), 10)).data == 1


async def test_without_a_schedule_there_is_no_durable_for_them() -> None:
    async with Bus("direct://", log="memory:") as bus:
        await bus.publish("a", 1)
        assert isinstance(bus.log, ConsumingLog)
        assert await bus.log.durables() == []
        await bus.publish("a", 2, delay=60)
        await until_durables(bus, lambda infos: len(infos) == 1)


async def test_who_waits_for_room_holds_up_no_other_schedule() -> None:
    async with (
        Bus("direct://", log="memory:") as bus,
        bus.subscribe("full", max_queue=1),
        bus.subscribe("free") as free,
    ):
        await bus.publish("full", 0)
        for _ in range(3):
            await bus.publish("full", 1, delay=0.01)
        await bus.publish("free", 2, delay=0.05)
        assert (await asyncio.wait_for(anext(free), 10)).data == 2


async def test_a_time_to_live_counts_from_when_it_is_sent() -> None:
    async with Bus("direct://", log="memory:") as bus, bus.subscribe("short") as messages:
        await bus.publish("short", 1, delay=0.3, ttl=0.2)
        message = await asyncio.wait_for(anext(messages), 10)
        assert message.data == 1
        sent, over = message.envelope.time_ns, message.envelope.expires_ns
        assert sent is not None
        assert over is not None
        assert abs(over - sent - 200_000_000) < 10_000_000


@pytest.mark.parametrize(
    "backoff",
    [Backoff(first_s=-1), Backoff(factor=0.5), Backoff(jitter=2), Backoff(max_s=float("inf"))],
)
def test_a_backoff_that_cannot_be_is_refused(backoff: Backoff) -> None:
    with pytest.raises(ConfigError, match="Backoff"):
        Bus("direct://", log="memory:").subscribe("a", durable="d", backoff=backoff)


def test_a_backoff_grows_to_its_limit_and_stays_there() -> None:
    backoff = Backoff(first_s=1, factor=10, max_s=60, jitter=0)
    assert [backoff.delay_s(attempt) for attempt in (1, 2, 3, 400, 100_000)] == [1, 10, 60, 60, 60]


async def test_what_follows_a_failure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    bus, attempts = Bus("direct://", log="memory:"), asyncio.Queue[int]()
    backoff = Backoff(first_s=0.015, jitter=0)

    @bus.subscribe("orders", durable="till", max_deliveries=2, backoff=backoff)
    async def bill(message: Message) -> None:
        attempts.put_nowait(message.attempt)
        raise ValueError("the till is closed") if message.data else UsageError("never")

    async with bus:
        await bus.publish("orders", 1)
        await bus.publish("orders", 0)
        async with asyncio.timeout(10):
            assert sorted([await attempts.get() for _ in range(3)]) == [1, 1, 2]
    for words in ("comes again in 0.015 s", "the last attempt", "would not help"):
        assert caplog.text.count(words) == 1


async def test_a_reason_may_be_anything_that_has_a_text() -> None:
    bus, done = Bus("direct://", log="memory:"), asyncio.Event()

    @bus.subscribe("a", durable="d")
    async def handle(number: int, message: Message) -> None:
        if number == 1:
            await message.term(ValueError("odd \ud800"))  # pyright: ignore[reportArgumentType]
        else:
            done.set()

    async with bus:
        await bus.publish("a", 1)
        await bus.publish("a", 2)
        await asyncio.wait_for(done.wait(), 10)
        [letter] = [message.data async for message in bus.replay("$dlq.d")]
    assert letter["reason"].startswith("odd ")


async def test_an_error_that_may_pass_is_tried_again() -> None:
    bus, attempts, done = Bus("direct://", log="memory:"), list[int](), asyncio.Event()

    @bus.subscribe("a", durable="d", backoff=Backoff(first_s=0.01))
    async def handle(number: int, message: Message) -> None:
        attempts.append(message.attempt)
        if message.attempt == 1:
            raise ConflictError(topic="a", expected=number, actual=2)
        done.set()

    async with bus:
        await bus.publish("a", 1)
        await asyncio.wait_for(done.wait(), 10)
    assert attempts == [1, 2]
