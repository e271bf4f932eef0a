"""A log behind the transport, which delivers what it keeps: what is left for the bus to do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import pytest

from hms_bus import Bus, Envelope, Receipt
from hms_bus.abc import EventLog, Expect, Selector
from hms_bus.bus.middleware import Publish
from hms_bus.errors import (
    ConflictError,
    DeadlineExceededError,
    LogReadOnlyError,
    NoRespondersError,
    QueueFullError,
    RemoteError,
    UnsupportedError,
)
from tests.support.keeping import KeepingTransport, Kept
from tests.support.turns import turns

pytestmark = pytest.mark.usefixtures("keeping")

Sent = list[tuple[str, str | None, str | None]]


_numbers = count()


def kept_bus(**settings: Any) -> Bus:
    """A bus alone at its address, with a delivering log."""
    defaults: dict[str, Any] = {"log": "memory:", "drain_timeout_s": 5.0}
    return Bus(f"keeping:kept{next(_numbers)}", **(defaults | settings))


def transport_of(bus: Bus) -> KeepingTransport:
    [link] = bus._opened().links
    assert isinstance(link.transport, KeepingTransport)
    return link.transport


def log_of(bus: Bus) -> Kept:
    assert isinstance(bus.log, Kept)
    return bus.log


def sent(messages: Sequence[tuple[Envelope, str | None, str | None]]) -> Sent:
    return [(envelope.topic, to, reply_to) for envelope, to, reply_to in messages]


def collecting(bus: Bus, pattern: str = ">") -> list[Any]:
    """The payloads of what a handler on `pattern` gets."""
    got: list[Any] = []

    @bus.subscribe(pattern)
    async def take(data: Any) -> None:
        got.append(data)

    return got


async def topics_in(log: EventLog) -> list[str]:
    return [record.envelope.topic async for record in log.read(Selector())]


# -- events ----------------------------------------------------------------------------------------


async def test_the_log_delivers_and_the_bus_does_not() -> None:
    bus = kept_bus()
    got = collecting(bus)
    async with bus:
        log, transport = log_of(bus), transport_of(bus)
        receipts = [await bus.publish("a", n) for n in range(3)]
        assert [receipt.position for receipt in receipts] == [1, 2, 3]
        assert bus.stats().published == 3
        bus.emit("a", 3)
        await bus._opened().background.finished()
    assert sent(log.sent) == [("a", None, None)] * 4
    assert transport.sent == []
    assert got == [0, 1, 2, 3]


async def test_what_is_not_logged_goes_over_the_transport() -> None:
    bus = kept_bus(logged=["kept"])
    got = collecting(bus)
    async with bus:
        assert (await bus.publish("kept", 1)).position == 1
        assert (await bus.publish("other", 2)).position is None
        assert sent(log_of(bus).sent) == [("kept", None, None)]
        assert sent(transport_of(bus).sent) == [("other", None, None)]
        with pytest.raises(UnsupportedError):
            await bus.publish("other", 3, expect="none")
    assert got == [1, 2]


async def test_a_duplicate_and_a_conflict_are_delivered_to_nobody() -> None:
    bus = kept_bus()
    got = collecting(bus)
    async with bus:
        await bus.publish("a", 1, id="same", expect="none")
        again = await bus.publish("a", 2, id="same")
        assert (again.position, again.duplicate) == (1, True)
        with pytest.raises(ConflictError):
            await bus.publish("a", 3, expect="none")
        with pytest.raises(ConflictError):
            await bus.publish_many([("a", 4), ("a", 5)], expect=7)
    assert got == [1]


async def test_a_refusal_says_where_the_log_keeps_the_message() -> None:
    bus, gate = kept_bus(), asyncio.Event()

    @bus.subscribe("a", max_queue=1, overflow="error")
    async def slow() -> None:
        await gate.wait()

    async with bus:
        await bus.publish("a")
        await turns()
        await bus.publish("a")
        with pytest.raises(QueueFullError) as caught:
            await bus.publish("a")
        assert (caught.value.position, caught.value.retryable) == (3, False)
        gate.set()


@pytest.mark.parametrize("many", [False, True])
async def test_what_a_cancelled_call_has_published_is_delivered_once(*, many: bool) -> None:
    bus, gate = kept_bus(), asyncio.Event()
    got = collecting(bus)
    async with bus:
        log_of(bus).gate = gate.wait
        work = bus.publish_many([("a", 1), ("b", 2)]) if many else bus.publish("a", 1)
        publishing: asyncio.Future[Any] = asyncio.ensure_future(work)
        await turns()
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        assert not bus._opened().background
        gate.set()
        await turns()
        assert got == ([1, 2] if many else [1])
        assert await topics_in(bus.log) == (["a", "b"] if many else ["a"])


async def test_an_open_log_of_the_process_is_never_taken_for_one_that_delivers() -> None:
    routed = Bus("direct://", log="memory:", routes={"far.>": "keeping:routed?log=memory%3Arouted"})
    got = collecting(routed)
    async with routed:
        assert (await routed.publish("far.a", 1)).position == 1
        assert (await routed.publish("near.b", 2)).position == 2
        assert await topics_in(routed.log) == ["far.a", "near.b"]
        far = next(link.transport for link in routed._opened().links if link.pattern)
        assert isinstance(far, KeepingTransport)
        assert sent(far.sent) == [("far.a", None, None)]
    assert got == [1, 2]


# -- batches ---------------------------------------------------------------------------------------


async def test_of_a_batch_the_log_delivers_first_what_it_keeps() -> None:
    bus = kept_bus(logged=["kept.>"])
    got = collecting(bus)
    async with bus:
        receipts = await bus.publish_many(
            [("other.a", 1), ("kept.a", 2), ("other.b", 3), ("kept.b", 4)]
        )
        assert [receipt.position for receipt in receipts] == [None, 1, None, 2]
        assert sent(transport_of(bus).sent) == [("other.a", None, None), ("other.b", None, None)]
        assert await bus.publish_many([]) == []
        assert bus.stats().published == 4
    assert got == [2, 4, 1, 3]


async def test_a_batch_that_is_not_kept_is_not_delivered_in_part() -> None:
    bus = kept_bus()
    got = collecting(bus)
    async with bus:
        with pytest.raises(ConflictError):
            await bus.publish_many([("a", 1), ("a", 2)], expect=1)
        with pytest.raises(UnsupportedError):
            await bus.publish_many([("a", 1), ("$unlogged", 2)], expect="none")
        assert transport_of(bus).sent == []
    assert got == []


async def test_a_refusal_comes_when_the_others_of_the_batch_were_delivered() -> None:
    bus, gate = kept_bus(logged=["kept"]), asyncio.Event()
    got = collecting(bus)

    @bus.subscribe("kept", max_queue=1, overflow="error")
    async def slow() -> None:
        await gate.wait()

    async with bus:
        messages = [("kept", 1), ("kept", 2), ("other", 3), ("kept", 4)]
        with pytest.raises(QueueFullError) as caught:
            await bus.publish_many(messages)
        assert caught.value.position is not None
        gate.set()
    assert got == [1, 2, 4, 3]


# -- requests --------------------------------------------------------------------------------------


async def test_a_request_and_its_reply_are_sent_by_the_log() -> None:
    bus = kept_bus()

    @bus.serve("square")
    async def answer(n: int) -> int:
        return n * n

    async with bus:
        assert await bus.request("square", 3) == 9
        inbox = bus._opened().links[0].inbox.address
        assert sent(log_of(bus).sent) == [
            ("square", None, inbox),
            ("$reply.square", inbox, None),
        ]
        assert transport_of(bus).sent == []
        assert await topics_in(bus.log) == ["square", "$reply.square"]


async def test_a_request_that_the_log_has_already_is_answered_again() -> None:
    bus = kept_bus()

    @bus.serve("ask")
    async def answer() -> str:
        return "answer"

    async with bus:
        for _ in range(2):
            assert await bus.request("ask", id="same") == "answer"
        assert [topic for topic, *_ in sent(transport_of(bus).sent)] == ["ask"]
        assert await topics_in(bus.log) == ["ask", "$reply.ask", "$reply.ask"]


async def test_items_give_the_address_for_control() -> None:
    bus = kept_bus()

    @bus.serve("numbers")
    async def numbers(n: int) -> AsyncIterator[int]:
        for item in range(n):
            yield item

    async with bus:
        async with bus.request_stream("numbers", 4, credit=2) as items:
            assert [item async for item in items] == [0, 1, 2, 3]
        inbox = bus._opened().links[0].inbox.address
        replies = [message for message in sent(log_of(bus).sent) if message[1]]
        item = ("$reply.numbers", inbox, f"{inbox}.control")
        assert replies == [item] * 4 + [("$reply.numbers", inbox, None)]
        assert {topic for topic, *_ in sent(transport_of(bus).sent)} == {"$control"}


async def test_nobody_serving_is_known_although_the_request_is_kept() -> None:
    async with kept_bus() as bus:
        with pytest.raises(NoRespondersError):
            await bus.request("nobody")
        with pytest.raises(NoRespondersError):
            await bus.request_many("nobody")
        with pytest.raises(NoRespondersError):
            async with bus.request_stream("nobody"):
                pass
        assert await topics_in(bus.log) == ["nobody"] * 3


async def test_an_answer_need_not_wait_for_the_room_of_who_only_listens() -> None:
    bus, gate = kept_bus(), asyncio.Event()
    receipts: list[Receipt] = []

    @bus.publish_middleware
    def noting(publish: Publish) -> Publish:
        async def note(envelope: Envelope) -> Receipt:
            receipts.append(await publish(envelope))
            return receipts[-1]

        return note

    @bus.subscribe("ask", max_queue=1)
    async def slow() -> None:
        await gate.wait()

    @bus.serve("ask")
    async def answer() -> AsyncIterator[str]:
        yield "answer"

    async with bus:
        for _ in range(4):
            async with bus.request_stream("ask") as items:
                assert [item async for item in items] == ["answer"]
        gate.set()
    assert [receipt.position is None for receipt in receipts] == [False, False, True, True]


async def test_a_request_waits_for_the_log_no_longer_than_its_deadline() -> None:
    bus, gate = kept_bus(), asyncio.Event()

    @bus.serve("ask")
    async def answer() -> str:
        return "too late"

    async with bus:
        log_of(bus).gate = gate.wait
        with pytest.raises(DeadlineExceededError):
            await bus.request("ask", timeout=0.05)
        gate.set()
        await turns()
        assert bus.stats().subscriptions[0].expired == 1


async def test_a_cancelled_request_is_not_begun_when_the_log_delivers_it() -> None:
    bus, gate, served = kept_bus(), asyncio.Event(), list[int]()

    @bus.serve("ask")
    async def answer(n: int) -> None:
        served.append(n)

    async with bus:
        log_of(bus).gate = gate.wait
        asking = asyncio.ensure_future(bus.request("ask", 1))
        await turns()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        gate.set()
    assert served == []


class ReadOnly:
    """A log that takes no more, in front of the one whose records it shows."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        raise LogReadOnlyError("the disk is full", path="test")


async def test_a_caller_hears_that_the_answer_cannot_be_kept() -> None:
    bus = kept_bus()

    @bus.serve("ask")
    async def answer() -> str:
        full: Any = ReadOnly(log_of(bus).log)
        log_of(bus).log = full
        return "cannot be kept"

    async with bus:
        with pytest.raises(RemoteError, match="the disk is full"):
            await bus.request("ask")
        with pytest.raises(LogReadOnlyError):
            await bus.publish("a")
