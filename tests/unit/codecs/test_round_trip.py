"""What a codec writes, it reads: every envelope, every kind of payload, every type of it."""

import dataclasses
import enum
import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypedDict

import pydantic
import pytest
from google.protobuf.struct_pb2 import Struct as ProtobufStruct
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from msgspec import UNSET, Raw, Struct

from hms_bus import codecs
from hms_bus.abc import Codec
from hms_bus.attributes import new_envelope, to_values
from hms_bus.envelope import Envelope
from hms_bus.errors import EncodeError
from hms_bus.testing.equality import canonical
from tests.support.envelopes import envelopes

NAMES = ("json", "cbor", "protobuf")


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codecs.find(request.param)


@pytest.mark.parametrize("name", NAMES)
@given(envelope=envelopes())
def test_every_envelope_comes_back(name: str, envelope: Envelope) -> None:
    codec = codecs.find(name)
    assert canonical(codec.decode(codec.encode(envelope))) == canonical(envelope)


@given(envelope=envelopes())
def test_json_and_cbor_keep_the_spelling_of_attributes(envelope: Envelope) -> None:
    for name in ("json", "cbor"):
        codec = codecs.find(name)
        kept, sent = to_values(codec.decode(codec.encode(envelope))), to_values(envelope)
        for attribute in ("time", "expirytime", "subject", "tracestate", "dataschema"):
            assert kept.get(attribute) == sent.get(attribute)


@given(envelope=envelopes())
def test_an_envelope_passes_through_all_codecs_in_turn(envelope: Envelope) -> None:
    passed = envelope
    for name in (*NAMES, *reversed(NAMES)):
        codec = codecs.find(name)
        passed = codec.decode(codec.encode(passed))
    assert canonical(passed) == canonical(envelope)


class Color(enum.Enum):
    RED = "red"


class Line(Struct, frozen=True):
    sku: str
    price: Decimal
    blob: bytes = b""


class Order(Struct, frozen=True):
    key: uuid.UUID
    at: datetime
    lines: list[Line]
    color: Color
    by_number: dict[int, str]
    day: date
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    when: datetime
    color: Color


class Row(TypedDict):
    count: int
    tags: list[str]


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(alias="full-name")
    at: datetime
    amount: Decimal


AT = datetime(2026, 1, 31, 12, 30, 0, 123456, tzinfo=UTC)
ORDER = Order(
    key=uuid.UUID(int=7),
    at=AT,
    lines=[Line("a", Decimal("1.50"), b"\x00\xff"), Line("b", Decimal(2))],
    color=Color.RED,
    by_number={1: "one"},
    day=AT.date(),
)
ROW: Row = {"count": 2**64 - 1, "tags": ["é", "\U0001f600", "e\u0301"]}


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (ORDER, Order),
        (Point(0.1, AT, Color.RED), Point),
        (ROW, Row),
        (Model.model_validate({"full-name": "n", "at": AT, "amount": "1.10"}), Model),
        ([Point(1e308, AT, Color.RED)], list[Point]),
        ({"deep": [ORDER]}, dict[str, list[Order]]),
        (Color.RED, Color),
        (AT, datetime),
        (uuid.UUID(int=1), uuid.UUID),
        (Decimal("0.10"), Decimal),
        ("text \x00 \u2028", str),
        (b"\x00\xff", bytes),
        (bytearray(b"ab"), bytes),
        (2**64 - 1, int),
        (-(2**63), int),
        (5e-324, float),
        (True, bool),
        (None, type(None)),
        ([], list[int]),
        ({}, dict[str, int]),
        ("", str),
        (b"", bytes),
        (StringValue(value="ü"), StringValue),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_typed_payload_comes_back_equal(codec: Codec, data: Any, wanted: Any) -> None:
    envelope = new_envelope("a.b", data, source="/s")
    kept = codec.decode(codec.encode(envelope)).decode(wanted)
    assert kept == data
    assert type(kept) is (type(data) if wanted is not bytes else bytes)


def test_minus_zero_keeps_its_sign(codec: Codec) -> None:
    kept = codec.decode(codec.encode(new_envelope("a.b", -0.0, source="/s"))).decode(float)
    assert math.copysign(1, kept) == -1


def test_a_message_is_told_by_its_type_url(codec: Codec) -> None:
    envelope = new_envelope("a.b", StringValue(value="x"), source="/s")
    kept = codec.decode(codec.encode(envelope))
    assert kept.datacontenttype == "application/protobuf"
    assert kept.dataschema == "type.googleapis.com/google.protobuf.StringValue"
    assert kept.type == "google.protobuf.StringValue"
    assert kept.data == StringValue(value="x").SerializeToString()


def test_no_payload_is_not_null(codec: Codec) -> None:
    without = codec.decode(codec.encode(new_envelope("a.b", source="/s")))
    null = codec.decode(codec.encode(new_envelope("a.b", None, source="/s")))
    assert without.data is UNSET
    assert null.data is not UNSET
    assert null.decode() is None


def test_json_data_is_forwarded_without_being_parsed(codec: Codec) -> None:
    envelope = new_envelope(
        "a.b", Raw(b'{"a": 1}'), source="/s", datacontenttype="application/vnd.acme+json"
    )
    kept = codec.decode(codec.encode(envelope))
    assert kept.data == Raw(b'{"a": 1}')
    assert kept.datacontenttype == "application/vnd.acme+json"


def test_a_payload_without_a_form_is_refused_when_sent(codec: Codec) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for data in (object(), cycle, "\ud800", {1.5j: 1}, {"in": ProtobufStruct()}):
        with pytest.raises(EncodeError):
            codec.encode(new_envelope("a.b", data, source="/s"))


def test_a_document_that_is_too_large_is_refused_when_sent(codec: Codec) -> None:
    with pytest.raises(EncodeError, match="dataref"):
        codec.encode(new_envelope("a.b", b"\x00" * 17_000_000, source="/s"))


def test_attributes_that_were_never_checked_are_refused_or_read_back_refused(codec: Codec) -> None:
    broken = Envelope(id="1", source="/s", type="t", priority=2**40, subject="\ud800")
    with pytest.raises(EncodeError):
        codec.encode(broken)
