"""Good-byes, and last words, of a client and its hub (spec/ipc.md, "Staying")."""

import asyncio
from pathlib import Path

import pytest

from hms_bus import Bus, plugins
from hms_bus.errors import DisconnectedError
from hms_bus.ipc import frames
from tests.support.fake_hub import BYE, Talk, fake_hub, welcome


@pytest.fixture
def folder(runtime: Path) -> Path:
    runtime.mkdir(mode=0o700)
    return runtime


# -- the end of a hub --------------------------------------------------------------------------


async def test_after_a_good_bye_nothing_is_said_but_answers(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        call = await talk.expect("CALL")
        if talk.number == 0:
            talk.say(frames.done(call.content["call"], 100))
            await talk.expect("PUBLISH")
            talk.say(BYE)
            await talk.expect("BYE")
            parted.set()
            talk.say(frames.frame(frames.PING, b"12345678"))
            await talk.expect("PONG")
            said.set()
            await published.wait()
            talk.say(BYE)
            assert await talk.hear() is None
        else:
            again.extend(call.content["messages"]["envelopes"])
            talk.say(frames.done(call.content["call"], 100))
            again.extend((await talk.expect("CALL")).content["messages"]["envelopes"])

    parted, said, published = (asyncio.Event() for _ in range(3))
    again: list[bytes] = []
    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await bus.publish("a.b", 1)
        await bus.publish("a.b", 2)
        await parted.wait()
        await said.wait()
        await bus.publish("a.b", 3)
        await bus.publish("a.b", 4)
        published.set()
        await hub.done(2)
    codec = plugins.get_codec("json")
    assert [codec.decode(document).decode(int) for document in again] == [3, 4]


async def test_a_good_bye_behind_the_welcome_is_answered(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 0:
            await talk.expect("HELLO")
            talk.say(welcome(), BYE)
            while (frame := await talk.hear()) is not None and frame.kind != "BYE":
                pass
            assert frame is not None, "it went without a good-bye"
            talk.say(BYE)
            talk.close()
        else:
            await talk.welcome()
            await talk.subscriptions(1)

    async with fake_hub(folder, script) as hub, Bus(hub.url):
        await hub.done(2)


async def test_the_last_words_are_waited_for_when_the_bus_is_closed(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.subscriptions(1)
        call = await talk.expect("CALL")
        talk.say(frames.done(call.content["call"], 100))
        heard = 1
        while (frame := await talk.hear_more()).kind != "BYE":
            if frame.kind == "PUBLISH":
                heard += len(frame.content["messages"]["envelopes"])
            elif frame.kind == "UNSUBSCRIBE":
                talk.say(frames.done(frame.content["call"]))
        assert heard == 50
        talk.say(BYE)
        talk.close()

    async with fake_hub(folder, script) as hub:
        async with Bus(hub.url) as bus:
            for n in range(50):
                await bus.publish("a.b", n)
        await hub.done()


async def test_what_waits_for_a_connection_is_sent_before_the_bus_is_closed(folder: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        if talk.number == 0:
            await talk.subscriptions(1)
            talk.cut()
            return
        while (call := await talk.hear_more()).kind != "CALL":
            pass  # the request is cancelled first
        assert call.content["messages"]["address"] == "a.b"
        talk.say(frames.done(call.content["call"], 100))

    async with fake_hub(folder, script) as hub:
        async with Bus(hub.url) as bus:
            await hub.done()
            with pytest.raises(DisconnectedError):
                await bus.request("a.b", timeout=60)
            await bus.publish("a.b", 1)
        await hub.done(2)


async def test_what_cannot_be_sent_before_the_bus_is_closed_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(talk: Talk) -> None:
        if talk.number == 0:
            await talk.welcome()
            await talk.subscriptions(1)
        talk.cut()

    async with fake_hub(folder, script) as hub, Bus(hub.url) as bus:
        await hub.done()
        with pytest.raises(DisconnectedError):
            await bus.request("a.b", timeout=60)
        await bus.publish("a.b", 1)
        await bus.publish("a.b", 2)
    assert "are lost" in caplog.text
