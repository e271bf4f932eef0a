"""A line with faults: which ones, how many, and always the same."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager

import pytest

from hms_bus import Bus
from hms_bus.attributes import new_envelope
from hms_bus.bounces import ERROR, ErrorBody
from hms_bus.codecs.json import JsonCodec
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, DisconnectedError, NoRespondersError, QueueFullError
from hms_bus.plugins import open_transport
from hms_bus.testing import Faults, FaultyTransport
from tests.support.sinks import Taking


class Collected(Taking):
    """Can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def offer(self, envelope: Envelope, reply_to: str | None) -> Awaitable[None] | None:
        self._grown.set()
        return super().offer(envelope, reply_to)

    @property
    def envelopes(self) -> list[Envelope]:
        return [envelope for envelope, _ in self.taken]

    @property
    def numbers(self) -> list[int]:
        return [envelope.decode() for envelope in self.envelopes]

    async def reach(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            while len(self.taken) < count:
                self._grown.clear()
                await self._grown.wait()
        return self.numbers


def full() -> Taking:
    """A sink that refuses everything."""
    sink = Taking()
    sink.is_full = True
    return sink


def number(n: int) -> Envelope:
    return new_envelope("a", n, source="/test")


@asynccontextmanager
async def faulty(faults: Faults) -> AsyncGenerator[tuple[FaultyTransport, Collected]]:
    """Open a line with a sink behind it that listens to everything."""
    async with open_transport("direct://", codec=JsonCodec()) as transport:
        line, sink = FaultyTransport(transport, faults), Collected()
        await line.subscribe(">", sink)
        yield line, sink
        line.close()


async def arrived(faults: Faults, count: int = 200) -> list[int]:
    async with faulty(faults) as (line, sink):
        for n in range(count):
            line.publish(number(n))
        line.close()
        return sink.numbers


async def test_without_faults_all_arrives_in_order() -> None:
    assert await arrived(Faults()) == list(range(200))


async def test_a_share_is_dropped() -> None:
    numbers = await arrived(Faults(drop=0.25, seed=1))
    assert 120 < len(numbers) < 180
    assert numbers == sorted(set(numbers))
    assert await arrived(Faults(drop=1)) == []


async def test_a_share_is_doubled() -> None:
    numbers = await arrived(Faults(duplicate=0.25, seed=1))
    assert 220 < len(numbers) < 280
    assert sorted(set(numbers)) == list(range(200))


async def test_a_share_is_overtaken_by_the_next_one() -> None:
    numbers = await arrived(Faults(reorder=0.5, seed=1))
    assert sorted(numbers) == list(range(200))
    assert numbers != sorted(numbers)
    assert all(abs(place - n) <= 1 for place, n in enumerate(numbers))


async def test_nothing_waits_for_ever_to_be_overtaken() -> None:
    async with faulty(Faults(reorder=1)) as (line, sink):
        line.publish(number(1))
        assert sink.numbers == []
        assert await sink.reach(1) == [1]


async def test_a_delay_keeps_the_order() -> None:
    async with faulty(Faults(delay_s=0.003, seed=1)) as (line, sink):
        for n in range(50):
            line.publish(number(n))
        assert sink.numbers == []
        assert await sink.reach(50) == list(range(50))


async def test_closing_sends_what_is_under_way() -> None:
    assert await arrived(Faults(delay_s=60)) == list(range(200))
    assert max(await arrived(Faults(delay_s=60, reorder=0.5, duplicate=0.5))) == 199


@pytest.mark.parametrize(
    "faults", [Faults(drop=0.5, seed=7), Faults(duplicate=0.5, reorder=0.5, seed=7)]
)
async def test_the_same_seed_gives_the_same_faults(faults: Faults) -> None:
    first = await arrived(faults)
    assert await arrived(faults) == first
    other = Faults(drop=faults.drop, duplicate=faults.duplicate, reorder=faults.reorder, seed=8)
    assert await arrived(other) != first


async def test_a_cut_line_neither_sends_nor_receives_until_it_is_healed() -> None:
    async with faulty(Faults()) as (line, sink):
        line.cut()
        with pytest.raises(DisconnectedError):
            line.publish(number(1))
        with pytest.raises(DisconnectedError):
            await line.subscribe("b", sink)
        line.heal()
        line.publish(number(2))
        assert sink.numbers == [2]


async def test_a_cut_loses_what_is_under_way() -> None:
    async with faulty(Faults(delay_s=60)) as (line, sink):
        line.publish(number(1))
        line.cut()
        line.heal()
        line.close()
        assert sink.numbers == []


async def test_a_line_is_cut_after_a_count() -> None:
    async with faulty(Faults(cut_after=2)) as (line, sink):
        line.publish(number(1))
        line.publish(number(2))
        with pytest.raises(DisconnectedError):
            line.publish(number(3))
        assert (sink.numbers, line.is_cut) == ([1, 2], True)


async def test_what_cannot_be_told_in_time_is_not_claimed() -> None:
    async with open_transport("direct://", codec=JsonCodec()) as transport:
        claimed = transport.capabilities
        told_later = {"backpressure", "no-responders", "no-servers"}
        lost = {
            Faults(): set[str](),
            Faults(drop=1, duplicate=1): set[str](),
            Faults(delay_s=1): told_later,
            Faults(reorder=0.1): told_later | {"publisher-order"},
        }
        for faults, missing in lost.items():
            assert claimed - FaultyTransport(transport, faults).capabilities == missing
        assert FaultyTransport(transport, Faults()).log is transport.log


async def test_errors_that_are_known_at_once_are_raised_at_once() -> None:
    async with open_transport("direct://", codec=JsonCodec()) as transport:
        line = FaultyTransport(transport, Faults(duplicate=1))
        with pytest.raises(NoRespondersError):
            line.publish(number(1), reply_to="inbox")
        await line.subscribe("a", full())
        with pytest.raises(QueueFullError):
            line.publish(number(1))


async def test_a_late_request_that_comes_to_nothing_is_answered() -> None:
    async with open_transport("direct://", codec=JsonCodec()) as transport:
        line, inbox = FaultyTransport(transport, Faults(delay_s=60)), Collected()
        await line.subscribe("$inbox.me", inbox)
        await line.subscribe("a", full())
        request = number(1)
        line.publish(request, reply_to="$inbox.me")
        line.publish(number(2))
        line.close()
    [reply] = inbox.envelopes
    assert (reply.causationid, reply.type) == (request.id, ERROR)
    assert reply.decode(ErrorBody).code == "RESOURCE_EXHAUSTED"


async def test_a_late_reply_that_comes_to_nothing_is_not() -> None:
    async with open_transport("direct://", codec=JsonCodec()) as transport:
        line, control = FaultyTransport(transport, Faults(delay_s=60)), Collected()
        await line.subscribe("$inbox.server.control", control)
        line.publish(number(1), to="$inbox.left", reply_to="$inbox.server.control")
        line.close()
    assert control.envelopes == []


async def test_a_url_names_the_faults_and_what_is_behind() -> None:
    url = "faulty:direct://faulty-url?codec=cbor&drop=0.5&seed=3"
    async with (
        open_transport(url, codec=JsonCodec()) as line,
        open_transport("direct://faulty-url", codec=JsonCodec()) as witness,
    ):
        sink = Collected()
        await witness.subscribe(">", sink)
        for n in range(100):
            line.publish(number(n))
        assert 20 < len(sink.numbers) < 80


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("drop=2", "drop is 2.0: it is a share, 0 to 1"),
        ("reorder=-0.5", "0 to 1"),
        ("drop=often", "drop is 'often'"),
        ("drop=nan", "0 to 1"),
        ("delay=soon", "soon"),
        ("cut=1.5", "1.5"),
        ("cut=-1", "cut is '-1': it is a whole number from 0"),
        ("drop=0.1&drop=0.2", "drop is given more than once"),
        ("dorp=1", "unknown option 'dorp'.*faults: drop, duplicate"),
        ("codec=", "codec"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_when_the_bus_is_made(query: str, told: str) -> None:
    url = f"faulty:direct://?{query}"
    with pytest.raises(ConfigError, match=told) as caught:
        Bus(url)
    assert url in caught.value.message


def test_a_transport_stands_behind() -> None:
    with pytest.raises(ConfigError, match="write faulty:direct://"):
        Bus("faulty:")
