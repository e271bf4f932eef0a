"""The hub among clients that send garbage: it goes on, answers everybody else, and forgets them."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from hms_bus.hub.peer import Peer
from hms_bus.hub.reads import Reading
from hms_bus.hub.routes import Fan
from hms_bus.hub.server import open_hub
from hms_bus.hub.settings import HubSettings
from hms_bus.hub.subscriptions import Group, Held, Subscription, Wait
from hms_bus.ipc.places import find_place
from tests.support import raw_client as raw
from tests.support.hub_process import PATIENCE_S, HubProcess, running_hub
from tests.support.raw_client import RawClient
from tests.support.troublemakers import storm
from tests.support.witness import witness_at

LIMITS = """
[limits]
max_client_bytes = 1_048_576
max_bytes = 16_777_216
"""
TOKENS = """
[[token]]
name = "trouble"
token = "trouble"
publish = ["fuzz.a"]
subscribe = ["fuzz.*"]

[[token]]
name = "witness"
token = "witness"
publish = [">"]
subscribe = [">"]
admin = true
"""
HUBS: dict[str, tuple[list[str], str]] = {
    "no log": ([], LIMITS),
    "memory": (["--log", "memory:"], LIMITS),
    "sqlite": (["--log", "sqlite:{folder}/events.db"], LIMITS),
    "tokens": (["--log", "memory:"], LIMITS + TOKENS),
}
TROUBLE = raw.hello(token="trouble")

STATE = (Peer, Subscription, Group, Held, Wait, Reading, Fan)
"""What a hub makes for its clients."""

MEMORY_MARGIN = 16 * 2**20
"""Bytes that the hub may have more when the troublemakers are gone."""


@pytest.fixture(params=HUBS)
def hub(
    runtime: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubProcess]:
    arguments, config = HUBS[request.param]
    monkeypatch.setenv("HMS_BUS_TOKEN", "witness")
    with running_hub(*[each.format(folder=runtime) for each in arguments], config=config) as hub:
        yield hub


async def instance_of(hub: HubProcess) -> str:
    async with RawClient.connected(hub.place.socket) as client:
        await client.send(raw.hello(token="witness"))
        welcome = await client.expect("WELCOME")
        return welcome.content["json"]["hub"]["instance"]


def sockets_of(hub: HubProcess) -> int:
    count = 0
    for each in Path(f"/proc/{hub.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed just now
            count += str(each.readlink()).startswith("socket:")
    return count


async def only(hub: HubProcess, sockets: int) -> None:
    """Return when the hub has no more than so many sockets."""
    async with asyncio.timeout(PATIENCE_S):
        while sockets_of(hub) > sockets:  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.01)


def count_of(*kinds: type) -> int:
    gc.collect()
    return sum(type(each) in kinds for each in gc.get_objects())


@pytest.mark.parametrize("seed", range(3))
async def test_garbage_harms_nobody_but_who_sends_it(hub: HubProcess, seed: int) -> None:
    instance = await instance_of(hub)
    sockets = sockets_of(hub)
    async with witness_at(hub.url):
        await storm(hub.place.socket, "warm", 50, hello=TROUBLE)
    memory = hub.resident_bytes()
    async with witness_at(hub.url) as witness:
        for part in range(5):
            await storm(hub.place.socket, f"{seed}.{part}", 100, hello=TROUBLE)
            await witness.more(1)
    await only(hub, sockets)
    status = await hub.status()
    assert status["totals"]["clients"] == 1, "nobody but who asks"
    assert status["totals"]["queued_bytes"] == 0
    assert hub.resident_bytes() - memory < MEMORY_MARGIN
    assert await instance_of(hub) == instance


async def test_many_who_never_finish_a_sentence_cost_little(hub: HubProcess) -> None:
    sockets, memory = sockets_of(hub), hub.resident_bytes()
    hello, giant = TROUBLE, (16 * 2**20).to_bytes(4, "big") + b"\x10"
    async with witness_at(hub.url) as witness, AsyncExitStack() as stack:
        for number in range(300):
            client = await stack.enter_async_context(RawClient.connected(hub.place.socket))
            match number % 3:
                case 0:
                    await client.send(hello[: number % len(hello)])
                case 1:
                    await client.send(hello)
                    await client.expect("WELCOME")
                    await client.send(giant[: number % 6])
                case _:
                    await client.send(hello)
        await witness.more(100)
        assert hub.resident_bytes() - memory < MEMORY_MARGIN
    await only(hub, sockets)


async def test_nothing_is_left_of_who_made_trouble(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    before = count_of(*STATE)
    settings = HubSettings(listen="ipc://test", log="memory:")
    async with open_hub(settings, on_stop=lambda: None) as desk:
        await storm(find_place("test").socket, "here", 300)
        while desk.peers or desk._strangers:  # noqa: ASYNC110 - a hub tells nobody of those
            await asyncio.sleep(0.01)
        assert desk.switchboard.queued_bytes == 0
        assert count_of(*STATE) <= before


async def test_who_leaves_before_the_answer_disturbs_nobody(hub: HubProcess) -> None:
    async with witness_at(hub.url) as witness:
        for number in range(100):
            event = {"specversion": "1.0", "id": f"{number}", "source": "/s", "type": "t"}
            document = raw.to_json(**event, topic="fuzz.a")
            async with RawClient.welcomed(hub.place.socket, token="trouble") as client:
                asked = [raw.append(call, "fuzz.a", document) for call in range(20)]
                await client.send(*asked, raw.read(21), raw.ask(22, "verify"))
        await witness.more(10)
