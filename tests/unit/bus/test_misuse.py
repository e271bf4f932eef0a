"""Calls that cannot work are refused with what to write instead."""

from typing import Any

import pytest

from hms_bus import Bus
from hms_bus.errors import ConfigError, StateError, TopicError, UsageError


@pytest.mark.parametrize("topic", [5, None, b"a", 1.5])
async def test_a_topic_is_text(topic: Any) -> None:
    async with Bus() as bus:
        for call in (bus.publish, bus.request):
            with pytest.raises(TopicError, match="it is no text"):
                await call(topic)
        with pytest.raises(TopicError, match="it is no text"):
            bus.emit(topic)


async def test_what_is_forwarded_is_an_envelope() -> None:
    envelope: Any = {"topic": "a"}
    async with Bus() as bus:
        with pytest.raises(UsageError, match="takes an Envelope, not dict"):
            await bus.forward(envelope)


async def test_many_are_pairs() -> None:
    messages: Any = {"a": 1}
    async with Bus() as bus:
        with pytest.raises(UsageError, match="items"):
            await bus.publish_many(messages)


def test_a_handler_can_be_called() -> None:
    handler: Any = 5
    with pytest.raises(ConfigError, match="5 is no handler"):
        Bus().subscribe("a")(handler)


async def test_a_stream_is_read_in_its_scope() -> None:
    async with Bus() as bus:
        subscribing: Any = bus.subscribe("a")
        with pytest.raises(StateError, match="async with"):
            aiter(subscribing)
