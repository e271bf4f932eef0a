"""The pages in a write-ahead log (https://sqlite.org/fileformat2.html, section 4)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hms_bus.log.tools.pages import PAGE_BYTES, SIZES

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF


class Wal(NamedTuple):
    """What a WAL holds: where in the file pages begin.

    `committed` are the latest versions of pages, by number, up to the last commit whose checksums
    are right. `dropped` are number and place of all behind that when the WAL is damaged there,
    oldest first: SQLite passes them over, and only their contents can tell what they are worth.
    """

    committed: dict[int, int]
    dropped: list[tuple[int, int]]


class _Frame(NamedTuple):
    number: int
    offset: int
    is_commit: bool
    is_right: bool


def read_wal(path: Path) -> Wal:
    """Read the WAL `path`, which nobody may be writing. An absent or empty one has no pages.

    What an unfinished transaction has left at the end is no damage. Raises `OSError`.
    """
    committed: dict[int, int] = {}
    pending: list[tuple[int, int]] = []
    is_right = True
    try:
        with path.open("rb") as file:
            for frame in _frames(file):
                is_right = frame.is_right
                pending.append((frame.number, frame.offset))
                if is_right and frame.is_commit:
                    committed.update(pending)
                    pending = []
    except FileNotFoundError:
        pass
    return Wal(committed, [] if is_right else pending)


def _frames(file: BinaryIO) -> Iterator[_Frame]:
    """Yield the frames of the header's generation; after one that is wrong, none is right.

    Those of an older generation, which is overwritten from its beginning, have other salts and
    stand behind all of these: before one of these, such a frame was damaged.
    """
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return
    magic, _, stated, _, *salts, first, second = struct.unpack(">8I", header)
    order = ">" if magic & 1 else "<"
    running: tuple[int, int] | None = (first, second)
    if magic & ~1 != _MAGIC or _checksum(order, header[:24], (0, 0)) != running:
        running, salts = None, []
    page_bytes = stated if stated in SIZES else PAGE_BYTES
    size = _FRAME_HEADER_BYTES + page_bytes
    offset = _HEADER_BYTES
    others: list[_Frame] = []
    while len(frame := file.read(size)) == size:
        number, in_all, *frame_salts, first, second = struct.unpack(">6I", frame[:24])
        # Without a header the first frame tells the generation.
        salts = salts or frame_salts
        if running is not None:
            running = _checksum(order, frame[:8] + frame[24:], running)
            if frame_salts != salts or running != (first, second):
                running = None
        place = offset + _FRAME_HEADER_BYTES
        others.append(_Frame(number, place, in_all != 0, running is not None))
        if frame_salts == salts:
            yield from others
            others = []
        offset += size


def _checksum(order: str, octets: bytes, running: tuple[int, int]) -> tuple[int, int]:
    """Go on with a checksum (section 4.2): 250 µs for a page."""
    first, second = running
    words = struct.unpack(f"{order}{len(octets) // 4}I", octets)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & _MASK
        second = (second + words[index + 1] + first) & _MASK
    return first, second
