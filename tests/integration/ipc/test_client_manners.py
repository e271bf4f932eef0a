"""The client's half of spec/ipc.md, beside a hub that does what hubs may do, and may not."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.errors import BusError, ConnectError, DisconnectedError, LogError
from hms_bus.ipc import frames
from hms_bus.transports.ipc.asking import ask
from tests.support.fake_hub import Talk, error, fake_hub, welcome


@pytest.fixture
def folder(runtime: Path) -> Path:
    runtime.mkdir(mode=0o700)
    return runtime


# -- opening -----------------------------------------------------------------------------------


async def test_members_and_kinds_that_it_does_not_know_are_ignored(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(later={"x": 1}, limits={"max_later": 1})
        [inbox] = await talk.subscriptions(1)
        assert inbox.content["json"]["pattern"].startswith("$inbox.")
        talk.say(frames.frame(0x80), frames.frame(0xFF, b"later"))
        talk.say(frames.done(4711), frames.window(7, b"x"))
        talk.say(frames.answer(4711, b"{}"), frames.frame(frames.GONE, b"$inbox.x"))
        talk.say(frames.frame(frames.PONG, b"12345678"))
        call = await talk.expect("CALL")
        talk.say(frames.done(call.content["call"], 10))
        publish = await talk.expect("PUBLISH")
        assert publish.content["messages"]["address"] == "a.b"

    async with fake_hub(folder, script) as hub:
        async with Bus(hub.url) as bus:
            await bus.publish("a.b", 1)
            await bus.publish("a.b", 2)
            await hub.done()
        assert len(hub.talks) == 1


async def test_what_a_log_can_that_it_does_not_know_is_ignored(folder: Path) -> None:
    log = {"url": "later:x", "identity": "x", "capabilities": ["log-follow", "log-divination"]}

    async def script(talk: Talk) -> None:
        await talk.welcome(log=log)

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        assert bus.log.capabilities == {"log-follow"}


@pytest.mark.parametrize(
    "reason",
    [
        "protocol-version",
        "envelope-version",
        "no-hello",
        "bad-frame",
        "frame-too-large",
        "unauthenticated",
        "denied",
        "other-log",
        "no-log",
        "later",
    ],
)
async def test_a_refusal_is_told_at_once(folder: Path, reason: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        talk.say(error(reason, "not you"))
        talk.close()

    async with fake_hub(folder, script) as hub:
        with pytest.raises(ConnectError, match="not you") as caught:
            await Bus(hub.url).__aenter__()
        assert caught.value.refused
        assert len(hub.talks) == 1


@pytest.mark.parametrize("reason", ["closing", "idle", "internal", "limit"])
async def test_what_may_be_over_soon_is_tried_again(folder: Path, reason: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        if talk.number < 3:
            talk.say(error(reason, "not now"))
            talk.close()
        else:
            talk.say(welcome())

    async with fake_hub(folder, script) as hub, Bus(hub.url):
        assert len(hub.talks) == 4


async def test_trying_again_has_an_end(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        talk.say(error("limit", "not now"))
        talk.close()

    async with fake_hub(folder, script) as hub:
        with pytest.raises(ConnectError, match="not now"):
            await Bus(f"{hub.url}&timeout=200ms").__aenter__()
        assert len(hub.talks) > 1


async def test_a_hub_that_says_nothing_is_not_waited_for_longer_than_asked(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        assert await talk.hear() is None

    async with fake_hub(folder, script) as hub:
        with pytest.raises(ConnectError, match="WELCOME"):
            await Bus(f"{hub.url}&timeout=100ms").__aenter__()
        await hub.done()


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        frames.frame(frames.PING, b"12345678"),
        frames.frame(frames.WELCOME, b"{}"),
        frames.frame(frames.WELCOME, b"no json"),
        frames.frame(0x80),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
async def test_what_is_no_welcome_is_no_hub(folder: Path, first: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        talk.say(first)
        while await talk.hear() is not None:
            pass

    async with fake_hub(folder, script) as hub:
        with pytest.raises(ConnectError):
            await Bus(f"{hub.url}&timeout=100ms").__aenter__()


# -- staying -----------------------------------------------------------------------------------


async def test_a_ping_is_answered_with_the_same_bytes(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        for content in (b"12345678", b"\x00\xff\x00\xff\x00\xff\x00\xff"):
            talk.say(frames.frame(frames.PING, content))
            pong = await talk.expect("PONG")
            assert pong.content["bytes"] == content.hex()

    async with fake_hub(folder, script) as hub, Bus(hub.url):
        await hub.done()


async def test_a_hub_that_is_silent_is_asked_and_in_the_end_left(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(limits={"heartbeat_s": 0.05})
        await talk.subscriptions(1)
        if talk.number == 0:
            await talk.expect("PING")
            while (frame := await talk.hear()) is not None:
                assert frame.kind == "PING"

    async with fake_hub(folder, script) as hub, Bus(hub.url):
        await hub.done(2)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        frames.frame(0x7F),
        frames.frame(frames.HELLO, b"{}"),
        frames.frame(frames.WELCOME, b"{}"),
        frames.frame(frames.PING, b"1"),
        frames.frame(frames.DONE, b"1"),
        frames.frame(frames.FAILED, b"1"),
        frames.frame(frames.DELIVER, b"1"),
        frames.frame(frames.DELIVER, bytes(100)),
        frames.frame(frames.OFFER, b"\x00\x00\x00\x01\x00\x01"),
        frames.frame(frames.RETURNED, b""),
        frames.frame(frames.WINDOW, b"\x00\x00"),
        frames.frame(frames.WINDOW, b"\x00\x00\x00\x01\xff\xfe"),
        frames.frame(frames.GONE, b""),
        frames.frame(frames.GONE, b"\xff"),
        frames.frame(frames.ANSWER, b"\x00\x00\x00\x01\x02{}"),
        frames.frame(frames.BYE, b"no json"),
    ],
)
async def test_a_hub_that_breaks_the_protocol_is_told_and_left(
    folder: Path, nonsense: bytes
) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        if talk.number == 0:
            talk.say(nonsense)
            frame = await talk.expect("ERROR")
            assert frame.content["json"]["reason"] in {"bad-frame", "frame-too-large"}
            assert await talk.hear() is None

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await hub.done(2)
        # It goes on, with the next connection.
        await bus.publish("a.b", 1)


async def test_a_hub_that_always_closes_is_tried_ever_less_often(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        talk.close()

    async with fake_hub(folder, script) as hub, Bus(hub.url):
        await hub.done(6)
        gaps = [right.began_s - left.began_s for left, right in pairwise(hub.talks)]
        assert gaps[4] > 3 * gaps[0]


# -- windows -----------------------------------------------------------------------------------


async def test_a_window_of_before_a_forget_does_not_count(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome(limits={"max_topics": 1})
        await talk.subscriptions(1)
        call = await talk.expect("CALL")
        talk.say(frames.done(call.content["call"], 2))
        await talk.expect("PUBLISH")
        for address in ("b", "a"):
            await talk.expect("FORGET")
            call = await talk.expect("CALL")
            assert call.content["messages"]["address"] == address
            if address == "b":
                talk.say(frames.done(call.content["call"], 2))
        # The hub said this when it got the PUBLISH, before it got the FORGET.
        talk.say(frames.window(5, b"a"))
        talk.say(frames.frame(frames.PING, b"12345678"))
        await talk.expect("PONG")
        early.set()
        second = await talk.expect("CALL")
        talk.say(frames.done(call.content["call"], 1), frames.done(second.content["call"], 0))
        await talk.expect("PUBLISH")
        last = await talk.expect("CALL")
        talk.say(frames.done(last.content["call"], 0))

    early = asyncio.Event()
    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await bus.publish("a", 1)
        await bus.publish("a", 2)
        await bus.publish("b", 3)
        fourth = asyncio.create_task(bus.publish("a", 4))
        await early.wait()
        await asyncio.gather(fourth, bus.publish("a", 5))
        await bus.publish("a", 6)
        await bus.publish("a", 7)
        await hub.done()


# -- asking ------------------------------------------------------------------------------------


async def test_asking_takes_no_longer_than_asked(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("ASK")
        assert await talk.hear() is not None

    async with fake_hub(folder, script) as hub:
        with pytest.raises(ConnectError, match="no answer"):
            await ask(hub.url, "status", timeout_s=0.05)


async def test_asking_nobody_starts_no_hub(folder: Path) -> None:
    with pytest.raises(ConnectError, match="no hub runs"):
        await ask("ipc://nobody", "status")
    assert list(folder.iterdir()) == []


async def test_who_is_asked_and_hangs_up_gives_no_answer(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("ASK")
        talk.cut()

    async with fake_hub(folder, script) as hub:
        with pytest.raises(BusError) as caught:
            await ask(hub.url, "status")
        assert isinstance(caught.value, ConnectError | DisconnectedError)


async def test_a_log_that_cannot_be_opened_is_an_error_of_the_log(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        details = {"kind": "LogLockedError", "path": "a.db", "holder": "process 7"}
        talk.say(error("log", "locked", details=details))
        talk.close()

    async with fake_hub(folder, script) as hub:
        with pytest.raises(LogError):
            await Bus(hub.url).__aenter__()
