"""Files and folders that may not be written, or not be read."""

import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hms_bus.plugins import open_log
from tests.support.events import events
from tests.support.log_programs import open_unprivileged


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def open_as_somebody(url: str) -> str:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([open_unprivileged.__module__, "hms_bus.log.sqlite"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=open_unprivileged, args=(url, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        ours.close()
        process.join()


async def make_log(path: Path, mode: int) -> None:
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(3))
    path.chmod(mode)


async def test_a_folder_that_may_not_be_written(folder: Path) -> None:
    folder.chmod(0o555)
    answer = open_as_somebody(f"sqlite:{folder / 'events.db'}")
    assert f"no permission to write {folder / 'events.db'}" in answer
    assert "change the owner or mode" in answer


async def test_a_log_that_may_only_be_read(folder: Path) -> None:
    path = folder / "events.db"
    await make_log(path, 0o444)
    folder.chmod(0o555)
    assert "no permission to write" in open_as_somebody(f"sqlite:{path}")
    assert open_as_somebody(f"sqlite:{path}?readonly=true") == "3 records"


async def test_a_log_in_a_folder_that_may_not_be_written(folder: Path) -> None:
    path = folder / "events.db"
    await make_log(path, 0o666)
    folder.chmod(0o555)
    assert "no permission to write" in open_as_somebody(f"sqlite:{path}")


async def test_a_log_that_may_not_be_read(folder: Path) -> None:
    path = folder / "events.db"
    await make_log(path, 0o000)
    for options in ("", "?readonly=true"):
        assert "no permission to read" in open_as_somebody(f"sqlite:{path}{options}")
