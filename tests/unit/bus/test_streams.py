"""Reading messages in a loop."""

import asyncio
from typing import Any

import pytest

from hms_bus import Bus, Message
from hms_bus.bus import context
from hms_bus.errors import ConfigError, QueueFullError, StateError, TopicError
from tests.support.turns import turns


async def test_messages_are_read_in_order() -> None:
    async with Bus() as bus, bus.subscribe("orders.{region}") as messages:
        for n in range(5):
            await bus.publish("orders.eu", n)
        got = [await anext(messages) for _ in range(5)]
    assert [message.data for message in got] == list(range(5))
    assert got[0].captures == {"region": "eu"}
    assert got[0].topic == "orders.eu"


async def test_reading_waits_for_the_next_message() -> None:
    async with Bus() as bus, bus.subscribe("a") as messages:
        reading = asyncio.ensure_future(anext(messages))
        await turns()
        assert not reading.done()
        await bus.publish("a", 1)
        assert (await reading).data == 1


async def test_a_reader_that_gives_up_loses_no_message() -> None:
    async with Bus() as bus, bus.subscribe("a") as messages:
        for is_there in (False, True):
            reading = asyncio.ensure_future(anext(messages))
            await turns()
            if is_there:
                await bus.publish("a", 1)
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
        assert (await anext(messages)).data == 1


async def test_what_the_body_publishes_is_caused_by_the_message() -> None:
    causes: list[tuple[str | None, str]] = []
    bus = Bus()

    @bus.subscribe("effect")
    async def note(msg: Message, cause: str) -> None:
        causes.append((msg.envelope.causationid, cause))

    async with bus:
        async with bus.subscribe("a") as messages:
            for _ in range(3):
                await bus.publish("a")
            for _ in range(3):
                message = await anext(messages)
                await bus.publish("effect", message.id)
        assert context.cause.get() is None
    assert len(causes) == 3
    assert all(left == right for left, right in causes)


async def test_one_is_handled_when_the_next_is_asked_for() -> None:
    async with Bus() as bus, bus.subscribe("a", group="g") as messages:
        assert messages.load == 0
        await bus.publish("a", 1)
        assert messages.load == 1
        await anext(messages)
        assert messages.load == 1
        reading = asyncio.ensure_future(anext(messages))
        await turns()
        assert messages.load == 0
        reading.cancel()


async def test_readers_of_a_group_share_the_messages() -> None:
    async with (
        Bus() as bus,
        bus.subscribe("a", group="g") as one,
        bus.subscribe("a", group="g") as other,
    ):
        for n in range(4):
            await bus.publish("a", n)
        assert (one.load, other.load) == (2, 2)


async def test_a_full_queue_lets_the_publisher_wait() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=1) as messages:
        await bus.publish("a", 1)
        publishing = asyncio.ensure_future(bus.publish("a", 2))
        await turns()
        assert not publishing.done()
        assert [(await anext(messages)).data for _ in range(2)] == [1, 2]
        await publishing


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [2, 3]), ("drop_newest", [0, 1])])
async def test_overflow_policies_hold_for_readers_too(overflow: Any, kept: list[int]) -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=2, overflow=overflow) as messages:
        for n in range(4):
            await bus.publish("a", n)
        assert [(await anext(messages)).data for _ in range(2)] == kept


async def test_the_error_policy_refuses_the_publisher() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=1, overflow="error"):
        await bus.publish("a")
        with pytest.raises(QueueFullError):
            await bus.publish("a")


async def test_what_has_expired_is_left_out() -> None:
    async with Bus() as bus, bus.subscribe("a") as messages:
        await bus.publish("a", "late", ttl=0)
        await bus.publish("a", "in time", ttl="1h")
        assert (await anext(messages)).data == "in time"


async def test_urgent_messages_are_read_first() -> None:
    async with Bus() as bus, bus.subscribe("a") as messages:
        for priority in (1, 9, 5):
            await bus.publish("a", priority=priority)
        got = [(await anext(messages)).envelope.priority for _ in range(3)]
    assert got == [9, 5, 1]


