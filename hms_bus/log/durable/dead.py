"""Dead letters: what a durable will not deliver any more, with the original and why."""

from msgspec import UNSET, Raw, Struct

from hms_bus import jsonformat
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.ids import stamp
from hms_bus.log.durable.cursor import Dead
from hms_bus.logrules import dead_letter_topic
from hms_bus.payload import MAX_BYTES, MAX_DEPTH, check_depth

TYPE = "hms.bus.dead.v1"

_LONGEST_REASON = 10_000
_LEVELS_AROUND = 2
"""The letter's envelope and its payload, around the original."""
_BYTES_AROUND = 2**18


class DeadLetter(Struct, frozen=True, kw_only=True):
    """The payload of a dead letter.

    `envelope` is the original in the CloudEvents JSON format, `position` its place in the log,
    `recorded_ns` when it was recorded there. It was delivered `attempts` times; `code` is a status
    by name. An original that is too large or too deep to stand in another envelope stands there
    without its `data`, and a `reason` of more than 10,000 characters is cut: a dead letter that
    could not be kept would hold up its durable for good.
    """

    durable: str
    position: int
    recorded_ns: int
    attempts: int
    code: str
    reason: str
    envelope: Raw


def dead_letter(durable: str, dead: Dead) -> Envelope:
    """Return the envelope of a dead letter; it is caused by the original."""
    original = dead.record.envelope
    new_id, now = stamp()
    return Envelope(
        id=new_id,
        source=f"/durables/{durable}",
        type=TYPE,
        topic=dead_letter_topic(durable),
        time=now,
        datacontenttype="application/json",
        correlationid=original.correlationid or original.id,
        causationid=original.id,
        traceparent=original.traceparent,
        tracestate=original.tracestate,
        data=DeadLetter(
            durable=durable,
            position=dead.record.position,
            recorded_ns=dead.record.recorded_ns,
            attempts=dead.attempts,
            code=_text(dead.code),
            reason=_text(dead.reason),
            envelope=Raw(_document(original)),
        ),
    )


def _text(text: str) -> str:
    """Return what of `text` has a place in JSON: no half of a surrogate pair."""
    return str(text)[:_LONGEST_REASON].encode(errors="replace").decode()


def _document(original: Envelope) -> bytes:
    document = jsonformat.encode(original)
    try:
        check_depth(document, MAX_DEPTH + 1 - _LEVELS_AROUND)
    except DecodeError:
        fits = False
    else:
        fits = len(document) <= MAX_BYTES - _BYTES_AROUND
    return document if fits else jsonformat.encode(original.replace(data=UNSET))


def read_dead_letter(envelope: Envelope) -> DeadLetter:
    """Return the payload of a dead letter. Raises `DecodeError`."""
    return envelope.decode(DeadLetter)


def original_of(letter: DeadLetter) -> Envelope:
    """Return the original envelope. Raises `DecodeError`."""
    return jsonformat.decode(bytes(letter.envelope))
