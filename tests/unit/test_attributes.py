"""The rules for attributes: what is built from outside values, and what is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct

from hms_bus.attributes import (
    ATTRIBUTES,
    MAX_ATTRIBUTE_BYTES,
    check,
    check_extension,
    from_values,
    new_envelope,
    to_values,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError, TopicError
from hms_bus.ids import is_stamped_time
from tests.support.envelopes import envelopes, texts

REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


class Order(Struct):
    number: int


# -- new envelopes -------------------------------------------------------------------------------


def test_a_new_envelope_has_an_identity_a_time_and_what_its_payload_says() -> None:
    envelope = new_envelope("orders.created", Order(1), source="/billing")
    other = new_envelope("orders.created", Order(1), source="/billing")
    assert envelope.id < other.id
    assert envelope.time is not None
    assert is_stamped_time(envelope.time)
    assert envelope.topic == "orders.created"
    assert envelope.type == "Order"
    assert envelope.datacontenttype == "application/json"
    assert envelope.data == Order(1)
    assert envelope.extensions is None


def test_what_the_caller_says_wins() -> None:
    envelope = new_envelope(
        "a.b", {"x": 1}, source="/s", type="com.acme.x", hops=2, extensions={"myext": 1}
    )
    assert (envelope.type, envelope.hops, envelope.extensions) == ("com.acme.x", 2, {"myext": 1})
    assert new_envelope("a.b", source="/s").type == "a.b"
    assert new_envelope("a.b", source="/s").data is UNSET


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"hops": -1}, "hops"),
        ({"priority": 10}, "priority"),
        ({"subject": ""}, "subject"),
        ({"subject": "a\n"}, "subject"),
        ({"subject": 1}, "subject"),
        ({"id": None}, "id"),
        ({"time": "today"}, "time"),
        ({"extensions": {"my_ext": "x"}}, "my_ext"),
        ({"extensions": {"subject": "x"}}, "subject"),
        ({"extensions": {"myext": 0.5}}, "myext"),
        ({"extensions": {"myext": 2**31}}, "myext"),
        ({"extensions": {f"x{n}": n for n in range(65)}}, None),
    ],
)
def test_a_wrong_attribute_is_the_callers_error(attributes: Any, field: str | None) -> None:
    with pytest.raises(EncodeError) as refused:
        new_envelope("a.b", source="/s", **attributes)
    assert refused.value.field == field


def test_an_unknown_attribute_is_told_where_it_belongs() -> None:
    with pytest.raises(EncodeError, match=r"myext.*go into extensions="):
        new_envelope("a.b", source="/s", myext="x")


def test_a_pattern_is_no_topic() -> None:
    with pytest.raises(TopicError):
        new_envelope("a.*", source="/s")


# -- from and to values --------------------------------------------------------------------------


@given(envelope=envelopes())
def test_from_values_is_the_inverse_of_to_values(envelope: Envelope) -> None:
    assert from_values(to_values(envelope), envelope.data) == envelope


@given(envelope=envelopes())
def test_what_is_drawn_keeps_the_rules(envelope: Envelope) -> None:
    assert check(envelope) is envelope


def test_null_is_absent_but_its_name_counts() -> None:
    envelope = from_values({**REQUIRED, "subject": None, "myext": None})
    assert envelope == Envelope(id="1", source="/s", type="t")
    with pytest.raises(DecodeError) as refused:
        from_values({**REQUIRED, "My-Ext": None})
    assert refused.value.reason == "bad-attribute-name"


WRONG: list[Any] = [
    ({"specversion": None}, "missing-attribute", "specversion"),
    ({"specversion": "0.3"}, "specversion", "specversion"),
    ({"specversion": 1}, "wrong-type", "specversion"),
    ({"id": None}, "missing-attribute", "id"),
    ({"id": ""}, "empty-attribute", "id"),
    ({"id": b"1"}, "wrong-type", "id"),
    ({"tracestate": ""}, "empty-attribute", "tracestate"),
    ({"hops": True}, "wrong-type", "hops"),
    ({"hops": 2**31}, "out-of-range", "hops"),
    ({"severitynumber": -(2**31) - 1}, "out-of-range", "severitynumber"),
    ({"time": ""}, "empty-attribute", "time"),
    ({"expirytime": "2026-02-30T00:00:00Z"}, "bad-time", "expirytime"),
    ({"topic": "a..b"}, "bad-attribute-value", "topic"),
    ({"subject": "x" * 4097}, "too-large", "subject"),
    ({"subject": "é" * 2049}, "too-large", "subject"),
    ({"myext": b"x" * 4097}, "too-large", "myext"),
    ({"myext": []}, "wrong-type", "myext"),
    ({"data": 1}, "bad-attribute-name", "data"),
    ({"data_base64": "AA=="}, "bad-attribute-name", "data_base64"),
    ({"extensions": None}, "bad-attribute-name", "extensions"),
    ({"": "x"}, "bad-attribute-name", ""),
    ({b"myext": "x"}, "bad-attribute-name", "b'myext'"),
]


@pytest.mark.parametrize(("values", "reason", "field"), WRONG, ids=repr)
def test_wrong_values_are_refused_with_reason_and_field(
    values: dict[str, Any], reason: str, field: str
) -> None:
    with pytest.raises(DecodeError) as refused:
        from_values({**REQUIRED, **values})
    assert (refused.value.reason, refused.value.field) == (reason, field)


@pytest.mark.parametrize("code", [0, 9, 10, 31, 127, 128, 159, 0xD800, 0xFDD0, 0xFFFE, 0x10FFFF])
def test_characters_that_no_attribute_may_hold(code: int) -> None:
    for name in ("subject", "myext"):
        with pytest.raises(DecodeError) as refused:
            from_values({**REQUIRED, name: f"a{chr(code)}"})
        assert refused.value.reason == "bad-attribute-value"


@given(text=texts)
def test_all_other_characters_may_stand_in_an_attribute(text: str) -> None:
    check_extension("myext", text)


@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1))
def test_the_limit_of_an_attribute_counts_bytes(text: str) -> None:
    longest = (text * MAX_ATTRIBUTE_BYTES)[:MAX_ATTRIBUTE_BYTES]
    assert from_values({**REQUIRED, "subject": longest}).subject == longest
    assert from_values({**REQUIRED, "subject": "\U0001f600" * 1024}).subject is not None


def test_the_topic_may_be_absent_and_is_then_not_among_the_values() -> None:
    assert from_values(REQUIRED).topic == ""
    assert "topic" not in to_values(from_values({**REQUIRED, "topic": ""}))
    assert [*to_values(from_values(REQUIRED))] == ["specversion", "id", "source", "type"]


def test_every_attribute_is_checked() -> None:
    for name in ATTRIBUTES:
        with pytest.raises(DecodeError):
            from_values({**REQUIRED, name: [name]})
