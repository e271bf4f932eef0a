"""The CBOR format on the wire, as a plain CBOR library sees it."""

from typing import Any, cast

import cbor2
import pytest
from cbor2 import CBORTag
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from hms_bus import cboritem, codecs
from hms_bus.attributes import new_envelope
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError

CODEC = codecs.find("cbor")
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


class Order(Struct):
    number: int
    blob: bytes


def on_the_wire(envelope: Envelope) -> dict[str, Any]:
    """Read what is written, tags left in place."""

    def keep_time(value: str, _: bool) -> CBORTag:
        return CBORTag(0, value)

    return cbor2.loads(CODEC.encode(envelope), semantic_decoders={0: keep_time})


def test_times_and_uris_have_the_tags_of_the_draft() -> None:
    time = "2026-01-31T12:00:00Z"
    envelope = Envelope(
        id="1", source="/s", type="t", time=time, expirytime=time, dataschema="https://x.example"
    )
    wire = on_the_wire(envelope)
    assert wire["time"] == CBORTag(0, time)
    assert wire["expirytime"] == CBORTag(0, time)
    assert wire["dataschema"] == CBORTag(32, "https://x.example")
    assert wire["source"] == "/s"


@pytest.mark.parametrize("extensions", [None, {"myext": 1}], ids=["plain", "with an extension"])
@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_structured_data_is_a_cbor_item_of_type_cbor(
    extensions: dict[str, Any] | None, content_type: str | None
) -> None:
    envelope = Envelope(
        id="1",
        source="/s",
        type="t",
        datacontenttype=content_type,
        extensions=extensions,
        data=Order(1, b"\x00"),
    )
    wire = on_the_wire(envelope)
    assert wire["datacontenttype"] == "application/cbor"
    assert wire["data"] == {"number": 1, "blob": b"\x00"}
    assert list(wire)[-1] == "data"
    kept = CODEC.decode(CODEC.encode(envelope))
    assert kept.datacontenttype == "application/json"
    assert kept.decode() == {"number": 1, "blob": b"\x00"}
    assert kept.decode(Order) == Order(1, b"\x00")


def test_json_of_a_vendor_type_is_json_text() -> None:
    envelope = new_envelope("a", [1], source="/s", datacontenttype="application/vnd.acme+json")
    assert on_the_wire(envelope)["data"] == "[1]"


def test_text_and_octets_stand_for_themselves() -> None:
    assert on_the_wire(new_envelope("a", "é", source="/s"))["data"] == "é"
    assert on_the_wire(new_envelope("a", b"\xff", source="/s"))["data"] == b"\xff"
    assert on_the_wire(new_envelope("a", Raw(b'"x"'), source="/s"))["data"] == "x"


def test_cbor_that_the_sender_names_so_is_an_item_or_octets() -> None:
    envelope = new_envelope("a", {"x": 1}, source="/s", datacontenttype="application/cbor")
    assert on_the_wire(envelope)["data"] == {"x": 1}
    assert CODEC.decode(CODEC.encode(envelope)).decode() == {"x": 1}
    vendor = envelope.replace(datacontenttype="application/senml+cbor")
    assert CODEC.decode(CODEC.encode(vendor)).datacontenttype == "application/senml+cbor"
    octets = cbor2.dumps({"x": 1})
    envelope = new_envelope("a", octets, source="/s", datacontenttype="application/cbor")
    kept = CODEC.decode(CODEC.encode(envelope))
    assert (kept.data, kept.decode()) == (octets, {"x": 1})


def test_data_that_no_media_type_explains_is_refused_when_sent() -> None:
    with pytest.raises(EncodeError, match="text/plain is text or octets"):
        CODEC.encode(new_envelope("a", {"x": 1}, source="/s", datacontenttype="text/plain"))


