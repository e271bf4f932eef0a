"""Logs as a killed writer leaves them, with many commits in the WAL, and damage to that."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from hms_bus.envelope import Envelope
from hms_bus.plugins import open_log
from tests.support.tool_logs import PAGE

WAL_HEADER = 32
FRAME_HEADER = 24
FRAME = FRAME_HEADER + PAGE


def killed_log(path: Path, envelopes: Sequence[Envelope]) -> Path:
    """Make a log at `path` whose WAL holds a commit for each of `envelopes`."""
    source = path.with_name(f"source-of-{path.name}")

    async def append() -> None:
        async with open_log(f"sqlite:{source}") as log:
            for envelope in envelopes:
                await log.append([envelope])
            for suffix in ("", "-wal"):
                await asyncio.to_thread(shutil.copyfile, f"{source}{suffix}", f"{path}{suffix}")

    asyncio.run(append())
    return path


def frames_in(path: Path) -> int:
    """How many frames the WAL of the log at `path` has."""
    return (wal_of(path).stat().st_size - WAL_HEADER) // FRAME


def wal_of(path: Path) -> Path:
    """The WAL of the log at `path`."""
    return path.with_name(f"{path.name}-wal")


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def in_frame(number: int, offset: int) -> int:
    """Where an octet of a frame stands in the WAL; the page begins at `FRAME_HEADER`."""
    return WAL_HEADER + number * FRAME + offset