async def test_after_its_scope_a_stream_has_ended_and_hears_nothing() -> None:
    async with Bus() as bus:
        async with bus.subscribe("a") as messages:
            await bus.publish("a", 1)
        await bus.publish("a", 2)
        assert [message async for message in messages] == []
        assert messages.load == 0


async def test_leaving_the_scope_ends_who_reads_elsewhere() -> None:
    async def read(messages: Any) -> list[int]:
        return [message.data async for message in messages]

    async with Bus() as bus:
        async with bus.subscribe("a") as messages:
            reading = asyncio.ensure_future(read(messages))
            await bus.publish("a", 1)
            await turns()
        assert await reading == [1]


async def test_leaving_the_scope_lets_waiting_publishers_go() -> None:
    async with Bus() as bus:
        async with bus.subscribe("a", max_queue=1):
            await bus.publish("a")
            publishing = asyncio.ensure_future(bus.publish("a"))
            await turns()
            assert not publishing.done()
        await publishing


async def test_closing_the_bus_ends_a_stream_behind_what_it_was_given() -> None:
    got: list[int] = []
    bus = Bus()

    async def read() -> None:
        async with bus.subscribe("a") as messages:
            async for message in messages:
                got.append(message.data)
                await turns()

    async with bus:
        reading = asyncio.ensure_future(read())
        await turns()
        for n in range(3):
            await bus.publish("a", n)
    await reading
    assert got == [0, 1, 2]


async def test_a_stream_needs_an_open_bus_and_a_pattern() -> None:
    bus = Bus()
    with pytest.raises(StateError):
        await bus.subscribe("a").__aenter__()
    async with bus:
        with pytest.raises(TopicError):
            await bus.subscribe("a..b").__aenter__()
        await bus.publish("a")


async def test_one_scope_may_be_entered_again() -> None:
    async with Bus() as bus:
        scope = bus.subscribe("a")
        for n in range(2):
            async with scope as messages:
                await bus.publish("a", n)
                assert (await anext(messages)).data == n


# -- waiting for oneself ---------------------------------------------------------------------------


async def test_a_reader_that_would_wait_for_itself_is_told() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=1) as messages:
        await bus.publish("a", 1)
        assert (await anext(messages)).data == 1
        await bus.publish("a", 2)
        with pytest.raises(QueueFullError) as caught:
            await bus.publish("a", 3)
        bus.emit("a", 4)
        assert [(await anext(messages)).data for _ in range(2)] == [2, 4]
    assert caught.value.cycle == ("a (stream)", "a (stream)")


async def test_a_reader_that_no_message_causes_may_still_emit_onto_its_full_stream() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=1) as messages:
        async with bus.subscribe("b"):
            await bus.publish("a", 1)
            await anext(messages)
        assert context.cause.get() is None
        for n in (2, 3):
            bus.emit("a", n)
        assert [(await anext(messages)).data for _ in range(2)] == [2, 3]


async def test_a_reader_waits_when_another_task_reads_as_well() -> None:
    async with Bus() as bus, bus.subscribe("a", max_queue=1) as messages:
        is_full, got = asyncio.Event(), list[int]()

        async def read_rest() -> None:
            got.append((await anext(messages)).data)
            await is_full.wait()
            got.extend([(await anext(messages)).data for _ in range(2)])

        other = asyncio.ensure_future(read_rest())
        await turns()
        await bus.publish("a", 0)
        await turns()
        await bus.publish("a", 1)
        got.append((await anext(messages)).data)
        await bus.publish("a", 2)
        asyncio.get_running_loop().call_soon(is_full.set)
        await bus.publish("a", 3)
        await other
    assert got == [0, 1, 2, 3]


async def test_what_a_stream_cannot_do_is_refused() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"middleware": [lambda handler: handler]}, "middleware"),  # pyright: ignore[reportUnknownLambdaType]
        ({"concurrency": 5}, "concurrency=5"),
    ]
    async with Bus() as bus:
        for options, text in refused:
            with pytest.raises(ConfigError, match=f"a stream .* {text}"):
                await bus.subscribe("a", **options).__aenter__()
        serving: Any = bus.serve("a")
        with pytest.raises(ConfigError, match="serve"):
            await serving.__aenter__()
        assert bus.stats().subscriptions == []
