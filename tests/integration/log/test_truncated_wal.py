"""A WAL that lost its end leaves a prefix of the log; a head kept elsewhere tells the loss."""

import shutil
from pathlib import Path

import pytest

from hms_bus.abc import Head
from hms_bus.plugins import open_log
from tests.support.events import events

FRAME_BYTES = 24 + 4096
HEADER_BYTES = 32


@pytest.fixture
async def crash(tmp_path: Path) -> tuple[Path, list[Head]]:
    """Return the files of a log as a crash would leave them, and its head after each commit."""
    folder = tmp_path / "crash"
    folder.mkdir()
    heads: list[Head] = []
    async with open_log(f"sqlite:{tmp_path / 'events.db'}") as log:
        heads.append(await log.head())
        for n in range(1, 8):
            await log.append(events(n))
            heads.append(await log.head())
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"events.db{suffix}", folder)
    return folder, heads


def offsets(wal_bytes: int) -> list[int]:
    """Return offsets all over the file, and those around each frame's borders."""
    borders = range(HEADER_BYTES, wal_bytes + 1, FRAME_BYTES)
    near = {border + shift for border in borders for shift in (-1, 0, 1, 24, 25)}
    return sorted(n for n in {0, 1, *range(7, wal_bytes, 1999), *near} if n <= wal_bytes)


async def test_what_a_truncated_wal_leaves_is_a_prefix_and_the_loss_is_found(
    crash: tuple[Path, list[Head]], tmp_path: Path
) -> None:
    folder, heads = crash
    wal = (folder / "events.db-wal").read_bytes()
    found: set[int] = set()
    for n, offset in enumerate(offsets(len(wal))):
        path = tmp_path / f"cut{n}.db"
        shutil.copy(folder / "events.db", path)
        path.with_name(f"{path.name}-wal").write_bytes(wal[:offset])
        async with open_log(f"sqlite:{path}") as log:
            head = await log.head()
            alone = await log.verify()
            compared = await log.verify(expected=heads[-1])
        assert head in heads
        assert alone.is_sound
        assert compared.is_sound == (head == heads[-1])
        if not compared.is_sound:
            assert compared.position == head.position + 1
        found.add(head.position)
    assert found == {head.position for head in heads}
