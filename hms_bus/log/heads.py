"""Heads as small documents, for keeping outside the log: beside a backup, in a ticket, in git.

A chain cannot see that its own tail is gone. A head that was kept elsewhere can:

    Path("events.head").write_bytes(format_head(await log.head()))
    ...
    await log.verify(expected=parse_head(Path("events.head").read_bytes()))
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from hms_bus.abc import Head
from hms_bus.errors import DecodeError


class _Document(Struct, frozen=True, kw_only=True):
    # A reader ignores members it does not know: a signature will stand among them.
    format: Literal["hms-bus-head/1"]
    position: Annotated[int, Meta(ge=0)]
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    recorded_ns: Annotated[int, Meta(ge=0)]


_decoder = msgspec.json.Decoder(_Document)


def format_head(head: Head) -> bytes:
    """Return `head` as one line of JSON (spec/log.md, "Heads"), ended by a newline."""
    document = _Document(
        format="hms-bus-head/1",
        position=head.position,
        hash=head.hash.hex(),
        recorded_ns=head.recorded_ns,
    )
    return msgspec.json.encode(document) + b"\n"


def parse_head(document: bytes) -> Head:
    """Read what `format_head` wrote. Raises `DecodeError`."""
    try:
        read = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = "wrong-type" if isinstance(error, msgspec.ValidationError) else "malformed"
        raise DecodeError(f"this is no head of a log: {error}", reason=reason) from error
    return Head(position=read.position, hash=bytes.fromhex(read.hash), recorded_ns=read.recorded_ns)
