"""Envelopes as the documents that a log keeps, and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hms_bus import jsonformat
from hms_bus.attributes import check
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError
from hms_bus.log.documents import Entry, make_entry, read_document
from tests.support.events import event

texts = st.text(max_size=20)
optional_texts = st.none() | texts
envelopes = st.builds(
    Envelope,
    id=texts,
    source=texts,
    type=texts,
    topic=st.sampled_from(["a", "a.b", "a..b", ""]),
    time=st.sampled_from(
        [None, "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789+01:00", "x"]
    ),
    subject=optional_texts,
    correlationid=optional_texts,
    priority=st.none() | st.integers(-1, 10),
    hops=st.none() | st.integers(-1, 2**31),
    extensions=st.none() | st.dictionaries(texts, texts | st.integers() | st.binary(), max_size=2),
    data=texts
    | st.binary()
    | st.just(Raw(b'{"data":[1, 2]}'))
    | st.just(Raw(b'1,"id":"2"'))
    | st.builds(Raw, st.binary(max_size=5)),
)


@given(envelope=envelopes)
def test_what_is_taken_is_read_as_it_was_and_keeps_every_rule(envelope: Envelope) -> None:
    try:
        entry = make_entry(envelope)
    except EncodeError:
        return
    read = read_document(entry.document)
    careful = jsonformat.decode(entry.document)
    assert jsonformat.encode(read) == entry.document
    assert read.replace(data=None) == careful.replace(data=None) == check(read).replace(data=None)
    assert read.decode(bytes) == careful.decode(bytes)
    assert (read.id, read.source, read.topic) == (entry.id, entry.source, entry.topic)


def test_an_entry_holds_the_document_and_what_it_is_found_by() -> None:
    envelope = event("a.b", {"n": 1}, source="s")
    assert make_entry(envelope) == Entry(envelope.id, "s", "a.b", jsonformat.encode(envelope))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"topic": ""}, "topic"),
        ({"topic": "a..b"}, "topic"),
        ({"id": ""}, "id"),
        ({"time": "yesterday"}, "time"),
        ({"priority": 77}, "priority"),
    ],
)
def test_an_envelope_that_could_not_be_read_back_is_refused(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(EncodeError) as error:
        make_entry(event().replace(**changes))
    assert error.value.field == field


@pytest.mark.parametrize("data", [Raw(b'{"n":'), Raw(b'"\xff"'), object(), {1j: 1}, Raw(b"")])
def test_a_payload_that_could_not_be_read_back_is_refused(data: object) -> None:
    with pytest.raises(EncodeError):
        make_entry(event().replace(data=data))


@pytest.mark.parametrize("document", [b"", b"{}", b"\xff", b'{"specversion":"1.0","id":"1"}'])
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_document(document)


def test_octets_and_extensions_come_back() -> None:
    data: Any = b"\x00\xff"
    envelope = event("a.b", data, extensions={"shard": 7, "key": "v"})
    read = read_document(make_entry(envelope).document)
    assert read == envelope
