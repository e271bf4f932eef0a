"""Events as classes: names, versions, upcasting."""

from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import Raw, Struct

from hms_bus import Envelope, new_envelope
from hms_bus.errors import ConfigError, DecodeError
from hms_bus.sourcing import event, event_type, upcast
from hms_bus.sourcing.events import EventTypes


class Plain(Struct, frozen=True):
    number: int
    note: str = ""


@event(version=3)
@dataclass(frozen=True)
class Ordered:
    number: int
    currency: str
    price: int


@upcast(Ordered, version=1)
def name_the_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


@upcast(Ordered, version=2)
def count_in_cents(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "price": data["price"] * 100}


@upcast(Ordered, version=1, name="OrderPlaced")
def rename_number(data: dict[str, Any]) -> dict[str, Any]:
    return {"number": data["id"], "price": data["price"], "currency": "EUR"}


def stored(kind: str, document: bytes) -> Envelope:
    """Return an envelope as a log gives it."""
    return new_envelope("orders.1", Raw(document), source="/test", type=kind)


def test_a_class_is_called_by_its_name_and_from_version_2_on_by_its_version_too() -> None:
    assert event_type(Plain) == "Plain"
    assert event_type(Ordered) == "Ordered.v3"
    assert new_envelope("a", Ordered(1, "EUR", 5), source="/test").type == "Ordered.v3"


def test_an_event_may_be_called_otherwise_than_its_class() -> None:
    @event(name="com.example.order", version=2)
    class Order(Struct):
        pass

    assert event_type(Order) == "com.example.order.v2"


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("Ordered", b'{"number":7,"price":3}'),
        ("Ordered.v2", b'{"number":7,"price":3,"currency":"EUR"}'),
        ("Ordered.v3", b'{"number":7,"price":300,"currency":"EUR"}'),
        ("OrderPlaced", b'{"id":7,"price":3}'),
    ],
)
def test_every_older_version_is_lifted_to_what_the_code_knows(kind: str, document: bytes) -> None:
    read = EventTypes([Ordered]).read(stored(kind, document))
    assert read == Ordered(number=7, currency="EUR", price=300)


def test_a_new_field_with_a_default_needs_no_version() -> None:
    assert EventTypes([Plain]).read(stored("Plain", b'{"number":7}')) == Plain(7)


def test_an_event_of_a_newer_version_is_refused_by_its_name() -> None:
    with pytest.raises(DecodeError, match="newer release") as caught:
        EventTypes([Plain]).read(stored("Plain.v2", b'{"number":7}'))
    assert caught.value.type == "Plain.v2"
    assert caught.value.topic == "orders.1"


def test_an_event_of_an_older_version_without_its_step_names_the_step() -> None:
    @event(version=3)
    class Paid(Struct):
        cents: int

    upcast(Paid, version=2)(dict)
    with pytest.raises(DecodeError, match=r"older than Paid\.v\d: @upcast\(.*Paid, version=1\)"):
        EventTypes([Paid]).read(stored("Paid", b"{}"))


def test_what_an_upcast_raises_names_the_event_and_stays_the_cause() -> None:
    with pytest.raises(DecodeError, match="rename_number") as caught:
        EventTypes([Ordered]).read(stored("OrderPlaced", b"{}"))
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.type == "OrderPlaced"


def test_a_payload_that_fits_not_even_after_its_upcasts_is_refused() -> None:
    with pytest.raises(DecodeError, match="number"):
        EventTypes([Ordered]).read(stored("Ordered", b'{"number":"seven","price":3}'))


def test_a_gap_between_versions_is_found_before_anything_is_read() -> None:
    @event(version=3)
    class Gappy(Struct):
        pass

    @upcast(Gappy, version=1)
    def _(data: dict[str, Any]) -> dict[str, Any]:
        return data

    with pytest.raises(ConfigError, match="version=2"):
        EventTypes([Gappy])


def test_two_classes_of_one_name_are_refused() -> None:
    @event(name="Plain")
    class Other(Struct):
        pass

    with pytest.raises(ConfigError, match="Plain"):
        EventTypes([Plain, Other])


@pytest.mark.parametrize(
    ("cls", "version", "said"),
    [
        (Ordered, 0, "versions of an event start at 1"),
        (Ordered, 3, r"Ordered is version 3: .* from version 3 .* @event\(version=4\)"),
        (Plain, 1, r"Plain is version 1: .* from version 1 .* @event\(version=2\)"),
    ],
)
def test_an_upcast_starts_from_an_older_version(cls: type, version: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        upcast(cls, version=version)


@pytest.mark.parametrize("none", [int, dict, "Plain", Plain(1)])
def test_what_is_no_class_of_ones_own_is_no_event(none: Any) -> None:
    with pytest.raises(ConfigError, match="no event: name a class of your own"):
        EventTypes([none])


def test_one_version_has_one_upcast() -> None:
    with pytest.raises(ConfigError, match="already"):
        upcast(Ordered, version=2)


def test_versions_start_at_1() -> None:
    with pytest.raises(ConfigError, match="start at 1"):
        event(version=0)
