"""The order of the hub's log when it refuses something."""

import asyncio
from pathlib import Path

import pytest

from hms_bus import plugins
from hms_bus.hub.server import open_hub
from hms_bus.hub.settings import HubSettings
from hms_bus.ipc import frames
from tests.support import raw_client as raw
from tests.support.events import event
from tests.support.hub_places import runtime_folder
from tests.support.raw_client import RawClient

COUNT = 1500
"""More than one commit takes."""

BAD = plugins.get_codec("cbor").encode(event("q.q", b"x" * 13_000_000))
"""An event that can be read, and is too long as a record."""


@pytest.mark.parametrize("kind", ["memory:", "sqlite:"])
async def test_an_envelope_that_is_refused_changes_no_order(kind: str) -> None:
    with runtime_folder() as folder:
        log = kind if kind == "memory:" else f"sqlite:{folder}/a.db"
        place = Path(folder) / "hub.sock"
        folder.mkdir(mode=0o700, exist_ok=True)
        settings = HubSettings(listen=f"ipc://{place}", log=log)
        async with (
            open_hub(settings, on_stop=lambda: None) as desk,
            RawClient.welcomed(place) as client,
            RawClient.welcomed(place) as other,
        ):
            good, bad = desk.peers[1], desk.peers[2]
            document = plugins.get_codec("json").encode(event("a.b", ""))
            for number in range(COUNT):
                if number == 5:
                    desk.journal.append(bad, raw.append(1, "q.q", BAD)[frames.LENGTH_BYTES :])
                envelope = document.replace(b'"id":"', b'"id":"%d-' % number)
                frame = raw.append(number, "a.b", envelope)
                desk.journal.append(good, frame[frames.LENGTH_BYTES :])
            await asyncio.sleep(0)
            positions: dict[int, int] = {}
            while len(positions) < COUNT:
                answer = await client.expect("RECEIPTS")
                for entry in answer.content["entries"]:
                    positions[entry["call"]] = entry["position"]
            assert [positions[number] for number in range(COUNT)] == list(range(1, COUNT + 1))
            await other.expect("FAILED", call=1)
