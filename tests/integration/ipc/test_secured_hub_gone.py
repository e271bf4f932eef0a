"""A hub with tokens that is gone is not replaced by one that lets in anybody."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.errors import ConnectError
from hms_bus.hub.server import open_hub
from hms_bus.hub.settings import HubSettings, load_settings
from hms_bus.ipc.places import find_place
from tests.support.hub_places import runtime_folder

TOKEN = "s3cret"


def secured(tmp_path: Path) -> HubSettings:
    file = tmp_path / "hub.toml"
    file.write_text(
        'listen = "ipc://secured"\n[[token]]\nname = "shop"\n'
        f'sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n'
        'publish = [">"]\nsubscribe = [">"]\n'
    )
    return load_settings(file)


async def test_who_has_lost_it_waits_for_it(tmp_path: Path) -> None:
    settings = await asyncio.to_thread(secured, tmp_path)
    with runtime_folder():
        bus = Bus(f"ipc://secured?token={TOKEN}")
        async with open_hub(settings, on_stop=lambda: None):
            await bus.__aenter__()
            await bus.publish("a.b", 1)
        await asyncio.sleep(2.5)  # longer than a client stays away after a BYE
        assert not await asyncio.to_thread(find_place("secured").socket.exists)
        async with open_hub(settings, on_stop=lambda: None) as desk:
            while not desk.peers:  # noqa: ASYNC110 - its next try, within seconds
                await asyncio.sleep(0.01)
            await bus.__aexit__(None, None, None)


async def test_who_has_a_token_starts_none() -> None:
    with (
        runtime_folder(),
        pytest.raises(ConnectError, match="hms-bus hub --listen ipc://secured"),
    ):
        async with Bus(f"ipc://secured?token={TOKEN}&timeout=1s"):
            pass


async def test_one_slash_is_asked_about() -> None:
    with pytest.raises(Exception, match="did you mean ipc://agents"):
        Bus("ipc:/agents")
