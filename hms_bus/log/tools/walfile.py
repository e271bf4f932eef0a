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


class Dropped(NamedTuple):
    """A page of a commit that SQLite passes over: its number, and where in the file it begins.

    `is_damaged` says that it is not what was written, or that the frame before it is not; `None`
    that this cannot be told: right behind the last commit, an old frame of which those before
    were overwritten looks just as a damaged one.
    """

    number: int
    offset: int
    is_damaged: bool | None


class Wal(NamedTuple):
    """What a WAL holds: where in the file pages begin.

    `committed` are the latest versions of pages, by number, up to the last commit whose checksums
    are right. `dropped` are those of commits behind that which are not whole, oldest first: SQLite
    passes them over, and only their contents can tell what they are worth.
    """

    committed: dict[int, int]
    dropped: list[Dropped]

    @property
    def is_damaged(self) -> bool:
        """Whether it is damaged for certain, and no commit just overwritten before it was whole."""
        return any(page.is_damaged for page in self.dropped)


class _Frame(NamedTuple):
    number: int
    offset: int
    is_commit: bool
    is_right: bool
    is_damaged: bool | None


def read_wal(path: Path) -> Wal:
    """Read the WAL `path`, which nobody may be writing. An absent or empty one has no pages.

    What has no mark of a commit behind it is of an unfinished one: no damage, and worth nothing.
    Raises `OSError`.
    """
    committed: dict[int, int] = {}
    pending: list[Dropped] = []
    ended = 0
    try:
        with path.open("rb") as file:
            for frame in _frames(file):
                pending.append(Dropped(frame.number, frame.offset, frame.is_damaged))
                ended = len(pending) if frame.is_commit else ended
                if frame.is_right and frame.is_commit:
                    committed.update((number, offset) for number, offset, _ in pending)
                    pending, ended = [], 0
    except FileNotFoundError:
        pass
    return Wal(committed, pending[:ended])


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
    before = (first, second)
    has_header = magic & ~1 == _MAGIC and _checksum(order, header[:24], (0, 0)) == before
    is_right, is_behind_commit = has_header, False
    if not has_header:
        salts = []
    page_bytes = stated if stated in SIZES else PAGE_BYTES
    size = _FRAME_HEADER_BYTES + page_bytes
    offset = _HEADER_BYTES
    others: list[_Frame] = []
    while len(frame := file.read(size)) == size:
        number, in_all, *frame_salts, first, second = struct.unpack(">6I", frame[:24])
        # Without a header the first frame tells the generation.
        salts = salts or frame_salts
        is_ours = frame_salts == salts
        is_whole = is_ours and _checksum(order, frame[:8] + frame[24:], before) == (first, second)
        may_be_old = is_ours and is_behind_commit
        is_damaged = False if has_header and is_whole else None if may_be_old else True
        is_commit = is_ours and in_all != 0
        is_right = is_right and is_whole
        is_behind_commit, before = is_right and is_commit, (first, second)
        place = offset + _FRAME_HEADER_BYTES
        others.append(_Frame(number, place, is_commit, is_right, is_damaged))
        if is_ours:
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
