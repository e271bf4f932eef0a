"""Payloads: how they are described, what they become, and how a misfit is told."""

import dataclasses
import enum
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypedDict, cast

import cbor2
import msgspec
import pydantic
import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Raw, Struct

from hms_bus import payload
from hms_bus.errors import DecodeError, EncodeError
from hms_bus.payload import CBOR, JSON, OCTETS, PROTOBUF, TEXT
from tests.support.envelopes import json_values


class Item(Struct):
    sku: str
    qty: int


class Order(Struct):
    items: list[Item]


class Named(Struct):
    __event_type__ = "com.acme.named"


@dataclasses.dataclass
class Point:
    x: float


class Row(TypedDict):
    count: int


class Level(enum.Enum):
    HIGH = "high"


class Model(pydantic.BaseModel):
    amount: Decimal
    at: datetime


class Nested(Struct):
    model: Model


URL = "type.googleapis.com/google.protobuf.StringValue"


# -- describing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "description"),
    [
        (UNSET, (None, None, None)),
        (None, (JSON, None, None)),
        ({}, (JSON, None, None)),
        (1.5, (JSON, None, None)),
        ("text", (TEXT, None, None)),
        (b"", (OCTETS, None, None)),
        (memoryview(b""), (OCTETS, None, None)),
        (Raw(b"1"), (JSON, None, None)),
        (Order([]), (JSON, "Order", None)),
        (Named(), (JSON, "com.acme.named", None)),
        (Point(1), (JSON, "Point", None)),
        (Level.HIGH, (JSON, "Level", None)),
        (Model(amount=Decimal(1), at=datetime.now(UTC)), (JSON, "Model", None)),
        (StringValue(), (PROTOBUF, "google.protobuf.StringValue", URL)),
    ],
)
def test_a_payload_is_described_by_its_class(data: Any, description: Any) -> None:
    assert payload.describe(data) == description
    assert payload.describe(data) == description  # the second time from the table


@pytest.mark.parametrize(
    ("content_type", "json", "cbor"),
    [
        (None, True, False),
        ("application/json", True, False),
        ("Application/JSON ; charset=utf-8", True, False),
        ("text/json", True, False),
        ("application/vnd.acme+json;v=1", True, False),
        ("application/cbor", False, True),
        ("application/senml+CBOR", False, True),
        ("application/jsonp", False, False),
        ("application/xml; x=json", False, False),
        ("json", False, False),
        ("text/plain", False, False),
    ],
)
def test_media_types(content_type: str | None, *, json: bool, cbor: bool) -> None:
    assert payload.is_json(content_type) is json
    assert payload.is_cbor(content_type) is cbor


# -- decoding ------------------------------------------------------------------------------------

ORDER = {"items": [{"sku": "a", "qty": 1}]}
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "data",
    [
        Raw(msgspec.json.encode(ORDER)),
        msgspec.json.encode(ORDER),
        ORDER,
        {"items": [Item("a", 1)]},
    ],
    ids=["raw", "octets", "builtins", "structs inside"],
)
def test_json_becomes_the_type_that_is_asked_for(data: Any) -> None:
    assert payload.decode(data, Order, JSON) == Order([Item("a", 1)])
    assert payload.decode(data, dict[str, list[Item]], JSON) == {"items": [Item("a", 1)]}
    assert msgspec.json.decode(payload.decode(data, bytes, JSON)) == ORDER


@pytest.mark.parametrize(
    ("data", "wanted", "expected"),
    [
        (Raw(b'{"count":1}'), Row, {"count": 1}),
        (Raw(b'{"x":1}'), Point, Point(1.0)),
        (Raw(b'"high"'), Level, Level.HIGH),
        (Raw(b'{"1":"a"}'), dict[int, str], {1: "a"}),
        ({"1": "a"}, dict[int, str], {1: "a"}),
        (Raw(b'"AAE="'), bytes, b'"AAE="'),
        (Raw(b'["AAE="]'), list[bytes], [b"\x00\x01"]),
        ([b"\x00\x01"], list[bytes], [b"\x00\x01"]),
        (Raw(b"3"), Annotated[int, Meta(ge=1)], 3),
        (Raw(b"3"), Annotated[int, Meta(extra={"a": []})], 3),
        (Raw(b"null"), Any, None),
        (Raw(b'{"model":{"amount":"1.5","at":"2026-01-31T12:00:00Z"}}'), Nested, None),
    ],
)
def test_types(data: Any, wanted: Any, expected: Any) -> None:
    if wanted is Nested:
        expected = Nested(Model(amount=Decimal("1.5"), at=AT))
    assert payload.decode(data, wanted, JSON) == expected


