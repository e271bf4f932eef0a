"""Which log's durables are meant, by what is said and by what is configured."""

from pathlib import Path

import pytest

from hms_bus.cli.durable.place import Place, find_place, open_place, read_infos
from hms_bus.errors import ConnectError, LogLockedError, UsageError
from hms_bus.plugins import open_log
from tests.support.dead_letters import consuming, fill


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make it the working folder: no configuration of whoever runs the tests counts."""
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "LOG", "CONFIG"):
        monkeypatch.delenv(f"HMS_BUS_{name}", raising=False)
    return tmp_path


def configure(url: str | None, log: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("URL", url), ("LOG", log)):
        if value is not None:
            monkeypatch.setenv(f"HMS_BUS_{name}", value)


@pytest.mark.parametrize(
    ("url", "log", "place"),
    [
        (None, "run.db", Place(log="sqlite:run.db")),
        ("direct://", "run.db", Place(log="sqlite:run.db")),
        ("ipc://agents", "run.db", Place(bus="ipc://agents", log="sqlite:run.db")),
        ("ipc://agents", None, Place(bus="ipc://agents")),
    ],
)
def test_without_a_name_the_configuration_says_it(
    url: str | None, log: str | None, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(url, log, monkeypatch)
    assert find_place(None, None) == place


def test_what_is_named_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("ipc://agents", "run.db", monkeypatch)
    assert find_place("other.db", None) == Place(log="sqlite:other.db")
    assert find_place(None, "ipc://shop?token=t") == Place(bus="ipc://shop?token=t")
    assert find_place(None, "ipc://shop?token=t").title == "ipc://shop"


@pytest.mark.parametrize(
    ("log", "bus", "said"),
    [
        ("run.db", "ipc://shop", "write one of them"),
        (None, None, "no log is named"),
        ("memory:", None, "exists only in the process"),
    ],
)
def test_what_names_no_log_is_refused(log: str | None, bus: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_place(log, bus)


async def test_a_file_is_there_when_its_hub_is_not(folder: Path) -> None:
    log = f"sqlite:{folder}/run.db"
    async with open_log(log) as opened:
        await fill(consuming(opened))
    hub = f"ipc://{folder}/none.sock"
    async with open_place(Place(bus=hub, log=log)) as reading:
        [(info, consumers)] = await read_infos(Place(bus=hub, log=log), reading)
    assert (info.dead, consumers) == ((2, 3), 0)
    with pytest.raises(ConnectError):
        async with open_place(Place(bus=hub)):
            pass


async def test_who_wants_to_change_a_file_in_use_is_sent_to_the_hub(folder: Path) -> None:
    place = Place(log=f"sqlite:{folder}/run.db")
    async with open_log(place.log or "") as writing:
        await fill(consuming(writing))
        async with open_place(place) as reading:
            [(_, consumers)] = await read_infos(place, reading)
        with pytest.raises(LogLockedError) as caught:
            async with open_place(place, writes=True):
                pass
    assert consumers is None
    assert "--bus ipc://NAME" in caught.value.__notes__[0]
