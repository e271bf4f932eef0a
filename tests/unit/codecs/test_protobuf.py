"""The protobuf format on the wire, and the generated module behind it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.wrappers_pb2 import StringValue
from msgspec import UNSET, Raw, Struct

from hms_bus import codecs
from hms_bus.attributes import new_envelope
from hms_bus.codecs._pb import cloudevents_pb2
from hms_bus.codecs._pb.cloudevents_pb2 import CloudEvent
from hms_bus.envelope import Envelope
from hms_bus.errors import EncodeError

CODEC = codecs.find("protobuf")
ROOT = Path(__file__).resolve().parents[3]
URL = "type.googleapis.com/google.protobuf.StringValue"


class Order(Struct):
    number: int


def on_the_wire(envelope: Envelope) -> CloudEvent:
    return CloudEvent.FromString(CODEC.encode(envelope))


def message(**fields: Any) -> bytes:
    event = CloudEvent(id="1", source="/s", spec_version="1.0", type="t", **fields)
    return event.SerializeToString()


def test_attributes_have_their_kinds() -> None:
    envelope = Envelope(
        id="1",
        source="/s",
        type="t",
        subject="s",
        time="2026-01-31T13:00:00.000000001+01:00",
        dataschema="https://x.example",
        dataref="/blob",
        hops=1,
        extensions={"yes": True, "octets": b"\x00", "number": -1, "text": "x"},
    )
    wire = on_the_wire(envelope)
    assert (wire.id, wire.source, wire.spec_version, wire.type) == ("1", "/s", "1.0", "t")
    kinds = {name: value.WhichOneof("attr") for name, value in wire.attributes.items()}
    assert kinds == {
        "subject": "ce_string",
        "time": "ce_timestamp",
        "dataschema": "ce_uri",
        "dataref": "ce_uri_ref",
        "hops": "ce_integer",
        "yes": "ce_boolean",
        "octets": "ce_bytes",
        "number": "ce_integer",
        "text": "ce_string",
    }
    time = wire.attributes["time"].ce_timestamp
    assert (time.seconds, time.nanos) == (1_769_860_800, 1)


def test_a_time_before_1970_has_nanoseconds_that_count_forward() -> None:
    envelope = Envelope(id="1", source="/s", type="t", time="1969-12-31T23:59:58.5Z")
    time = on_the_wire(envelope).attributes["time"].ce_timestamp
    assert (time.seconds, time.nanos) == (-2, 500_000_000)
    assert CODEC.decode(CODEC.encode(envelope)).time == "1969-12-31T23:59:58.500000Z"


@pytest.mark.parametrize(
    ("data", "attributes", "field", "value"),
    [
        (Order(1), {}, "binary_data", b'{"number":1}'),
        (Raw(b"[ 1 ]"), {}, "binary_data", b"[ 1 ]"),
        (None, {}, "binary_data", b"null"),
        ("é", {}, "text_data", "é"),
        (b"\xff", {}, "binary_data", b"\xff"),
        (b"", {}, "binary_data", b""),
        ("", {}, "text_data", ""),
        (b"\xff", {"datacontenttype": "application/protobuf"}, "binary_data", b"\xff"),
    ],
)
def test_data_goes_where_its_media_type_says(
    data: Any, attributes: dict[str, Any], field: str, value: Any
) -> None:
    wire = on_the_wire(new_envelope("a", data, source="/s", **attributes))
    assert wire.WhichOneof("data") == field
    assert getattr(wire, field) == value


def test_a_message_is_an_any() -> None:
    wire = on_the_wire(new_envelope("a", StringValue(value="x"), source="/s"))
    assert wire.proto_data.type_url == URL
    assert wire.proto_data.value == b"\x0a\x01x"
    assert wire.attributes["dataschema"].ce_uri == URL


def test_an_any_without_attributes_is_told_by_its_type_url() -> None:
    kept = CODEC.decode(message(proto_data={"type_url": URL, "value": b"\x0a\x01x"}))
    assert (kept.datacontenttype, kept.dataschema) == ("application/protobuf", URL)
    assert kept.decode(StringValue) == StringValue(value="x")
    nameless = CODEC.decode(message(proto_data={"value": b"\x0a\x01x"}))
    assert (nameless.dataschema, nameless.data) == (None, b"\x0a\x01x")


def test_json_without_a_media_type_gets_one() -> None:
    wire = on_the_wire(Envelope(id="1", source="/s", type="t", data=[1]))
    assert wire.attributes["datacontenttype"].ce_string == "application/json"


def test_text_and_octets_are_read_wherever_they_stand() -> None:
    json_type = {"datacontenttype": {"ce_string": "application/json"}}
    text_type = {"datacontenttype": {"ce_string": "text/plain"}}
    assert CODEC.decode(message(attributes=json_type, text_data="[1]")).data == Raw(b"[1]")
    assert CODEC.decode(message(attributes=json_type, binary_data=b"[1]")).data == Raw(b"[1]")
    assert CODEC.decode(message(attributes=json_type, binary_data=b"no")).data == b"no"
    assert CODEC.decode(message(attributes=text_type, binary_data=b"x")).decode(str) == "x"
    assert CODEC.decode(message(text_data="x")).data == "x"
    assert CODEC.decode(message(binary_data=b"[1]")).data == b"[1]"
    assert CODEC.decode(message()).data is UNSET


def test_data_that_no_media_type_explains_is_refused_when_sent() -> None:
    with pytest.raises(EncodeError, match="text/plain is text or octets"):
        CODEC.encode(new_envelope("a", {"x": 1}, source="/s", datacontenttype="text/plain"))


def test_unknown_fields_are_ignored() -> None:
    assert CODEC.decode(message() + b"\xfa\x07\x03abc") == CODEC.decode(message())


# -- the generated module --------------------------------------------------------------------------


def test_the_generated_module_is_what_the_script_makes_of_the_proto_file(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/generate_protobuf.py", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    committed = Path(cloudevents_pb2.__file__).parent
    for name in ("cloudevents_pb2.py", "cloudevents_pb2.pyi"):
        assert (tmp_path / name).read_text() == (committed / name).read_text()


def test_another_librarys_cloudevents_module_can_be_loaded_beside_ours() -> None:
    theirs = FileDescriptorProto.FromString(cloudevents_pb2.DESCRIPTOR.serialized_pb)
    theirs.name = "cloudevents.proto"
    descriptor_pool.Default().AddSerializedFile(theirs.SerializeToString())
    found = descriptor_pool.Default().FindMessageTypeByName("io.cloudevents.v1.CloudEvent")
    assert found is not CloudEvent.DESCRIPTOR
    assert CODEC.decode(message()).id == "1"
