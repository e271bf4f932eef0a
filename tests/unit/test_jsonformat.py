"""The JSON format: what is written, what is refused, and that both ways of reading agree."""

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from hms_bus import jsonformat, payload
from hms_bus.attributes import check, new_envelope, to_values
from hms_bus.envelope import ATTRIBUTES, INTEGER_ATTRIBUTES, Envelope
from hms_bus.errors import DecodeError
from hms_bus.testing.equality import canonical
from tests.support.envelopes import envelopes, json_values, mutations, topics

OWN = jsonformat.encode(
    new_envelope("a.b", {"data": '"data":'}, source="/s", hops=2, subject="x", expirytime=None)
)
HEAD = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","topic":"a.b"'


def read(document: bytes) -> tuple[str, Any]:
    """Read by whichever way `decode` takes; what comes out as values that compare."""
    try:
        envelope = jsonformat.decode(document)
    except DecodeError as error:
        return "refused", error.reason
    return "read", envelope


def read_carefully(document: bytes) -> tuple[str, Any]:
    try:
        envelope = jsonformat._read_members(document)
    except DecodeError as error:
        return "refused", error.reason
    return "read", envelope


def takes_fast_path(document: bytes) -> bool:
    with mock.patch.object(jsonformat, "_read_members") as careful:
        jsonformat.decode(document)
    return not careful.called


# -- both ways of reading ----------------------------------------------------------------------

_ODD_MEMBERS = [
    b'"subject":"x"',
    b'"subject":"y"',
    b'"subject":null',
    b'"id":"2"',
    b'"hops":1',
    b'"hops":null',
    b'"priority":9',
    b'"extensions":null',
    b'"extensions":"x"',
    b'"specversion":"1.0"',
    b'"specversion":"0.3"',
    b'"data":1',
    b'"data":null',
    b'"data" : [1, 2 ]',
    b'"data":{"data":"x","subject":"\\"data\\":"}',
    b'"data":"\xff"',
    b'"data":"\xc3\xa9"',
    b'"data":"\x7f"',
    b'"data_base64":"AA=="',
    b'"data_base64":null',
    b'"d\\u0061ta":1',
    b'"\\u0069d":"3"',
    b'"subject":"\\u0000"',
    b'"subject":"\\n"',
    b'"subject":"a\\\\"',
    b'"subject":"\\"data\\":"',
    b'"subject":"\x7f"',
    b'"subject":"\xc2\x85"',
    b'"subject":"\xc3\xa9"',
    b'"subject":"\xff"',
    b'"subject":""',
    b'"topic":""',
    b'"topic":"a..b"',
    b'"topic":"a.*"',
    b'"time":"2026-01-31T12:00:00.000000Z"',
    b'"time":"2026-01-31T24:00:00.000000Z"',
    b'"time":"2026-02-30T12:00:00.000000Z"',
    b'"time":"2026-W05-6T12:00:00.000000Z"',
    b'"time":"2026-01-31 12:00:00.000000Z"',
    b'"expirytime":"2026-01-31T12:00:00Z"',
    b'"expirytime":"never"',
    b'"myext":"v"',
    b'"Data":1',
    b'"datax":1',
    b'"severitynumber":2147483648',
    b'"hops":2.0',
    b'"hops":true',
]


@given(members=st.lists(st.sampled_from(_ODD_MEMBERS), max_size=5), space=st.booleans())
def test_both_ways_of_reading_agree_on_odd_members(members: list[bytes], *, space: bool) -> None:
    document = (b" , " if space else b",").join([HEAD, *members]) + b"}"
    assert read(document) == read_carefully(document)


@given(document=envelopes().map(jsonformat.encode))
def test_both_ways_of_reading_agree_on_what_is_sent(document: bytes) -> None:
    assert read(document) == read_carefully(document)


@given(document=envelopes().map(jsonformat.encode).flatmap(mutations) | mutations(OWN))
def test_both_ways_of_reading_agree_on_mutations(document: bytes) -> None:
    assert read(document) == read_carefully(document)


@given(data=json_values, topic=topics, subject=st.text("ab \"'{},:", min_size=1) | st.none())
@example(data={"a": '","data":{"'}, topic="a", subject=None)
def test_the_fast_way_gives_what_was_sent(data: Any, topic: str, subject: str | None) -> None:
    envelope = new_envelope(topic, data, source="/s", subject=subject)
    document = jsonformat.encode(envelope)
    assert takes_fast_path(document) == ('"' not in (subject or ""))
    assert canonical(jsonformat.decode(document)) == canonical(envelope)


@given(document=mutations(OWN))
def test_whatever_is_read_keeps_all_rules(document: bytes) -> None:
    outcome, envelope = read(document)
    if outcome == "read":
        assert check(envelope) is envelope
        assert jsonformat.decode(jsonformat.encode(envelope)) == envelope


