"""`io.cloudevents.v1.CloudEvent` as a peer would have it: the standard's fields, built here.

It has a package of its own, since a process can hold one message of a name, and our codec may have
that one. Neither the name nor how the descriptor came about matters to the speed of a message.
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

PACKAGE = "hms.benchmarks.v1"
_VALUE = f".{PACKAGE}.CloudEvent.CloudEventAttributeValue"
_ENTRY = f".{PACKAGE}.CloudEvent.AttributesEntry"


def make_event_class() -> Any:
    """Return the message class. A second call would define it again: call it once."""
    file = FileDescriptorProto(
        name="hms/benchmarks/v1/event.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, timestamp_pb2.DESCRIPTOR.name],
    )
    event = file.message_type.add(name="CloudEvent")
    for number, name in enumerate(("id", "source", "spec_version", "type"), start=1):
        _add(event, name, number, FieldDescriptorProto.TYPE_STRING)
    _add(event, "attributes", 5, FieldDescriptorProto.TYPE_MESSAGE, _ENTRY, repeated=True)
    event.oneof_decl.add(name="data")
    _add(event, "binary_data", 6, FieldDescriptorProto.TYPE_BYTES, oneof=0)
    _add(event, "text_data", 7, FieldDescriptorProto.TYPE_STRING, oneof=0)
    _add(
        event,
        "proto_data",
        8,
        FieldDescriptorProto.TYPE_MESSAGE,
        ".google.protobuf.Any",
        oneof=0,
    )
    _add_entry(event)
    _add_value(event)
    pool = descriptor_pool.Default()
    pool.Add(file)  # pyright: ignore[reportUnknownMemberType] - its type is left open
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.CloudEvent"))


def _add_entry(event: DescriptorProto) -> None:
    entry = event.nested_type.add(name="AttributesEntry")
    entry.options.map_entry = True
    _add(entry, "key", 1, FieldDescriptorProto.TYPE_STRING)
    _add(entry, "value", 2, FieldDescriptorProto.TYPE_MESSAGE, _VALUE)


def _add_value(event: DescriptorProto) -> None:
    value = event.nested_type.add(name="CloudEventAttributeValue")
    value.oneof_decl.add(name="attr")
    _add(value, "ce_boolean", 1, FieldDescriptorProto.TYPE_BOOL, oneof=0)
    _add(value, "ce_integer", 2, FieldDescriptorProto.TYPE_INT32, oneof=0)
    _add(value, "ce_string", 3, FieldDescriptorProto.TYPE_STRING, oneof=0)
    _add(value, "ce_bytes", 4, FieldDescriptorProto.TYPE_BYTES, oneof=0)
    _add(value, "ce_uri", 5, FieldDescriptorProto.TYPE_STRING, oneof=0)
    _add(value, "ce_uri_ref", 6, FieldDescriptorProto.TYPE_STRING, oneof=0)
    _add(
        value,
        "ce_timestamp",
        7,
        FieldDescriptorProto.TYPE_MESSAGE,
        ".google.protobuf.Timestamp",
        oneof=0,
    )


def _add(
    message: DescriptorProto,
    name: str,
    number: int,
    kind: "FieldDescriptorProto.Type.ValueType",
    type_name: str | None = None,
    *,
    repeated: bool = False,
    oneof: int | None = None,
) -> None:
    message.field.add(
        name=name,
        number=number,
        type=kind,
        type_name=type_name,
        label=FieldDescriptorProto.LABEL_REPEATED
        if repeated
        else FieldDescriptorProto.LABEL_OPTIONAL,
        oneof_index=oneof,
    )
