"""A connection that ends: what clients do until there is one again, and what is lost by it."""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.errors import (
    ConnectError,
    DisconnectedError,
    NoRespondersError,
    StateError,
)
from tests.support.hub_line import line_to
from tests.support.hub_process import HubProcess, running_hub, serving_hub, there_are


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Return when a client has logged this."""
    while text not in caplog.text:  # noqa: ASYNC110 - the logger has no event
        await asyncio.sleep(0.005)


class Got:
    """Numbers that a handler has got, and an event for the last one that a test waits for."""

    def __init__(self, last: int) -> None:
        self.numbers: list[int] = []
        self.complete = asyncio.Event()
        self._last = last

    async def take(self, n: int) -> None:
        self.numbers.append(n)
        if n == self._last:
            self.complete.set()


# -- publishing and subscribing ----------------------------------------------------------------


async def test_after_the_hub_was_killed_clients_go_on_with_the_next_one(hub: HubProcess) -> None:
    got = Got(2)
    publisher, subscriber = Bus(hub.url), Bus(hub.url)
    subscriber.subscribe("a.*")(got.take)
    async with publisher, subscriber:
        await publisher.publish("a.b", 1)
        hub.kill()
        async with serving_hub() as second:
            await second.until(there_are(2, 3))
            await publisher.publish("a.b", 2)
            await got.complete.wait()
    assert got.numbers[-1] == 2


async def test_a_client_starts_the_next_hub_itself(runtime: Path) -> None:
    got = Got(2)
    url = "ipc://test?idle=1s"
    publisher, subscriber = Bus(url), Bus(url)
    subscriber.subscribe("a.*")(got.take)
    with running_hub() as hub:
        async with publisher, subscriber:
            await publisher.publish("a.b", 1)
            hub.kill()
            await hub.until(there_are(2, 3))
            figures = await hub.status()
            assert figures["hub"]["spawned"]
            assert figures["hub"]["pid"] != hub.process.pid
            await publisher.publish("a.b", 2)
            await got.complete.wait()


async def test_many_clients_of_a_killed_hub_start_one(runtime: Path) -> None:
    with running_hub() as hub:
        async with AsyncExitStack() as buses:
            for _ in range(20):
                bus = Bus("ipc://test?idle=1s")
                bus.subscribe("a.*")(Got(0).take)
                await buses.enter_async_context(bus)
            hub.kill()
            await hub.until(there_are(20, 40))


async def test_a_connection_may_be_cut_without_the_end_of_the_hub(hub: HubProcess) -> None:
    got = Got(4)
    async with line_to(hub) as line:
        bus = Bus(line.url)
        bus.subscribe("a.*")(got.take)
        async with bus:
            for n in range(5):
                await hub.until(there_are(1, 2))
                await bus.publish("a.b", n)
                line.cut()
                await line.until_connected(n + 2)
    assert got.numbers == sorted(got.numbers)


async def test_what_is_published_meanwhile_comes_in_order(hub: HubProcess) -> None:
    got = Got(999)
    async with line_to(hub) as line:
        publisher, subscriber = Bus(line.url), Bus(hub.url)
        subscriber.subscribe("a.*")(got.take)
        async with publisher, subscriber:
            await publisher.publish("a.b", 0)
            line.bar()
            await hub.until(there_are(1, 2))
            for n in range(1, 1000):
                await publisher.publish("a.b", n)
            line.let_in()
            await got.complete.wait()
    assert got.numbers == list(range(1000))


async def test_what_is_published_to_several_topics_keeps_its_order(hub: HubProcess) -> None:
    got = Got(299)
    async with line_to(hub) as line:
        publisher, subscriber = Bus(line.url), Bus(hub.url)
        subscriber.subscribe("a.>")(got.take)
        async with publisher, subscriber:
            line.bar()
            await hub.until(there_are(1, 2))
            for n in range(200):
                await publisher.publish(f"a.t{n % 7}", n)
            line.let_in()
            for n in range(200, 300):
                await publisher.publish(f"a.t{n % 7}", n)
            await got.complete.wait()
    for topic in range(7):
        assert [n for n in got.numbers if n % 7 == topic] == list(range(topic, 300, 7))


async def test_no_more_is_kept_than_the_buffer_holds(hub: HubProcess) -> None:
    got = Got(-1)
    async with line_to(hub) as line:
        publisher, subscriber = Bus(f"{line.url}&buffer=10000"), Bus(hub.url)
        subscriber.subscribe("a.*")(got.take)
        async with publisher, subscriber:
            line.bar()
            await hub.until(there_are(1, 2))
            kept = 0
            with suppress(DisconnectedError):
                for kept in range(1000):
                    await publisher.publish("a.b", kept)
            assert 0 < kept < 100
            with pytest.raises(DisconnectedError, match="10000"):
                await publisher.publish("a.b", kept)
            line.let_in()
            await hub.until(lambda figures: figures["totals"]["received"] == kept)
            await publisher.publish("a.b", -1)
            await got.complete.wait()
    assert got.numbers == [*range(kept), -1]


async def test_a_publish_that_waits_for_room_fails(hub: HubProcess) -> None:
    stuck = asyncio.Event()
    subscriber = Bus(hub.url, drain_timeout_s=0.1)

    @subscriber.subscribe("a.*", max_queue=1)
    async def wait(n: int) -> None:
        await stuck.wait()

    async with line_to(hub) as line, Bus(line.url) as publisher, subscriber:
        publishing = [asyncio.create_task(publisher.publish("a.b", n)) for n in range(10)]
        await hub.until(lambda figures: any(each["waiting"] for each in figures["clients"]))
        line.cut()
        results = await asyncio.gather(*publishing, return_exceptions=True)
        assert any(isinstance(result, DisconnectedError) for result in results)
        assert all(
            not isinstance(result, BaseException) or isinstance(result, DisconnectedError)
            for result in results
        )
        stuck.set()
        await publisher.publish("a.b", 10)


async def test_subscribing_waits_for_a_connection(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(line.url) as bus:
        line.bar()
        await hub.until(there_are(0))

        async def listen() -> int:
            async with bus.subscribe("a.*") as messages:
                return (await anext(messages)).decode(int)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        line.let_in()
        await hub.until(there_are(1, 2))
        await bus.publish("a.b", 7)
        assert await listening == 7


async def test_what_was_unsubscribed_meanwhile_is_not_subscribed_again(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(line.url) as bus:
        async with bus.subscribe("a.*"):
            await hub.until(there_are(1, 2))
            line.bar()
            await hub.until(there_are(0))
        line.let_in()
        await hub.until(there_are(1, 1))
        await bus.publish("a.b", 1)
        assert (await hub.status())["totals"]["delivered"] == 0


async def test_unsubscribing_ends_when_the_connection_does(hub: HubProcess) -> None:
    async with line_to(hub) as line, Bus(line.url) as bus:
        async with bus.subscribe("a.*"):
            await hub.until(there_are(1, 2))
            # The hub does not answer any more.
            hub.process.send_signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_soon(line.cut)
        hub.process.send_signal(signal.SIGCONT)
        await hub.until(there_are(1, 1))


async def test_closing_needs_no_connection(hub: HubProcess) -> None:
    bus = Bus(hub.url)
    bus.subscribe("a.*")(Got(0).take)
    async with bus:
        await hub.until(there_are(1, 2))
        hub.kill()
        with suppress(NoRespondersError, DisconnectedError):
            await bus.request("nobody.serves", timeout=0.1)
    with pytest.raises(StateError):
        await bus.publish("a.b", 1)


async def test_a_bus_can_be_opened_again(hub: HubProcess) -> None:
    bus = Bus(hub.url)
    for n in range(3):
        got = Got(n)
        async with bus, bus.subscribe("a.*") as messages:
            await bus.publish("a.b", n)
            assert (await anext(messages)).decode(int) == n
        assert got.numbers == []


# -- requests ----------------------------------------------------------------------------------


async def test_a_request_under_way_fails_and_its_handler_is_cancelled(hub: HubProcess) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    async with line_to(hub) as line:
        server, caller = Bus(hub.url), Bus(line.url)

        @server.serve("slow")
        async def slow() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with server, caller:
            request = asyncio.create_task(caller.request("slow", timeout=600))
            await begun.wait()
            line.cut()
            with pytest.raises(DisconnectedError, match="unknown"):
                await request
            await ended.wait()


async def test_a_request_to_a_killed_hub_fails(hub: HubProcess) -> None:
    begun = asyncio.Event()
    server, caller = Bus(hub.url, drain_timeout_s=0.1), Bus(hub.url)

    @server.serve("slow")
    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with server, caller:
        requests = [asyncio.create_task(caller.request("slow", timeout=600)) for _ in range(10)]
        await begun.wait()
        hub.kill()
        for result in await asyncio.gather(*requests, return_exceptions=True):
            assert isinstance(result, DisconnectedError)


async def test_a_stream_under_way_fails(hub: HubProcess) -> None:
    async with line_to(hub) as line:
        server, caller = Bus(hub.url), Bus(line.url)
        ended = asyncio.Event()

        @server.serve("count")
        async def count():  # noqa: ANN202 - an async generator of numbers
            try:
                for n in range(1_000_000):
                    yield n
            finally:
                ended.set()

        async with server, caller:
            async with caller.request_stream("count", credit=4) as items:
                for n in range(10):
                    assert await anext(items) == n
                line.cut()
                with pytest.raises(DisconnectedError):
                    [_ async for _ in items]
            await ended.wait()


async def test_requests_made_meanwhile_are_answered_later(hub: HubProcess) -> None:
    server = Bus(hub.url)

    @server.serve("echo")
    async def echo(n: int) -> int:
        return n

    async with line_to(hub) as line, server, Bus(line.url) as caller:
        assert await caller.request("echo", 0) == 0
        line.bar()
        await hub.until(there_are(1))
        requests = [asyncio.create_task(caller.request("echo", n, timeout=60)) for n in range(10)]
        await asyncio.sleep(0)
        line.let_in()
        assert await asyncio.gather(*requests) == list(range(10))


# -- hubs that end, and that refuse ------------------------------------------------------------


async def test_a_hub_that_says_good_bye_is_followed_by_the_next(hub: HubProcess) -> None:
    got = Got(2)
    publisher, subscriber = Bus(hub.url), Bus(hub.url)
    subscriber.subscribe("a.*")(got.take)
    async with publisher, subscriber:
        await publisher.publish("a.b", 1)
        assert await hub.end() == 0
        async with serving_hub() as second:
            await second.until(there_are(2, 3))
            await publisher.publish("a.b", 2)
            await got.complete.wait()
    assert got.numbers == [1, 2]


async def test_a_hub_that_refuses_ends_the_client(hub: HubProcess, runtime: Path) -> None:
    tokens = '[[token]]\nname = "x"\ntoken = "secret"\n'
    async with Bus(hub.url) as bus:
        await bus.publish("a.b", 1)
        hub.kill()
        async with serving_hub(config=tokens):
            with pytest.raises(ConnectError, match="token") as caught:
                async with bus.subscribe("a.*"):
                    pass
            assert caught.value.refused
            with pytest.raises(ConnectError, match="token"):
                await bus.publish("a.b", 2)
            with pytest.raises(ConnectError, match="token"):
                await bus.request("a.b", 2)


async def test_whoever_waits_for_a_connection_is_told_that_there_will_be_none(
    hub: HubProcess,
) -> None:
    tokens = '[[token]]\nname = "x"\ntoken = "secret"\n'
    async with Bus(hub.url) as bus:
        hub.kill()

        async def listen() -> None:
            async with bus.subscribe("a.*"):
                pass

        waiting = [asyncio.create_task(listen()) for _ in range(3)]
        async with serving_hub(config=tokens):
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, ConnectError)


async def test_a_runtime_folder_that_vanishes_is_no_end(
    runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = Got(1)
    with running_hub() as hub:
        bus = Bus("ipc://test?idle=1s")
        bus.subscribe("a.*")(got.take)
        async with bus:
            hub.kill()
            shutil.rmtree(runtime)
            runtime.touch()
            await until_logged(caplog, "no connection to")
            runtime.unlink()
            await hub.until(there_are(1, 2))
            await bus.publish("a.b", 1)
            await got.complete.wait()