# -- against the standard library ----------------------------------------------------------------


@given(document=mutations(OWN))
def test_members_are_those_that_the_standard_library_finds(document: bytes) -> None:
    outcome, envelope = read(document)
    if outcome == "refused":
        return
    members: list[tuple[str, Any]] = json.loads(document, object_pairs_hook=lambda pairs: pairs)
    assert len({name for name, _ in members}) == len(members)
    present = {name: value for name, value in members if value is not None and value != ""}
    assert to_values(envelope) == {
        name: value for name, value in present.items() if name not in {"data", "data_base64"}
    }


# -- writing -------------------------------------------------------------------------------------


def test_members_stand_in_the_order_of_the_spec_and_data_is_last() -> None:
    values: dict[str, Any] = {name: 1 if name in INTEGER_ATTRIBUTES else "x" for name in ATTRIBUTES}
    envelope = Envelope(**values, extensions={"myext": True}, data=[1])
    names = list(json.loads(jsonformat.encode(envelope)))
    assert names == ["specversion", *ATTRIBUTES, "myext", "data"]
    assert list(json.loads(jsonformat.encode(envelope.replace(extensions=None)))) == [
        name for name in names if name != "myext"
    ]


def test_absent_attributes_are_not_written() -> None:
    assert jsonformat.encode(Envelope(id="1", source="/s", type="t")) == (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
    )


def test_not_a_number_is_written_as_null() -> None:
    document = jsonformat.encode(Envelope(id="1", source="/s", type="t", data=float("nan")))
    assert document.endswith(b'"data":null}')


# -- reading -------------------------------------------------------------------------------------


def test_data_is_left_as_text() -> None:
    envelope = jsonformat.decode(HEAD + b',"data":{"a": [1]}}')
    assert envelope.data == Raw(b'{"a": [1]}')


def test_null_attributes_are_absent_and_null_data_is_not() -> None:
    envelope = jsonformat.decode(HEAD + b',"subject":null,"myext":null,"data":null}')
    assert envelope.subject is None
    assert envelope.extensions is None
    assert envelope.data == Raw(b"null")


def test_null_base64_is_absent() -> None:
    assert jsonformat.decode(HEAD + b',"data_base64":null}').data is UNSET
    assert jsonformat.decode(HEAD + b',"data_base64":null,"data":1}').decode() == 1


def test_topics_that_were_seen_before_are_bounded() -> None:
    with (
        mock.patch.object(jsonformat, "_MAX_KNOWN_TOPICS", 3),
        mock.patch.object(jsonformat, "_known_topics", set[str]()) as known,
    ):
        for number in range(9):
            jsonformat.decode(jsonformat.encode(new_envelope(f"t.{number}", source="/s")))
        assert 0 < len(known) <= 3


@pytest.mark.parametrize("levels", [64, 65, 100, 500, 100_000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":', b"}"), (b'["]",', b"]"), (b'{"\\"]":', b',"\\\\":"]"}')],
)
def test_deep_data_is_refused_at_the_latest_when_it_is_parsed(
    levels: int, opening: bytes, closing: bytes
) -> None:
    document = HEAD + b',"data":' + opening * levels + b"1" + closing * levels + b"}"
    if levels <= payload.MAX_DEPTH:
        assert jsonformat.decode(document).decode()
        return
    with pytest.raises(DecodeError) as refused:
        jsonformat.decode(document).decode()
    assert refused.value.reason == "too-deep"


def test_a_long_document_of_doubles_and_escapes_is_read_in_linear_time() -> None:
    key = b'"' + b"\\u0061" * 300_000 + b'"'
    with pytest.raises(DecodeError) as refused:
        jsonformat.decode(HEAD + b"," + key + b":1," + key + b":2}")
    assert refused.value.reason == "duplicate-key"


@pytest.mark.parametrize(
    "data", [b"1.25e-3", b"-1", b"true", b'"\\u00e9\\ud83d\\ude00\\n"', b'{"a":[]}']
)
def test_every_beginning_is_truncated_also_inside_of_a_value(data: bytes) -> None:
    document = HEAD + b',"data":' + data + b"}"
    for end in range(len(document)):
        with pytest.raises(DecodeError) as refused:
            jsonformat.decode(document[:end])
        assert refused.value.reason == "truncated", document[:end]


@pytest.mark.parametrize("data", [b'"\\ud83d"', b'"\\ud83d\\n"', b'"\\ude00"', b'{"a":"\\ud83d"}'])
def test_half_a_surrogate_pair_is_malformed_wherever_it_stands(data: bytes) -> None:
    for rest in (b"}", b',"subject":"x"}', b"}   "):
        with pytest.raises(DecodeError) as refused:
            jsonformat.decode(HEAD + b',"data":' + data + rest)
        assert refused.value.reason == "malformed"
