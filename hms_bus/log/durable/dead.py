"""Dead letters: what a durable will not deliver any more, with the original and why."""

from msgspec import Raw, Struct

from hms_bus import jsonformat
from hms_bus.envelope import Envelope
from hms_bus.ids import stamp
from hms_bus.log.durable.cursor import Dead

TYPE = "hms.bus.dead.v1"
TOPIC = "$dlq"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """The payload of a dead letter.

    `envelope` is the original in the CloudEvents JSON format, `position` its place in the log,
    `recorded_ns` when it was recorded there. It was delivered `attempts` times; `code` is a status
    by name.
    """

    durable: str
    position: int
    recorded_ns: int
    attempts: int
    code: str
    reason: str
    envelope: Raw


def dead_letter_topic(durable: str) -> str:
    """Return the topic of a durable's dead letters."""
    return f"{TOPIC}.{durable}"


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
            code=dead.code,
            reason=dead.reason,
            envelope=Raw(jsonformat.encode(original)),
        ),
    )


def read_dead_letter(envelope: Envelope) -> DeadLetter:
    """Return the payload of a dead letter. Raises `DecodeError`."""
    return envelope.decode(DeadLetter)


def original_of(letter: DeadLetter) -> Envelope:
    """Return the original envelope. Raises `DecodeError`."""
    return jsonformat.decode(bytes(letter.envelope))
