"""The `protobuf` codec: `io.cloudevents.v1.CloudEvent` (proto/io/cloudevents/v1).

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/protobuf-format.md

By the rules of protobuf, fields that are not known are ignored and not kept, and of a field that
stands twice the last one counts.
"""

from typing import Any

from google.protobuf.message import DecodeError as WireError
from msgspec import UNSET

from hms_bus import payload
from hms_bus.attributes import REQUIRED, SPECVERSION, from_values, to_values
from hms_bus.codecs._pb.cloudevents_pb2 import CloudEvent
from hms_bus.envelope import TIME_ATTRIBUTES, Envelope
from hms_bus.errors import DecodeError, EncodeError
from hms_bus.ids import format_time, parse_time

_FIELDS = frozenset({*REQUIRED, "specversion"})
_URIS = frozenset({"dataschema"})
_URI_REFERENCES = frozenset({"dataref"})
_NANOS = 1_000_000_000


class ProtobufCodec:
    """See `hms_bus.abc.Codec`."""

    name = "protobuf"
    content_type = "application/cloudevents+protobuf"

    def encode(self, envelope: Envelope) -> bytes:
        """Return a message with its fields in order and its attributes sorted by name."""
        try:
            message = CloudEvent(
                id=envelope.id,
                source=envelope.source,
                spec_version=SPECVERSION,
                type=envelope.type,
            )
            for name, value in to_values(envelope).items():
                if name not in _FIELDS:
                    _set_attribute(message.attributes[name], name, value)
            if envelope.data is not UNSET:
                _set_data(message, envelope)
            return payload.check_size(message.SerializeToString(deterministic=True))
        except (TypeError, ValueError) as error:
            raise EncodeError(f"the envelope has no protobuf form: {error}") from error

    def decode(self, document: bytes) -> Envelope:
        """Read a message; JSON data is left unparsed, a protobuf payload is left as bytes."""
        if len(document) > payload.MAX_BYTES:
            raise DecodeError(
                f"the document is larger than {payload.MAX_BYTES} bytes", reason="too-large"
            )
        try:
            message = CloudEvent.FromString(document)
        except WireError as error:
            is_text = "UTF-8" in str(error)
            reason = "invalid-utf8" if is_text else "malformed"
            raise DecodeError(f"no CloudEvent message: {error}", reason=reason) from error
        values: dict[str, Any] = {
            "specversion": message.spec_version or None,
            "id": message.id or None,
            "source": message.source or None,
            "type": message.type or None,
        }
        for name, value in message.attributes.items():
            if name in values:
                raise DecodeError(
                    f"{name!r} has a field and stands among the attributes too",
                    reason="duplicate-key",
                    field=name,
                )
            # Nearly every attribute is a text; another kind reads as an empty one.
            values[name] = value.ce_string or _get_attribute(name, value)
        data = _take_data(values, message)
        return from_values(values, data)


def _set_attribute(slot: CloudEvent.CloudEventAttributeValue, name: str, value: Any) -> None:
    cls: type[Any] = value.__class__
    if cls is str:
        if name in TIME_ATTRIBUTES:
            slot.ce_timestamp.seconds, slot.ce_timestamp.nanos = divmod(parse_time(value), _NANOS)
        elif name in _URIS:
            slot.ce_uri = value
        elif name in _URI_REFERENCES:
            slot.ce_uri_ref = value
        else:
            slot.ce_string = value
    elif cls is bool:
        slot.ce_boolean = value
    elif cls is int:
        slot.ce_integer = value
    else:
        slot.ce_bytes = value


def _get_attribute(name: str, slot: CloudEvent.CloudEventAttributeValue) -> Any:
    kind = slot.WhichOneof("attr")
    if kind is None:
        raise DecodeError(f"{name!r:.60} has no value", reason="wrong-type", field=name[:40])
    if kind != "ce_timestamp":
        return getattr(slot, kind)
    time = slot.ce_timestamp
    try:
        if 0 <= time.nanos < _NANOS:
            return format_time(time.seconds * _NANOS + time.nanos)
    except OverflowError:
        pass
    raise DecodeError(
        f"{name!r:.60} is no time: {time.seconds} s, {time.nanos} ns",
        reason="bad-time",
        field=name[:40],
    )


def _set_data(message: CloudEvent, envelope: Envelope) -> None:
    data, content_type = envelope.data, envelope.datacontenttype
    if payload.is_octets(data):
        _set_octets(message, payload.to_octets(data), envelope)
    elif payload.is_json(content_type):
        message.binary_data = payload.to_json(data)
        # Without a name these octets would be no JSON any more (JSON format, section 3.1.2).
        message.attributes["datacontenttype"].ce_string = content_type or payload.JSON
    else:
        message.text_data = payload.to_text(data, content_type)


def _set_octets(message: CloudEvent, octets: bytes, envelope: Envelope) -> None:
    if envelope.datacontenttype == payload.PROTOBUF and envelope.dataschema:
        message.proto_data.type_url = envelope.dataschema
        message.proto_data.value = octets
    else:
        message.binary_data = octets


def _take_data(values: dict[str, Any], message: CloudEvent) -> Any:
    kind = message.WhichOneof("data")
    if kind is None:
        return UNSET
    if kind == "proto_data":
        return _take_message(values, message.proto_data.type_url, message.proto_data.value)
    content_type = values.get("datacontenttype")
    is_json = type(content_type) is str and payload.is_json(content_type)
    if kind == "text_data":
        return payload.parse_text(message.text_data) if is_json else message.text_data
    return payload.parse_octets(message.binary_data) if is_json else message.binary_data


def _take_message(values: dict[str, Any], type_url: str, octets: bytes) -> bytes:
    if type_url and values.setdefault("dataschema", type_url) != type_url:
        raise DecodeError(
            f"dataschema is not the type URL {type_url!r:.60} of the payload",
            reason="data-conflict",
            field="dataschema",
        )
    if values.setdefault("datacontenttype", payload.PROTOBUF) != payload.PROTOBUF:
        raise DecodeError(
            f"datacontenttype of a protobuf message is not {payload.PROTOBUF}",
            reason="data-conflict",
            field="datacontenttype",
        )
    return octets


def make() -> ProtobufCodec:
    """Return the codec."""
    return ProtobufCodec()
