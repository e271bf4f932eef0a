"""Where a bus's log is kept: by the transport that keeps logs, else in this process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hms_bus import Bus
from hms_bus.abc import Selector
from hms_bus.bus.sharing import _logs  # pyright: ignore[reportPrivateUsage] - what is open here
from hms_bus.errors import ConfigError, LogLockedError, UnsupportedError
from hms_bus.plugins import behind, open_log
from tests.support.keeping import Kept, hubs

pytestmark = pytest.mark.usefixtures("keeping")


def is_kept(bus: Bus) -> bool:
    """Whether the log of an open bus is behind its transport, and nothing is open beside it."""
    return isinstance(bus.log, Kept) and not _logs


async def test_the_transport_keeps_the_log_of_its_bus() -> None:
    async with Bus("keeping:one", log="memory:") as bus, Bus("keeping:one") as other:
        assert is_kept(bus)
        assert (await bus.publish("a", 1)).position == 1
        assert (await other.publish("a", 2)).position == 2
        assert [m.data async for m in other.replay("a")] == [1, 2]


async def test_another_transport_leaves_the_log_to_its_bus() -> None:
    async with Bus("direct://", log="memory:named") as bus:
        assert not is_kept(bus)
        assert len(_logs) == 1


async def test_a_transport_without_a_log_has_none() -> None:
    async with Bus("keeping:none") as bus:
        with pytest.raises(UnsupportedError):
            _ = bus.log
        assert (await bus.publish("a")).position is None


async def test_a_relative_path_is_from_the_folder_of_the_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "50% off?"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bus = Bus("keeping:relative", log="sqlite:run%20a.db?sync=normal")
    async with bus:
        monkeypatch.chdir(tmp_path)
        await bus.publish("a", 1)
        with pytest.raises(LogLockedError):
            async with open_log(f"sqlite:{tmp_path}/50%25 off%3F/run a.db"):
                pass
    assert (folder / "run a.db").is_file()


async def test_making_a_bus_looks_at_no_disk(tmp_path: Path) -> None:
    Bus("keeping:lazy", log="sqlite:relative.db")
    Bus("keeping:lazy", log=f"sqlite:{tmp_path}/absolute.db")
    assert list(tmp_path.iterdir()) == []
    assert "lazy" not in hubs


async def test_routes_to_the_same_transport_share_its_log() -> None:
    bus = Bus(
        "keeping:routes",
        log="memory:",
        routes={"here.>": "keeping:routes", "near.>": "direct://", "far.>": "keeping:elsewhere"},
    )
    got: list[str] = []

    @bus.subscribe("*.>")
    async def take(topic: str) -> None:
        got.append(topic)

    async with bus:
        positions = [
            (await bus.publish(topic, topic)).position
            for topic in ("here.a", "near.b", "other.c", "far.d")
        ]
        assert positions == [1, None, 2, None]
        assert len({link.transport for link in bus._opened().links}) == 3
        kept = [record.envelope.topic async for record in bus.log.read(Selector())]
    assert kept == ["here.a", "other.c"]
    assert got == ["here.a", "near.b", "other.c", "far.d"]


async def test_every_transport_that_brings_a_log_keeps_its_own() -> None:
    bus = Bus("keeping:own", log="memory:", routes={"far.>": "keeping:theirs?log=memory%3Atheirs"})
    async with bus:
        assert [(await bus.publish(topic)).position for topic in ("a", "far.a", "b")] == [1, 1, 2]
        with pytest.raises(UnsupportedError, match="more than one log"):
            await bus.publish_many([("a", 1), ("far.a", 2)])
        assert [m.topic async for m in bus.replay()] == ["a", "b"]


@pytest.mark.parametrize(
    ("url", "log", "told"),
    [
        ("keeping:a?log=memory%3A", "memory:", "names a log already"),
        ("keeping:a", "sqlite:run.db?readonly=true", "a hub writes its log"),
        ("keeping:a", "sqlite:run.db?sync=perhaps", "sync is normal, full or extra"),
        ("keeping:a", "sqlite:", "names no file"),
        ("keeping:a", "paper:roll", "unknown log 'paper'"),
        ("keeping:a", "run.db", "did you mean 'sqlite:run.db'"),
        ("faulty:keeping:a?log=memory%3A&drop=0.1", "memory:", "faults: drop"),
        ("faulty:keeping:a?drop=2", "memory:", "0 to 1"),
    ],
)
def test_a_log_that_cannot_be_kept_is_refused_when_the_bus_is_made(
    url: str, log: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        Bus(url, log=log)


async def test_a_second_log_behind_one_transport_is_refused_when_it_is_opened() -> None:
    async with Bus("keeping:two", log="memory:"):
        with pytest.raises(ConfigError, match="keeps memory:, not memory:other"):
            async with Bus("keeping:two", log="memory:other"):
                pass


async def test_a_bus_that_was_closed_can_open_its_log_again(tmp_path: Path) -> None:
    bus = Bus("keeping:again", log=f"sqlite:{tmp_path}/run.db")
    for opening in range(3):
        async with bus:
            assert (await bus.publish("a")).position == opening + 1


async def test_faults_leave_the_log_where_it_is() -> None:
    async with Bus("faulty:keeping:faulty?duplicate=1", log="memory:") as bus:
        assert is_kept(bus)
        await bus.publish("a", 1)
        assert (await bus.log.head()).position == 1
    async with Bus("faulty:direct://faulty?duplicate=1", log="memory:") as bus:
        assert not isinstance(bus.log, Kept)


def test_the_url_with_a_log_behind() -> None:
    assert behind("keeping:a", "memory:x") == "keeping:a?log=memory%3Ax"
    assert (
        behind("faulty:keeping:a?drop=0.5&seed=7", "memory:x")
        == "faulty:keeping:a?log=memory%3Ax&drop=0.5&seed=7"
    )
    assert behind("direct://a", "memory:x") is None
    assert behind("faulty:direct://a?drop=0.5", "memory:x") is None


async def test_buses_that_open_at_once_share_the_log(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path}/run.db"

    async def publish(n: int) -> Any:
        async with Bus("keeping:race", log=log) as bus:
            receipt = await bus.publish("a", n)
            await all_here.wait()
            return receipt.position

    all_here = asyncio.Barrier(5)
    positions = await asyncio.gather(*map(publish, range(5)))
    assert sorted(positions) == [1, 2, 3, 4, 5]
