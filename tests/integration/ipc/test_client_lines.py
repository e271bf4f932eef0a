"""What a client must not do to its connection, nor the end of one to those who use it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus import Bus, plugins
from hms_bus.errors import (
    ConnectError,
    DisconnectedError,
    EncodeError,
    LogError,
    NoRespondersError,
)
from hms_bus.ipc import frames
from hms_bus.transports.ipc.opening import open_ipc
from tests.support.fake_hub import BYE, Talk, error, fake_hub, welcome
from tests.support.hub_line import line_to
from tests.support.hub_process import HubProcess, running_hub, serving_hub
from tests.support.sinks import Taking

MAX_FRAME = 65_536
SMALL_FRAMES = f"[limits]\nmax_frame = {MAX_FRAME}\n"
LOG = {"url": "memory:", "identity": "x", "capabilities": ["log-follow"]}


@pytest.fixture
def hub(runtime: Path) -> Iterator[HubProcess]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def small(runtime: Path) -> Iterator[HubProcess]:
    with running_hub("--log", "memory:", config=SMALL_FRAMES) as hub:
        yield hub


@pytest.fixture
def folder(runtime: Path) -> Path:
    runtime.mkdir(mode=0o700)
    return runtime


async def parted(talk: Talk) -> None:
    """Let a client go that ends its subscriptions, and says good-bye."""
    while (frame := await talk.hear()) is not None and frame.kind != "BYE":
        if frame.kind == "UNSUBSCRIBE":
            talk.say(frames.done(frame.content["call"]))
    talk.close()


# -- what no frame can hold --------------------------------------------------------------------


async def test_a_batch_that_no_frame_can_hold_is_refused_here(small: HubProcess) -> None:
    async with line_to(small) as line, Bus(line.url) as bus:
        with pytest.raises(EncodeError, match="max_frame"):
            await bus.publish_many([("a.b", b"x" * 30_000)] * 3)
        assert (await bus.publish("a.b", 1)).position == 1
        assert line.connections == 1


async def test_an_envelope_that_no_frame_can_hold_is_refused_here(runtime: Path) -> None:
    with running_hub(config=SMALL_FRAMES) as hub:
        async with line_to(hub) as line, Bus(line.url) as bus:
            for _ in range(3):  # the topic has a window by now
                await bus.publish("a.b", 1)
            for _ in range(3):
                with pytest.raises(EncodeError, match="max_frame"):
                    await bus.publish("a.b", b"x" * MAX_FRAME)
            with pytest.raises(NoRespondersError):
                await bus.request("a.b")
            assert line.connections == 1


async def test_an_envelope_that_fits_alone_begins_a_frame(runtime: Path) -> None:
    got: list[int] = []
    complete = asyncio.Event()
    with running_hub(config=SMALL_FRAMES) as hub:
        subscriber = Bus(hub.url)

        @subscriber.subscribe("a.b")
        async def take(data: bytes) -> None:  # pyright: ignore[reportUnusedFunction]
            got.append(len(data))
            if len(got) == 13:
                complete.set()

        async with line_to(hub) as line, subscriber, Bus(line.url) as bus:
            await bus.publish("a.b", b"x")
            # In one turn: the frame that is put together has no room for the next large one.
            sizes = [20_000, 30_000] * 6
            await asyncio.gather(*(bus.publish("a.b", b"x" * size) for size in sizes))
            await complete.wait()
            assert line.connections == 1
    assert got == [1, *sizes]


# -- errors of the hub ---------------------------------------------------------------------------


async def test_an_error_that_would_be_the_same_again_ends_the_client(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        await talk.expect("CALL")
        talk.say(error("bad-frame", "what is this"))
        talk.close()

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        with pytest.raises(DisconnectedError, match="what is this"):
            await bus.publish("a.b", 1)
        with pytest.raises(ConnectError, match="what is this") as caught:
            await bus.publish("a.b", 2)
        assert caught.value.refused
        assert len(hub.talks) == 1


@pytest.mark.parametrize("reason", ["closing", "idle", "internal", "limit"])
async def test_an_error_that_passes_is_followed_by_another_connection(
    folder: Path, reason: str
) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        if talk.number == 0:
            talk.say(error(reason))
            talk.close()
        else:
            again.set()
            call = await talk.expect("CALL")
            talk.say(frames.done(call.content["call"]))
            await parted(talk)

    again = asyncio.Event()
    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await again.wait()
        await bus.publish("a.b", 1)


# -- connecting again --------------------------------------------------------------------------


async def test_who_reads_is_told_that_a_hub_refuses_for_good(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 0:
            await talk.welcome()
            await talk.subscriptions(2)
            talk.cut()
        else:
            await talk.expect("HELLO")
            talk.say(error("unauthenticated", "not any more"))
            talk.close()

    async with (
        fake_hub(folder, script) as hub,
        Bus(hub.url) as bus,
        bus.subscribe("a.*") as messages,
    ):
        with pytest.raises(ConnectError, match="not any more"):
            async for _ in messages:
                pass
    assert "the subscription to 'a.*' has ended" in caplog.text


async def test_a_client_that_asked_for_no_log_accepts_another_one(runtime: Path) -> None:
    with running_hub("--log", "memory:one") as hub:
        async with Bus(hub.url) as bus, bus.subscribe("a.b") as messages:
            await bus.publish("a.b", 1)
            assert (await anext(messages)).data == 1
            following = asyncio.create_task(_follow(bus))
            await hub.until(lambda figures: figures["totals"]["clients"] == 2)
            hub.kill()
            async with serving_hub("--log", "memory:two") as second:
                await second.until(lambda figures: figures["totals"]["clients"] == 2)
                with pytest.raises(LogError, match="another one"):
                    await following
                await bus.publish("a.b", 2)
                assert (await anext(messages)).data == 2


async def _follow(bus: Bus) -> None:
    async for _ in bus.replay("a.b", follow=True):
        pass


# -- while there is no connection ----------------------------------------------------------------


async def test_appends_that_wait_have_a_bound_and_are_forgotten_with_their_callers(
    runtime: Path,
) -> None:
    with running_hub("--log", "memory:") as hub:
        async with line_to(hub) as line, Bus(f"{line.url}&buffer=2000") as bus:
            line.bar()
            with pytest.raises(DisconnectedError):
                await bus.request("a.b", timeout=60)
            for _ in range(10):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await bus.publish("a.b", b"x" * 500)
            first = asyncio.create_task(bus.publish("a.b", b"x" * 500))
            await asyncio.sleep(0)
            with pytest.raises(DisconnectedError, match="buffer"):
                await bus.publish("a.b", b"x" * 1500)
            line.let_in()
            receipt = await first
            assert (receipt.position, receipt.duplicate) == (1, False)


async def test_unsubscribing_that_is_cancelled_ends_the_subscription(hub: HubProcess) -> None:
    async with line_to(hub) as line:
        address = plugins.parse_address(line.url)
        async with open_ipc(address, codec=plugins.get_codec("json")) as transport:
            unsubscribe = await transport.subscribe("a.b", Taking(), group="g")
            await transport.subscribe("a.c", Taking())
            ending = asyncio.ensure_future(unsubscribe())
            await asyncio.sleep(0)
            ending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ending
            line.cut()
            await line.until_connected(2)
            await hub.until(lambda figures: figures["totals"]["subscriptions"] == 1)


async def test_what_is_buffered_and_fails_later_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failure = b'{"code":"RESOURCE_EXHAUSTED","message":"no room at all","reason":"later"}'

    async def script(talk: Talk) -> None:
        await talk.welcome()
        if talk.number == 0:
            await talk.subscriptions(1)
            talk.cut()
            return
        while (call := await talk.hear()) is not None and call.kind != "CALL":
            pass
        assert call is not None
        talk.say(frames.call_frame(frames.FAILED, call.content["call"], failure))
        await parted(talk)

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await hub.done()
        with pytest.raises(DisconnectedError):
            await bus.request("a.b", timeout=60)
        await bus.publish("a.b", 1)
    assert "no room at all" in caplog.text


# -- the log -------------------------------------------------------------------------------------


async def test_receipts_may_come_in_pieces_and_begin_anew(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(log=LOG)
        await talk.subscriptions(1)
        append = await talk.expect("APPEND")
        call = append.content["call"]
        if talk.number == 0:
            talk.say(frames.receipts([(call, 1, 0)]))
            talk.cut()
            return
        talk.say(frames.receipts([(call, 1, frames.DUPLICATE)]))
        talk.say(frames.receipts([(call, 2, frames.LAST)]))
        await parted(talk)

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        receipts = await bus.publish_many([("a.b", 1), ("a.b", 2)])
        assert [(receipt.position, receipt.duplicate) for receipt in receipts] == [
            (1, False),
            (2, False),
        ]


async def test_a_record_that_is_too_long_for_us_ends_its_reader(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(log=LOG, limits={"max_frame": MAX_FRAME})
        await talk.subscriptions(1)
        if talk.number == 0:
            read = await talk.expect("READ")
            talk.say(frames.records(read.content["call"], [(1, 1, bytes(3 * 2**20))]))
            await talk.expect("ERROR")
        else:
            assert await talk.hear() is not None  # the good-bye: nobody reads any more
            talk.close()

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        with pytest.raises(LogError, match="at most"):
            await _follow(bus)


# -- requests ------------------------------------------------------------------------------------


async def test_a_request_to_a_system_topic_that_nobody_serves_fails_at_once(
    hub: HubProcess,
) -> None:
    async with Bus(hub.url) as bus:
        with pytest.raises(NoRespondersError):
            await bus.request("$SRV.PING.none", timeout=60)


async def test_an_offer_behind_a_good_bye_is_answered(folder: Path) -> None:
    envelope = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","topic":"a.b"}'

    async def script(talk: Talk) -> None:
        if talk.number:
            return
        await talk.expect("HELLO")
        talk.say(welcome())
        [inbox, stream] = await talk.subscriptions(2)
        number = max(s.content["json"]["subscription"] for s in (inbox, stream))
        talk.say(BYE)
        await talk.expect("BYE")
        talk.say(frames.offer(7, [number], frames.messages(b"a.b", b"", [envelope])))
        verdict = await talk.expect("VERDICT")
        assert verdict.content["ask"] == 7
        talk.say(BYE)
        talk.close()

    async with (
        fake_hub(folder, script) as hub,
        Bus(hub.url) as bus,
        bus.subscribe("a.b", overflow="error") as messages,
    ):
        assert (await anext(messages)).topic == "a.b"
        await hub.done()
