"""The envelope as a value: what it derives, how it is changed, and how it tells a misfit."""

import pickle
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from msgspec import UNSET, Raw, Struct

from hms_bus.envelope import ATTRIBUTES, INTEGER_ATTRIBUTES, TIME_ATTRIBUTES, Envelope
from hms_bus.errors import DecodeError


class Order(Struct):
    number: int


ENVELOPE = Envelope(
    id="1",
    source="/s",
    type="Order",
    topic="orders.created",
    time="2026-01-31T13:00:00.123456789+01:00",
    data=Raw(b'{"number":1}'),
)


def test_only_the_required_attributes_need_a_value() -> None:
    envelope = Envelope(id="1", source="/s", type="t")
    assert envelope.data is UNSET
    assert envelope.topic == ""
    optional = [name for name in ATTRIBUTES if name not in {"id", "source", "type", "topic"}]
    assert {getattr(envelope, name) for name in optional} == {None}
    with pytest.raises(TypeError):
        Envelope(id="1", source="/s")  # pyright: ignore[reportCallIssue]


def test_an_envelope_cannot_be_changed_but_replaced() -> None:
    with pytest.raises(AttributeError):
        ENVELOPE.id = "2"  # pyright: ignore[reportAttributeAccessIssue]
    changed = ENVELOPE.replace(id="2", hops=1)
    assert (changed.id, changed.hops, changed.source) == ("2", 1, "/s")
    assert (ENVELOPE.id, ENVELOPE.hops) == ("1", None)


def test_envelopes_are_equal_by_value() -> None:
    assert ENVELOPE.replace() == ENVELOPE
    assert ENVELOPE.replace(data=Raw(b'{"number":1}')) == ENVELOPE
    assert ENVELOPE.replace(data=Raw(b'{"number":2}')) != ENVELOPE


def test_times_are_derived() -> None:
    assert ENVELOPE.time_ns == 1_769_860_800_123_456_789
    assert ENVELOPE.moment == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert ENVELOPE.expires_ns is None
    assert ENVELOPE.replace(expirytime="1970-01-01T00:00:01Z").expires_ns == 10**9
    timeless = ENVELOPE.replace(time=None)
    assert timeless.time_ns is None
    assert timeless.moment is None


def test_the_moment_of_a_leap_second() -> None:
    moment = ENVELOPE.replace(time="2016-12-31t23:59:60z").moment
    assert moment == datetime(2017, 1, 1, tzinfo=UTC)


def test_data_is_decoded_into_what_is_asked_for() -> None:
    assert ENVELOPE.decode() == {"number": 1}
    assert ENVELOPE.decode(Order) == Order(1)
    assert ENVELOPE.decode(dict[str, int]) == {"number": 1}
    assert ENVELOPE.decode(bytes) == b'{"number":1}'
    assert ENVELOPE.replace(data=Order(2)).decode(Order) == Order(2)


@pytest.mark.parametrize("data", [Raw(b'{"number":"x"}'), {"number": "x"}, b'{"number":"x"}'])
def test_a_misfit_names_topic_type_and_path(data: Any) -> None:
    envelope = ENVELOPE.replace(data=data, datacontenttype="application/json")
    with pytest.raises(DecodeError) as refused:
        envelope.decode(Order)
    error = refused.value
    assert (error.reason, error.field) == ("payload", "$.number")
    assert (error.topic, error.type) == ("orders.created", "Order")
    assert "Expected `int`, got `str`" in str(error)
    assert "orders.created" in str(error)
    assert pickle.loads(pickle.dumps(error)).field == "$.number"


def test_a_type_that_has_no_hash_can_be_asked_for() -> None:
    wanted: Any = Annotated[Order, {}]
    assert ENVELOPE.decode(wanted) == Order(1)


def test_the_attributes_are_the_fields_on_the_wire() -> None:
    assert ATTRIBUTES[:4] == ("id", "source", "type", "topic")
    assert set(ATTRIBUTES[-4:]) == INTEGER_ATTRIBUTES
    assert TIME_ATTRIBUTES.issubset(ATTRIBUTES)
    assert not {"data", "extensions", "specversion"} & set(ATTRIBUTES)


def test_envelopes_survive_pickling() -> None:
    envelope = ENVELOPE.replace(data={"number": 1}, extensions={"myext": True})
    assert pickle.loads(pickle.dumps(envelope)) == envelope
