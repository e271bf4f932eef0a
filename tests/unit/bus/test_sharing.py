"""One open log for all buses of a process, whatever they call it."""

from pathlib import Path

import pytest

from hms_bus import Bus
from hms_bus.bus.sharing import shared_log
from hms_bus.errors import LogLockedError


async def test_two_names_of_one_file_are_one_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to("run.db")
    async with (
        Bus(log="sqlite:run.db") as one,
        Bus(log="sqlite:./run.db") as two,
        Bus(log=f"sqlite:{tmp_path}/link.db") as three,
    ):
        for position, bus in enumerate((one, two, three), 1):
            assert (await bus.publish("a")).position == position
            assert (await one.log.head()).position == position


async def test_other_settings_are_another_opening(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/run.db"
    async with shared_log(url) as writer, shared_log(f"{url}?readonly=true") as reader:
        assert reader is not writer
        with pytest.raises(LogLockedError):
            async with shared_log(f"{url}?sync=normal"):
                pass


async def test_a_log_without_a_name_is_private() -> None:
    async with shared_log("memory:") as one, shared_log("memory:") as two:
        assert one is not two