def test_data_that_the_reader_would_refuse_as_too_deep_is_refused_when_sent() -> None:
    deepest: list[Any] = []
    for _ in range(63):
        deepest = [deepest]
    text = b"[" * 64 + b"]" * 64
    for data in (deepest, Raw(text)):
        CODEC.decode(CODEC.encode(new_envelope("a", data, source="/s")))
    for data in ([deepest], {"a": deepest}, (deepest,), Raw(b"[" + text + b"]")):
        with pytest.raises(EncodeError, match="64 levels"):
            CODEC.encode(new_envelope("a", data, source="/s"))


def test_data_of_a_text_type_that_is_no_text_is_refused() -> None:
    document = cbor2.dumps({**REQUIRED, "datacontenttype": "text/plain", "data": 1})
    with pytest.raises(DecodeError) as refused:
        CODEC.decode(document)
    assert (refused.value.reason, refused.value.field) == ("wrong-type", "data")


def test_cbor_writers_that_keep_json_types_are_read() -> None:
    document = cbor2.dumps({**REQUIRED, "datacontenttype": "application/json", "data": {"x": 1}})
    assert CODEC.decode(document).decode() == {"x": 1}
    document = cbor2.dumps({**REQUIRED, "datacontenttype": "application/json", "data": '{"x": 1}'})
    assert CODEC.decode(document).data == Raw(b'{"x": 1}')
    document = cbor2.dumps({**REQUIRED, "datacontenttype": "application/json", "data": "no json"})
    assert CODEC.decode(document).data == b"no json"


def test_what_follows_a_document_is_found_even_when_it_looks_like_our_own_end() -> None:
    document = cbor2.dumps(REQUIRED)
    for rest in (b"\x00", b"\xff", b"\x50" + bytes(16), document):
        with pytest.raises(DecodeError) as refused:
            CODEC.decode(document + rest)
        assert refused.value.reason == "trailing-bytes"


@pytest.mark.parametrize("number", [2**64, -(2**64) - 1, 2**70, 10**300])
def test_an_integer_that_no_reader_takes_is_not_written(number: int) -> None:
    for data in (number, {"a": ["ü", number]}):
        with pytest.raises(EncodeError, match="64 bits") as refused:
            CODEC.encode(new_envelope("a", data, source="/s"))
        assert refused.value.field == "data"


def test_what_only_looks_like_such_an_integer_is_written() -> None:
    data = {"octets": b"\xc2\x49" + bytes(8), "text": "Âé", "n": 2**64 - 1, "m": -(2**64)}
    found = CODEC.decode(CODEC.encode(new_envelope("a", data, source="/s")))
    assert found.decode() == data


def test_the_number_of_items_is_bounded_on_both_sides() -> None:
    # Of the document besides: the map, its attributes and their names, tags, the array.
    few = [1000.5] * (cboritem.MAX_ITEMS - 40)
    document = CODEC.encode(new_envelope("a", few, source="/s"))
    assert CODEC.decode(document).decode() == few
    many = [1] * cboritem.MAX_ITEMS
    with pytest.raises(EncodeError, match="items"):
        CODEC.encode(new_envelope("a", many, source="/s"))
    octets = new_envelope("a", cbor2.dumps(many), source="/s", datacontenttype="application/cbor")
    with pytest.raises(DecodeError) as refused:
        CODEC.decode(CODEC.encode(octets)).decode(list)
    assert refused.value.reason == "payload"
    assert "items" in refused.value.message


@given(
    item=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**64), 2**64 - 1)
        | st.floats()
        | st.text()
        | st.binary(max_size=300)
        | st.just("x" * 70_000),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_items_are_counted_as_they_are_written(item: Any) -> None:
    assert cboritem.count_items(cbor2.dumps(item), limit=10_000) == items_in(item)


def items_in(item: Any) -> int:
    if isinstance(item, dict):
        inner = cast("dict[str, Any]", item)
        return 1 + len(inner) + sum(map(items_in, inner.values()))
    return 1 + sum(map(items_in, cast("list[Any]", item))) if isinstance(item, list) else 1
