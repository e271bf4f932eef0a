"""Records straight from the pages of a SQLite file, past whatever is damaged.

https://sqlite.org/fileformat2.html: the leaf pages of a table hold its rows as cells, a row that
is too long goes on in a chain of overflow pages. Nothing above the leaves is needed, no root, no
schema and no index. What is no record of a log is passed over, as a row of `records` has a shape
that no other row has. Pages come from a function, so that nothing here does I/O.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

PAGE_BYTES = 4096
"""The page size of all logs, for a file whose header is damaged."""

SIZES = frozenset(512 << shift for shift in range(8))
"""What SQLite allows."""

_LEAF = 0x0D
_HEADER = 8
_CELL_HEADER_MIN = 4
_HASH = 12 + 2 * 32  # the serial type of 32 octets
_NULL, _ZERO, _ONE = 0, 8, 9
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_COLUMNS = 8
_MAX_DOCUMENT = 64 * 2**20
_VARINT_BYTES = 9

GetPage = Callable[[int], bytes | None]
"""Returns a page by its number from 1; `None` when the file does not hold all of it."""


class Found(Struct, frozen=True, gc=False):
    """A row of `records` as it stands on a page; `document` is `None` when its end is lost."""

    position: int
    recorded_ns: int
    id: bytes
    hash: bytes
    payload_hash: bytes | None
    document: bytes | None


class _NoRecordError(Exception):
    """These bytes are no row of `records`."""


def is_leaf(page: bytes) -> bool:
    """Whether the page may hold rows."""
    return page[0] == _LEAF


def rows_on(page: bytes, get_page: GetPage) -> Iterator[Found]:
    """Yield the rows of `records` that a leaf page holds, in its order."""
    for offset in _cells(page):
        try:
            yield _read_cell(page, offset, get_page)
        except (_NoRecordError, IndexError):
            continue


def last_positions_on(page: bytes) -> Iterator[int]:
    """Yield what rows of `topics` on a leaf page say: the positions of the topics' last records."""
    for offset in _cells(page):
        try:
            size, at = _varint(page, offset)
            _, at = _varint(page, at)
            content = page[at : at + size]
            alias, name, last = _types(content, 3)
        except (_NoRecordError, IndexError, ValueError):
            continue
        if alias != _NULL or name <= _ONE + 3 or not name % 2 or len(content) < size:
            continue
        if last == _ONE:
            yield 1
        elif last in _INTEGERS:
            yield _integer(content[-_INTEGERS[last] :])


def _cells(page: bytes) -> Iterator[int]:
    count = int.from_bytes(page[3:5])
    for index in range(min(count, (len(page) - _HEADER) // 2)):
        start = _HEADER + 2 * index
        offset = int.from_bytes(page[start : start + 2])
        if _HEADER <= offset < len(page) - _CELL_HEADER_MIN:
            yield offset


def _read_cell(page: bytes, offset: int, get_page: GetPage) -> Found:
    size, offset = _varint(page, offset)
    position, offset = _varint(page, offset)
    if not 0 < size < _MAX_DOCUMENT or position < 1:
        raise _NoRecordError
    local = _local_size(size, len(page))
    content = page[offset : offset + local]
    if len(content) < local:
        raise _NoRecordError
    types, body = _header(content)
    if local < size:
        rest = _overflow(page[offset + local : offset + local + 4], size - local, get_page)
        if rest is None:
            return _values(position, types, content, body, is_whole=False)
        content += rest
    return _values(position, types, content, body, is_whole=True)


def _local_size(size: int, page_bytes: int) -> int:
    """Return how much of a row stands on its leaf (section 1.6, "Cell payload overflow")."""
    most = page_bytes - 35
    if size <= most:
        return size
    least = (page_bytes - 12) * 32 // 255 - 23
    local = least + (size - least) % (page_bytes - 4)
    return local if local <= most else least


def _types(content: bytes, columns: int) -> list[int]:
    """Return the serial types of a row, which must have so many columns."""
    size, at = _varint(content, 0)
    types: list[int] = []
    while at < size and len(types) <= columns:
        kind, at = _varint(content, at)
        types.append(kind)
    if at != size or len(types) != columns:
        raise _NoRecordError
    return types


def _header(content: bytes) -> tuple[list[int], int]:
    """Return the serial types of a row of `records`, and where its values begin."""
    types = _types(content, _COLUMNS)
    alias, recorded, topic, source, id_, hash_, redacted, document = types
    are_right = (
        alias == _NULL
        and all(kind in _INTEGERS or kind in {_ZERO, _ONE} for kind in (recorded, topic, source))
        and all(kind > _ONE + 3 and kind % 2 for kind in (id_, document))
        and hash_ == _HASH
        and redacted in {_NULL, _HASH}
    )
    if not are_right:
        raise _NoRecordError
    return types, _varint(content, 0)[0]


def _values(position: int, types: list[int], content: bytes, at: int, *, is_whole: bool) -> Found:
    values: list[bytes] = []
    for kind in types:
        size = _INTEGERS.get(kind, 0) if kind < 12 else (kind - 12) // 2  # noqa: PLR2004 - texts and octets
        values.append(content[at : at + size])
        at += size
    if is_whole and at != len(content):
        raise _NoRecordError
    recorded = types[1] - _ZERO if types[1] in {_ZERO, _ONE} else _integer(values[1])
    redacted = values[6] if types[6] == _HASH else None
    return Found(
        position, recorded, values[4], values[5], redacted, values[7] if is_whole else None
    )


def _integer(octets: bytes) -> int:
    return int.from_bytes(octets, signed=True)


def _overflow(pointer: bytes, size: int, get_page: GetPage) -> bytes | None:
    """Follow a chain of overflow pages; `None` when it breaks."""
    parts: list[bytes] = []
    number = int.from_bytes(pointer)
    while size > 0:
        page = get_page(number) if number > 1 else None
        if page is None:
            return None
        part = page[4 : 4 + size]
        parts.append(part)
        size -= len(part)
        number = int.from_bytes(page[:4])
    # A chain that goes on where it should end has led astray.
    return None if number else b"".join(parts)


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """Return a number of 1 to 9 bytes, 7 bits each, and where it ends (section 1.6)."""
    value = 0
    for index in range(_VARINT_BYTES - 1):
        octet = octets[at + index]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, at + index + 1
    value = value << 8 | octets[at + _VARINT_BYTES - 1]
    return value - 2**64 if value >= 2**63 else value, at + _VARINT_BYTES
