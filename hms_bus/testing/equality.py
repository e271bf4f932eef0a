"""When two envelopes are equal, by spec/envelope.md: how a codec of one's own is proved."""

import binascii
from typing import Any

from msgspec import UNSET

from hms_bus import payload
from hms_bus.attributes import to_values
from hms_bus.envelope import TIME_ATTRIBUTES, Envelope
from hms_bus.errors import DecodeError
from hms_bus.ids import format_time, parse_time


def canonical(envelope: Envelope) -> dict[str, Any]:
    """Return the envelope by names and builtins, the same through whichever codec it came.

    Attributes stand beside `data`, if there is any. Times are in UTC in the form of `format_time`,
    octets of an extension in base64 (JSON has no other), and JSON data that names no media type has
    `application/json`. `data` is a JSON value, or bytes for octets. Two envelopes are equal by
    spec/envelope.md when these are.
    """
    values = to_values(envelope)
    for name, value in values.items():
        if name in TIME_ATTRIBUTES:
            values[name] = format_time(parse_time(value))
        elif type(value) is bytes:
            values[name] = binascii.b2a_base64(value, newline=False).decode()
    if envelope.data is not UNSET:
        values["data"] = _canonical_data(envelope)
        if envelope.datacontenttype is None and type(values["data"]) is not bytes:
            values["datacontenttype"] = payload.JSON
    return values


def _canonical_data(envelope: Envelope) -> Any:
    try:
        data = envelope.decode()
    except DecodeError:
        # JSON in name only: its octets are all that can be compared.
        return envelope.decode(bytes)
    if payload.is_octets(data):
        return payload.to_octets(data)
    return payload.from_json(payload.to_json(data), Any)
