"""What the suite and its worker process say to each other: calls and their ends, one per frame.

A frame is the length of its content (u32), the number of a call (u32), its kind (u8) and the
content, a pickle. CALL and CANCEL go to the worker, DONE and FAILED come back, once for each CALL.
Both ends are one program: this is no protocol for others.
"""

import copyreg
import io
import pickle
import struct
import traceback
from asyncio import IncompleteReadError, StreamReader
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from hms_bus.bus import Message
from hms_bus.envelope import Envelope

CALL, CANCEL, DONE, FAILED = range(4)

WORKER = 0
"""The number of the object that makes, forgets and clears all others."""

_HEADER = struct.Struct("!IIB")


class Call(Struct, frozen=True, kw_only=True):
    """Call `method` (a dotted path) of the object `target`.

    With `keep` the result stays in the worker, as the object of that number.
    """

    target: int
    method: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}
    keep: int | None = None


class Frame(Struct, frozen=True, kw_only=True):
    """One frame. `content` is still pickled: what is wrong with it concerns this call only."""

    kind: int
    call: int
    content: bytes


def frame(kind: int, call: int, content: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return _HEADER.pack(len(content), call, kind) + content


async def read_frame(reader: StreamReader) -> Frame | None:
    """Return the next frame; `None` when the other side has gone."""
    try:
        length, call, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        return Frame(kind=kind, call=call, content=await reader.readexactly(length))
    except (IncompleteReadError, ConnectionError):
        return None


def dumps(value: object) -> bytes:
    """Pickle `value`. Raises `TypeError` that says what is wrong with it."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    pickler.dispatch_table = copyreg.dispatch_table | {Message: _reduce_message}
    try:
        pickler.dump(value)
    except Exception as error:  # a `__reduce__` may raise whatever it likes
        raise TypeError(
            f"this cannot be sent to another process: {error} (a class is sent by its name, so it "
            "must be one of a module)"
        ) from error
    return buffer.getvalue()


def loads(content: bytes) -> Any:
    """Read what the other end has pickled. Raises whatever its classes raise."""
    return pickle.loads(content)  # noqa: S301 - from our own process, over a pair of sockets


def dump_error(error: BaseException) -> bytes:
    """Pickle an exception with its traceback as a note; one that has no pickle by its text."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    try:
        copy = loads(dumps(error))
    except Exception:  # noqa: BLE001 - as above, and an `__init__` may want more than it gets
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In the process of the publisher:\n{trace}")
    return dumps(copy)


def _reduce_message(message: Message) -> tuple[Any, ...]:
    captures = dict(message.captures)
    place = message.position, message.recorded_ns
    return _make_message, (message.envelope, captures, message.reply_to, *place)


def _make_message(
    envelope: Envelope,
    captures: Mapping[str, str],
    reply_to: str | None,
    position: int | None,
    recorded_ns: int | None,
) -> Message:
    return Message(
        envelope,
        captures=captures,
        reply_to=reply_to,
        position=position,
        recorded_ns=recorded_ns,
    )
