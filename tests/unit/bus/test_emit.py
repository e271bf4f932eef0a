"""Publishing without waiting."""

import asyncio
from typing import Any

import pytest

from hms_bus import Bus, Envelope, Message
from hms_bus.errors import EncodeError, QueueFullError
from tests.support.turns import turns


@pytest.mark.parametrize("log", [None, "memory:"])
@pytest.mark.parametrize("middleware", [False, True])
async def test_the_order_of_calls_is_kept(log: str | None, *, middleware: bool) -> None:
    bus, got = Bus(log=log), list[int]()
    if middleware:
        bus.publish_middleware(lambda publish: publish)

    @bus.subscribe("a", max_queue=4)
    async def take(n: int) -> None:
        await turns(1)
        got.append(n)

    async with bus:
        for n in range(100):
            bus.emit("a", n)
    assert got == list(range(100))


async def test_the_order_holds_while_a_subscription_is_being_opened() -> None:
    bus, got = Bus(), list[int]()

    async def take(n: int) -> None:
        got.append(n)

    async with bus:
        bus.subscribe("a")(take)
        for n in range(20):
            bus.emit("a", n)
            if n % 5 == 4:
                await asyncio.sleep(0)
    assert got == list(range(20))


async def test_options_are_those_of_publish() -> None:
    bus, seen = Bus(), list[Envelope]()

    @bus.subscribe("a")
    async def take(envelope: Envelope) -> None:
        seen.append(envelope)

    async with bus:
        bus.emit("a", 1, priority=9, id="mine")
        with pytest.raises(EncodeError):
            bus.emit("a", 1, priority=10)
    assert [(envelope.id, envelope.priority) for envelope in seen] == [("mine", 9)]


async def test_too_many_that_wait_are_refused() -> None:
    bus, gate = Bus(max_emits=3), asyncio.Event()

    @bus.subscribe("a", max_queue=1)
    async def slow() -> None:
        await gate.wait()

    async with bus:
        bus.emit("a")
        await turns()
        for _ in range(4):
            bus.emit("a")
        with pytest.raises(QueueFullError) as caught:
            bus.emit("a")
        assert caught.value.limit == 3
        gate.set()


async def test_too_many_that_wait_for_the_log_are_refused() -> None:
    async with Bus(log="memory:", max_emits=3) as bus:
        for _ in range(3):
            bus.emit("a")
        with pytest.raises(QueueFullError):
            bus.emit("a")
        await turns(20)
        bus.emit("a")


async def test_what_fails_later_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus(log="memory:")
    async with bus:
        bus.emit("a", object())
    [record] = caplog.records
    assert "background work for a failed" in record.getMessage()
    assert record.exc_info is not None


async def test_leaving_the_bus_waits_for_what_was_emitted_also_by_handlers() -> None:
    bus, got = Bus(log="memory:", max_hops=100), list[int]()

    @bus.subscribe("a")
    async def chain(n: int) -> None:
        got.append(n)
        if n < 20:
            bus.emit("a", n + 1)

    async with bus:
        bus.emit("a", 0)
    assert got == list(range(21))


async def test_an_emitting_handler_does_not_seem_to_wait() -> None:
    """It goes on at once, so the queue that it filled is no cycle."""
    bus, errors, handled = Bus(max_hops=1000), list[BaseException](), 0

    @bus.on_error
    def note(error: BaseException, _: Message) -> None:
        errors.append(error)

    @bus.subscribe("a", max_queue=1)
    async def ping(n: int) -> None:
        nonlocal handled
        handled += 1
        if n < 3:
            for _ in range(3):
                bus.emit("b", n + 1)

    @bus.subscribe("b", max_queue=1)
    async def pong(n: int) -> None:
        nonlocal handled
        handled += 1
        if n < 3:
            await bus.publish("a", n + 1)

    async with bus:
        await bus.publish("a", 0)
    assert errors == []
    assert handled == 1 + 3 + 3 + 9


async def test_emit_needs_no_await_and_returns_nothing() -> None:
    async with Bus() as bus:
        result: Any = bus.emit("a")
        assert result is None
