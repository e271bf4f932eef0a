"""The hash chain over a log's records (spec/log.md): bytes in, hashes out, no I/O.

A record's hash covers the hash before it, its position and time, its attributes, and the *hash* of
its payload. Hence a payload can be taken out later: as long as its hash is kept, the chain holds.
"""

import struct
from hashlib import sha256

GENESIS = bytes(32)
"""The hash before the first record, and that of an empty log."""

_PLACE = struct.Struct(">qq")
_DATA = b',"data":'
_DATA_BASE64 = b',"data_base64":'


def cut(document: bytes) -> int:
    """Return where the payload's member begins: at its comma, or at the closing brace without one.

    The first occurrence is the member, never a text inside a value: there the quote is escaped,
    and nothing but the payload, the last member, holds nested keys (spec/envelope.md).
    """
    index = document.find(_DATA)
    if index < 0:
        index = document.find(_DATA_BASE64)
    return index if index >= 0 else len(document) - 1


def payload_hash(document: bytes) -> bytes:
    """Return the SHA-256 of the payload's member: what stands after the attributes, without `}`."""
    return sha256(document[cut(document) : -1]).digest()


def link(
    previous: bytes,
    position: int,
    recorded_ns: int,
    document: bytes,
    redacted: bytes | None = None,
) -> bytes:
    """Return the hash of the record at `position`, given the hash before it.

    `redacted` is the payload's hash where the payload itself is gone from `document`.
    """
    at = cut(document)
    return sha256(
        b"".join(
            (
                previous,
                _PLACE.pack(position, recorded_ns),
                redacted or sha256(document[at:-1]).digest(),
                document[:at],
            )
        )
    ).digest()