def test_an_object_of_the_type_is_handed_over_itself() -> None:
    order = Order([])
    assert payload.decode(order, Order, JSON) is order
    assert payload.decode(order, Struct, JSON) is order


def test_without_a_type_an_object_becomes_builtins_as_it_would_over_a_wire() -> None:
    order = Order([Item("a", 1)])
    assert payload.decode(order, Any, JSON) == ORDER
    assert payload.decode({"order": order}, Any, JSON) == {"order": ORDER}
    lines = [1, 2]
    assert payload.decode(lines, Any, JSON) == lines
    assert payload.decode(lines, Any, JSON) is not lines


def test_text_of_a_text_type() -> None:
    for data in ("né", Raw('"né"'.encode())):
        assert payload.decode(data, str, TEXT) == "né"
        assert payload.decode(data, bytes, TEXT) == "né".encode()
    assert payload.decode("né".encode(), str, TEXT) == "né"
    assert payload.decode("né", bytes, JSON) == '"né"'.encode()


def test_octets_stay_octets_unless_their_media_type_says_more() -> None:
    octets = cbor2.dumps(ORDER)
    assert payload.decode(octets, Any, OCTETS) == octets
    assert payload.decode(octets, Any, None) == octets
    assert payload.decode(octets, Order, CBOR) == Order([Item("a", 1)])
    assert payload.decode(octets, Any, CBOR) == ORDER
    assert payload.decode(octets, bytes, CBOR) == octets


def test_protobuf_messages() -> None:
    message = StringValue(value="x")
    octets = message.SerializeToString()
    assert payload.decode(octets, StringValue, PROTOBUF, URL) == message
    assert payload.decode(octets, StringValue, PROTOBUF) == message
    assert payload.decode(message, StringValue, PROTOBUF, URL) is message
    assert payload.decode(message, bytes, PROTOBUF, URL) == octets
    assert payload.decode(octets, Any, PROTOBUF, URL) == octets


def test_a_message_of_another_type_is_refused_although_it_would_parse() -> None:
    octets = StringValue(value="x").SerializeToString()
    with pytest.raises(DecodeError, match=r"StringValue, not a google\.protobuf\.BytesValue"):
        payload.decode(octets, BytesValue, PROTOBUF, URL)
    with pytest.raises(DecodeError):
        payload.decode(StringValue(value="x"), BytesValue, PROTOBUF, URL)


def test_no_payload() -> None:
    assert payload.decode(UNSET, Any, None) is None
    assert payload.decode(UNSET, Order | None, None) is None
    with pytest.raises(DecodeError, match="no payload") as refused:
        payload.decode(UNSET, Order, None)
    assert refused.value.field == "$"


