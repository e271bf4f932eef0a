"""Codecs that break one promise each, to show that the conformance suite notices."""

from typing import Any

import msgspec

from hms_bus import jsonformat
from hms_bus.envelope import Envelope


class Faithful:
    """The JSON codec under another name."""

    name = "faithful"
    content_type = "application/cloudevents+json"

    def encode(self, envelope: Envelope) -> bytes:
        return jsonformat.encode(envelope)

    def decode(self, document: bytes) -> Envelope:
        return jsonformat.decode(document)


class CutsTime(Faithful):
    """Keeps times to the second."""

    def encode(self, envelope: Envelope) -> bytes:
        time = envelope.time and f"{envelope.time[:19]}Z"
        return super().encode(envelope.replace(time=time))


class StringifiesExtensions(Faithful):
    """Writes every extension as text."""

    def encode(self, envelope: Envelope) -> bytes:
        extensions = {name: str(value) for name, value in (envelope.extensions or {}).items()}
        return super().encode(envelope.replace(extensions=extensions or None))


class CountsInFloats(Faithful):
    """Reads integers as floats, as JavaScript does."""

    def decode(self, document: bytes) -> Envelope:
        envelope = super().decode(document)
        if not isinstance(envelope.data, msgspec.Raw):
            return envelope
        return envelope.replace(data=_in_floats(envelope.decode()))


def _in_floats(value: Any) -> Any:
    return float(value) if type(value) is int else value


class MakesUpPayloads(Faithful):
    """Writes null where there is no payload."""

    def encode(self, envelope: Envelope) -> bytes:
        data = None if envelope.data is msgspec.UNSET else envelope.data
        return super().encode(envelope.replace(data=data))


class LetsForeignErrorsOut(Faithful):
    """Does not translate the errors of its library."""

    def decode(self, document: bytes) -> Envelope:
        msgspec.json.decode(document)
        return super().decode(document)


class TextOnly(Faithful):
    """Writes octets as text."""

    def encode(self, envelope: Envelope) -> bytes:
        if isinstance(envelope.data, bytes):
            envelope = envelope.replace(data=envelope.data.decode("latin-1"))
        return super().encode(envelope)


KINDS = (
    Faithful,
    CutsTime,
    StringifiesExtensions,
    CountsInFloats,
    MakesUpPayloads,
    LetsForeignErrorsOut,
    TextOnly,
)
