"""Which recorded messages were requests: an envelope does not say so itself."""

from collections.abc import Iterable

from hms_bus.bounces import REPLY_PREFIX
from hms_bus.envelope import Envelope


def is_request(envelope: Envelope, caused: Iterable[Envelope], *, unsure: bool) -> bool:
    """Whether a message was sent to be answered; `caused` is what it has caused in the record.

    One that asks for a stream (`credit`), or has an answer, was. One that has neither may be a
    request that nobody has answered, or an event with a `ttl`: `unsure` is returned if it has an
    `expirytime`, as every request does (spec/requests.md).
    """
    if envelope.credit is not None or any(map(is_answer, caused)):
        return True
    return unsure and envelope.expirytime is not None


def is_answer(envelope: Envelope) -> bool:
    """Whether it answers a request: a reply, an item or the end of a stream, or an error."""
    return envelope.topic.startswith(REPLY_PREFIX)