# -- misfits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "wanted", "path"),
    [
        (Raw(b'{"items":[{"sku":"a","qty":"1"}]}'), Order, "$.items[0].qty"),
        ({"items": [{"sku": "a", "qty": "1"}]}, Order, "$.items[0].qty"),
        (b'{"items":[{"sku":1,"qty":1}]}', Order, "$.items[0].sku"),
        (Raw(b"{}"), Order, None),
        (Raw(b"1e999"), float, None),
        (Raw(b'"low"'), Level, None),
        (Raw(b'{"amount":"x"}'), Model, None),
        ({"amount": "x"}, Model, None),
        (b"\xff", str, None),
        (b"\xff", Order, None),
        (b"\xff", StringValue, None),
        (b"\x5f", Order, None),
        (Raw(b"1"), StringValue, None),
        ("text", StringValue, None),
        (1, object(), None),
        (Raw(b"1"), object(), None),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(data: Any, wanted: Any, path: str | None) -> None:
    content_type = CBOR if data == b"\x5f" else JSON if data != b"\xff" else OCTETS
    with pytest.raises(DecodeError) as refused:
        payload.decode(data, wanted, content_type)
    assert refused.value.reason == "payload"
    assert refused.value.field == path
    assert refused.value.message


@pytest.mark.parametrize("wanted", [Any, object, dict, list, list[Any], dict[str, Any], set])
def test_what_bounds_no_depth_is_read_64_levels_deep(wanted: Any) -> None:
    with pytest.raises(DecodeError) as refused:
        payload.decode(Raw(b"[" * 65 + b"]" * 65), wanted, JSON)
    assert refused.value.reason == "too-deep"


class Loose(Struct):
    items: Any = None


class Bag(Struct):
    items: dict[str, list[Any]]


class Tree(Struct):
    items: "list[Tree]"


class LooseModel(pydantic.BaseModel):
    items: Any


@dataclasses.dataclass
class WithModel:
    items: list[LooseModel]


class Dictionary(TypedDict):
    items: object


@pytest.mark.parametrize(
    ("wanted", "around"),
    [
        (Loose, ('{"items":', "}")),
        (list[Loose] | None, ('[{"items":', "}]")),
        (Bag, ('{"items":{"a":', "}}")),
        (Tree, ('{"items":' + '[{"items":' * 40, "}]" * 40 + "}")),
        (LooseModel, ('{"items":', "}")),
        (WithModel, ('{"items":[{"items":', "}]}")),
        (Dictionary, ('{"items":', "}")),
    ],
)
def test_a_declared_type_that_leaves_the_depth_open_bounds_it_too(
    wanted: Any, around: tuple[str, str]
) -> None:
    shallow, deep = (f"{'[' * n}{']' * n}".join(around).encode() for n in (1, 65))
    if wanted is not Tree:
        payload.decode(Raw(shallow), wanted, JSON)
    with pytest.raises(DecodeError) as refused:
        payload.decode(Raw(deep), wanted, JSON)
    assert refused.value.reason == "too-deep"


def test_a_declared_type_bounds_the_depth_itself() -> None:
    deep = b'{"items":[],"unknown":' + b"[" * 200 + b"]" * 200 + b"}"
    assert payload.decode(Raw(deep), Order, JSON) == Order([])


def depth_of(item: Any) -> int:
    if type(item) is dict:
        item = list(cast("dict[str, Any]", item).values())
    if type(item) is not list:
        return 0
    return 1 + max(map(depth_of, cast("list[Any]", item)), default=0)


@given(value=json_values, levels=st.integers(0, 70))
def test_depth_is_counted_outside_of_strings(value: Any, levels: int) -> None:
    noise = ['\\"]}[{"' * 10, "[" * 70, "\\", value]
    text = b"[" * levels + payload.encode_json(noise) + b"]" * levels
    if levels + 1 + depth_of(value) <= payload.MAX_DEPTH:
        payload.check_depth(text)
    else:
        with pytest.raises(DecodeError):
            payload.check_depth(text)


# -- encoding ------------------------------------------------------------------------------------


def test_to_builtins_leaves_octets_and_makes_text_of_the_rest() -> None:
    data = {1: b"\x00", "at": AT, "level": Level.HIGH, "raw": Raw(b"[1]"), "item": Item("a", 1)}
    assert payload.to_builtins(data) == {
        "1": b"\x00",
        "at": "2026-01-31T12:00:00Z",
        "level": "high",
        "raw": [1],
        "item": {"sku": "a", "qty": 1},
    }


@pytest.mark.parametrize("write", [payload.to_json, payload.to_builtins])
def test_an_object_that_is_no_payload_is_named(write: Any) -> None:
    with pytest.raises(EncodeError, match=r"object is no payload: publish"):
        write({"a": object()})
    with pytest.raises(EncodeError, match="a whole payload, not a part"):
        write([StringValue()])
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(EncodeError):
        write(cycle)


def test_to_text_takes_text_only() -> None:
    assert payload.to_text(Raw(b'"a"'), TEXT) == "a"
    assert payload.to_text(Level.HIGH, TEXT) == "high"
    with pytest.raises(EncodeError, match="text/plain is text or octets, not dict"):
        payload.to_text({}, TEXT)


@pytest.mark.parametrize("text", [b"", b"{", b"1 2", b"\xff", b'"\xff"', b"[" * 100_000])
def test_octets_that_are_no_json_stay_octets(text: bytes) -> None:
    assert payload.parse_octets(text) == text
    assert type(payload.parse_octets(b" [1] ")) is Raw
