"""The test double behaves like a bus on a wire."""

import asyncio

import pytest
from msgspec import Struct

from hms_bus.bus import Bus, Message
from hms_bus.errors import ConfigError, DeadlineExceededError, EncodeError
from hms_bus.testing import bus


class Order(Struct):
    items: list[str]


async def test_what_arrives_is_a_copy() -> None:
    order = Order(items=["a"])
    async with bus() as double, double.subscribe("orders") as messages:
        await double.publish("orders", order)
        arrived = (await anext(messages)).decode(Order)
    assert arrived == order
    assert arrived is not order
    assert arrived.items is not order.items


@pytest.mark.parametrize("codec", ["json", "cbor", "protobuf"])
async def test_every_codec_can_be_chosen(codec: str) -> None:
    async with bus(codec=codec) as double, double.subscribe("orders") as messages:
        await double.publish("orders", {"n": 2**53 + 1})
        assert (await anext(messages)).data == {"n": 2**53 + 1}


async def test_what_no_wire_could_carry_is_refused() -> None:
    async with bus(log=None) as double:
        with pytest.raises(EncodeError):
            await double.publish("orders", object())


async def test_all_that_was_said_can_be_read_again() -> None:
    async with bus() as double:
        await double.publish("orders", 1)
        assert [message.data async for message in double.replay()] == [1]


async def test_a_name_is_an_address() -> None:
    async with (
        bus("double-a") as one,
        bus("double-a") as other,
        bus() as alone,
        other.subscribe("news") as heard,
        alone.subscribe("news") as unheard,
    ):
        await one.publish("news", 1)
        assert (await anext(heard)).data == 1
        assert unheard.load == 0


async def test_settings_are_those_of_a_bus() -> None:
    double = bus(source="/me", request_timeout_s=0.05)

    @double.serve("slow")
    async def answer(message: Message) -> str:
        await asyncio.Event().wait()
        return message.source

    async with double:
        assert double.source == "/me"
        with pytest.raises(DeadlineExceededError):
            await double.request("slow")
    assert isinstance(double, Bus)
    with pytest.raises(ConfigError, match="surce"):
        bus(surce="/me")
