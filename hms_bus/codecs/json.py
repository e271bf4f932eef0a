"""The `json` codec: the CloudEvents JSON format (`hms_bus.jsonformat`)."""

from hms_bus import jsonformat
from hms_bus.envelope import Envelope


class JsonCodec:
    """See `hms_bus.abc.Codec`."""

    name = "json"
    content_type = "application/cloudevents+json"

    def encode(self, envelope: Envelope) -> bytes:
        """Return a JSON document."""
        return jsonformat.encode(envelope)

    def decode(self, document: bytes) -> Envelope:
        """Read a JSON document."""
        return jsonformat.decode(document)


def make() -> JsonCodec:
    """Return the codec."""
    return JsonCodec()
