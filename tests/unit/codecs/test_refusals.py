"""Whatever the bytes are: an envelope that keeps the rules, or a `DecodeError`; little memory."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hms_bus import codecs
from hms_bus.attributes import check
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.testing.equality import canonical
from tests.support.envelopes import envelopes, mutations

NAMES = ("json", "cbor", "protobuf")


def read(name: str, document: bytes) -> str:
    """Read the document and all in it. Returns the reason of the refusal, or `read`."""
    try:
        envelope = codecs.find(name).decode(document)
    except DecodeError as error:
        return error.reason
    assert check(envelope) is envelope
    reasons = {refusal_of_payload(envelope, wanted) for wanted in TYPES}
    assert reasons <= {None, "payload", "too-deep"}
    return "read"


TYPES = (Any, object, bytes, str, dict, list[int], float, type(None))


def refusal_of_payload(envelope: Envelope, wanted: Any) -> str | None:
    try:
        envelope.decode(wanted)
    except DecodeError as error:
        return error.reason
    return None


@pytest.mark.parametrize("name", NAMES)
@given(document=st.binary(max_size=200))
@example(document=b"")
@example(document=b"\xff" * 50)
@example(document=b"\xd8\x1c\x81\xd8\x1d\x00")  # a list that holds itself
@example(document=b"\xa1\xf6\xf7")
@example(document=b"\xa1\x41a\x00")
def test_arbitrary_bytes_are_read_or_refused(name: str, document: bytes) -> None:
    read(name, document)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_mutated_documents_are_read_or_refused(name: str, data: st.DataObject) -> None:
    document = codecs.find(name).encode(data.draw(envelopes()))
    read(name, data.draw(mutations(document)))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_what_is_read_can_be_sent_again_and_is_the_same(name: str, data: st.DataObject) -> None:
    codec = codecs.find(name)
    document = data.draw(mutations(codec.encode(data.draw(envelopes()))))
    try:
        envelope = codec.decode(document)
        values = canonical(envelope)
    except DecodeError:
        return
    assert canonical(codec.decode(codec.encode(envelope))) == values


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_every_beginning_of_a_document_is_refused_or_read(name: str, data: st.DataObject) -> None:
    document = codecs.find(name).encode(data.draw(envelopes()))
    end = data.draw(st.integers(0, len(document) - 1))
    reason = read(name, document[:end])
    if name != "protobuf":  # a protobuf message may end after any of its fields
        assert reason == "truncated"


GIANT_LENGTHS = [
    b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9b\x00\xff\xff\xff\xff\xff\xff\xff",
    b"\xbb\x00\x00\x00\xff\xff\xff\xff\xff",
    b"\xa1\x64data\x9a\xff\xff\xff\xff\x00",
    b"\xa1\x64data\x5a\xff\xff\xff\xff\x00",
    b"\x0a\xff\xff\xff\xff\x07a",
    b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fa",
]


@pytest.mark.parametrize("document", GIANT_LENGTHS, ids=bytes.hex)
def test_a_giant_length_allocates_nothing(document: bytes) -> None:
    name = "protobuf" if document[0] == 0x0A else "cbor"
    read(name, document)  # loads the codec
    tracemalloc.start()
    try:
        reason = read(name, document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reason == ("truncated" if name == "cbor" else "malformed")
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("json", b'"a",'),
        ("json", b"[],"),
        ("json", b'"\\u0061":1,'),
        ("json", b'{"":0},'),
        ("cbor", b"\x80"),
        ("cbor", b"\x81\x80"),
        ("cbor", b"\xa0"),
        ("cbor", b"\xa1\x60\x80"),
        ("cbor", b"\xd8\x20\x60"),
        ("cbor", b"\x61a"),
        ("protobuf", b"\x2a\x00"),
        ("protobuf", b"\x0a\x01a"),
        ("protobuf", b"\x2a\x06\x12\x04\x3a\x02\x08\x01"),
    ],
    ids=repr,
)
def test_memory_stays_in_proportion(name: str, part: bytes) -> None:
    parts = part * (200_000 // len(part))
    document = {
        "json": b'{"data":[' + parts + b"0]}",
        "cbor": b"\xa1\x64data\x9f" + parts + b"\xff",
        "protobuf": parts,
    }[name]
    tracemalloc.start()
    try:
        read(name, document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(document)


@pytest.mark.parametrize("head", [b"\x9f", b"\x9a\x00\x1e\x84\x80"], ids=["open", "of a length"])
def test_many_small_items_are_refused_before_they_are_made(head: bytes) -> None:
    document = b"\xa1\x64data" + head + b"\x80" * 2_000_000 + b"\xff" * (head == b"\x9f")
    tracemalloc.start()
    try:
        reason = read("cbor", document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reason == "too-large"
    assert peak < 3 * len(document)


@pytest.mark.parametrize("name", NAMES)
def test_a_document_that_is_too_large_is_refused_unread(name: str) -> None:
    assert read(name, b"\x00" * (16 * 1024 * 1024 + 1)) == "too-large"
