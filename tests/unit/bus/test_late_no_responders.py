"""A line that learns too late to raise it that nobody serves: the error comes as an answer."""

import pytest

from hms_bus import Bus, StatusError
from hms_bus.errors import NoRespondersError, RemoteError

LATE = "faulty:direct://?delay=1ms"


async def test_a_request_to_nobody() -> None:
    async with Bus(LATE) as bus:
        with pytest.raises(NoRespondersError) as caught:
            await bus.request("nobody", timeout="1h")
        assert caught.value.topic == "nobody"


@pytest.mark.parametrize("url", ["direct://", LATE])
@pytest.mark.parametrize("count", [None, 2])
async def test_asking_many_when_there_is_nobody(url: str, count: int | None) -> None:
    async with Bus(url) as bus:
        with pytest.raises(NoRespondersError):
            await bus.request_many("nobody", count=count, timeout="1h")


@pytest.mark.parametrize("url", ["direct://", LATE])
async def test_a_stream_from_nobody(url: str) -> None:
    async with Bus(url) as bus:
        with pytest.raises(NoRespondersError):
            async with bus.request_stream("nobody", idle_timeout="1h") as items:
                await anext(items)


@pytest.mark.parametrize("url", ["direct://", LATE])
async def test_an_agent_that_asks_nobody_is_no_absent_agent(url: str) -> None:
    bus = Bus(url)

    @bus.serve("ask")
    async def answer() -> None:
        await bus.request("nobody")

    @bus.serve("say")
    async def say() -> None:
        raise StatusError("UNAVAILABLE", "closed on Sundays")

    async with bus:
        for topic in ("ask", "say"):
            with pytest.raises(RemoteError) as caught:
                await bus.request(topic)
            assert (caught.value.code, caught.value.topic) == ("UNAVAILABLE", topic)
