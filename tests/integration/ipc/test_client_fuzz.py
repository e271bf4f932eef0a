"""A bus whose hub talks nonsense: it stays sound, tries again, and works when there is a hub."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from hms_bus import Bus, plugins
from hms_bus.ipc import frames
from hms_bus.ipc.places import Place, find_place
from hms_bus.transports.ipc import client
from tests.support import raw_client as raw
from tests.support.busy_bus import outlive_nonsense
from tests.support.fake_hub import Talk, fake_hub, welcome
from tests.support.sinks import Taking

CONNECTIONS = 40


@pytest.fixture
def place(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place of the hub; its clients come back at once, however often they were sent away."""
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "_AFTER_BYE_S", 0.01)
    runtime.mkdir(mode=0o700)
    return find_place("test")


@pytest.fixture
async def accidents() -> AsyncGenerator[list[dict[str, Any]]]:
    """What the event loop was told that nobody has handled; there must be nothing."""
    accidents: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: accidents.append(context))
    yield accidents
    gc.collect()  # tasks and futures tell when they are let go of
    await asyncio.sleep(0)
    assert not accidents


@pytest.mark.parametrize("log", [None, "sqlite:{folder}/events.db"], ids=["no log", "log"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_bus_works_again_when_the_nonsense_is_over(
    place: Place, accidents: list[dict[str, Any]], seed: int, log: str | None
) -> None:
    url = None if log is None else log.format(folder=place.folder)
    await outlive_nonsense(place, seed, CONNECTIONS, url)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nonsense_right_behind_the_welcome_is_only_nonsense(
    place: Place, accidents: list[dict[str, Any]]
) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        if talk.number == 0:
            talk.say(welcome(), frames.frame(frames.PING, b"1"))
            await talk.expect("ERROR")
        else:
            talk.say(welcome())

    async with fake_hub(place.folder, script) as hub, Bus(hub.url) as bus:
        await bus.publish("fuzz.a", 1)
        assert len(hub.talks) == 2


async def test_who_gives_up_before_the_welcome_leaves_nothing_behind(
    place: Place, accidents: list[dict[str, Any]]
) -> None:
    async def script(talk: Talk) -> None:
        await talk.expect("HELLO")
        opening.cancel()
        assert await talk.hear() is None

    async with fake_hub(place.folder, script) as hub:
        opening = asyncio.create_task(Bus(hub.url).__aenter__())
        await asyncio.wait([opening])
        await hub.done()


async def test_credit_that_was_overdrawn_is_given_again(place: Place) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        [subscribe] = await talk.subscriptions(1)
        assert subscribe.content["json"]["credit"] == 10
        talk.say(deliver(10), raw.PING)
        await talk.expect("PONG")
        sink.room = 0
        talk.say(deliver(3), raw.PING)
        await talk.expect("PONG")
        sink.told_when_roomy.pop()()  # there was room, and what came since has filled it
        sink.room = 10
        sink.told_when_roomy.pop()()
        given = 0
        while given < 13:
            credit = await talk.expect("CREDIT")
            given += sum(entry["credit"] for entry in credit.content["entries"])

    def deliver(count: int) -> bytes:
        document = raw.to_json(specversion="1.0", id="1", source="/s", type="t", topic="fuzz.a")
        head = frames.deliver_head([1])
        content = head + raw.messages("fuzz.a", *[document] * count)
        return frames.U32.pack(len(content)) + content

    sink = Taking(overflow="block", room=10)
    json_codec = plugins.get_codec("json")
    async with (
        fake_hub(place.folder, script) as hub,
        plugins.open_transport(hub.url, codec=json_codec) as transport,
    ):
        unsubscribe = await transport.subscribe("fuzz.a", sink)
        await hub.done()
        await unsubscribe()
