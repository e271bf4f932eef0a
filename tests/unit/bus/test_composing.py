"""What a message says about itself, and what it inherits from the one that caused it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from hms_bus import Bus, Envelope
from hms_bus.bus import context
from hms_bus.bus.composing import Composer
from hms_bus.errors import ConfigError, EncodeError, HopLimitError
from hms_bus.ids import parse_time
from tests.support.events import event


class Order(msgspec.Struct):
    n: int


@pytest.fixture
def composer() -> Composer:
    return Composer(source="/agents/test", max_hops=3)


@pytest.fixture
def cause() -> Iterator[Envelope]:
    envelope = event(
        "a", id="cause", correlationid="talk", traceparent="00-trace", tracestate="x=1", hops=1
    )
    token = context.cause.set(envelope)
    yield envelope
    context.cause.reset(token)


def test_a_first_message_begins_a_conversation(composer: Composer) -> None:
    envelope = composer.plain("orders.eu", Order(1))
    assert (envelope.topic, envelope.type) == ("orders.eu", "Order")
    assert (envelope.source, envelope.data) == ("/agents/test", Order(1))
    assert (envelope.correlationid, envelope.causationid) == (envelope.id, None)
    assert (envelope.hops, envelope.priority, envelope.expirytime) == (None, None, None)
    assert envelope.time is not None


def test_the_type_of_builtins_is_the_topic(composer: Composer) -> None:
    assert composer.plain("orders.eu", {"n": 1}).type == "orders.eu"


def test_an_effect_names_its_cause(composer: Composer, cause: Envelope) -> None:
    envelope = composer.plain("b", 1)
    assert (envelope.causationid, envelope.correlationid) == ("cause", "talk")
    assert (envelope.traceparent, envelope.tracestate) == ("00-trace", "x=1")
    assert envelope.hops == 2


@pytest.mark.usefixtures("cause")
def test_a_chain_that_is_too_long_is_cut(composer: Composer) -> None:
    context.cause.set(event("a", hops=2))
    assert composer.plain("b", 1).hops == 3
    context.cause.set(event("a", hops=3))
    with pytest.raises(HopLimitError) as caught:
        composer.plain("b", 1)
    assert (caught.value.topic, caught.value.hops, caught.value.limit) == ("b", 4, 3)


@pytest.mark.usefixtures("cause")
def test_a_cause_without_a_conversation_is_its_beginning(composer: Composer) -> None:
    context.cause.set(event("a", id="first").replace(correlationid=None))
    assert composer.plain("b", 1).correlationid == "first"


def test_a_reply_stays_in_the_conversation_and_makes_no_hop(composer: Composer) -> None:
    request = event("quotes.get", id="ask", correlationid="talk", hops=3, traceparent="00-trace")
    reply = composer.reply(request, "$reply.quotes.get", Order(1), sequence="0000000005")
    assert (reply.causationid, reply.correlationid) == ("ask", "talk")
    assert (reply.hops, reply.traceparent, reply.sequence) == (3, "00-trace", "0000000005")
    assert (reply.type, reply.topic) == ("Order", "$reply.quotes.get")


OPTIONS: dict[str, Any] = {
    "id": "my-id",
    "type": "OrderPlaced",
    "time": "2026-01-31T12:00:00Z",
    "subject": "order 5",
    "datacontenttype": "application/json",
    "dataschema": "https://example.org/order",
    "correlationid": "talk",
    "causationid": "cause",
    "partitionkey": "eu",
    "priority": 9,
    "expirytime": "2026-01-31T12:00:00Z",
    "traceparent": "00-trace",
    "tracestate": "x=1",
    "dataref": "https://example.org/blob",
    "authtype": "service_account",
    "authid": "scout",
    "severitynumber": 17,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_becomes_its_attribute(composer: Composer, name: str) -> None:
    options: Any = {name: OPTIONS[name]}
    assert getattr(composer.with_options("a", 1, options), name) == OPTIONS[name]


def test_an_option_that_is_none_is_not_given(composer: Composer) -> None:
    options: Any = dict.fromkeys([*OPTIONS, "ttl", "extensions"])
    envelope = composer.with_options("a", 1, options)
    assert envelope.priority is None
    assert envelope.type == "a"


def test_extensions_are_carried(composer: Composer) -> None:
    envelope = composer.with_options("a", 1, {"extensions": {"tenant": "eu", "shard": 5}})
    assert envelope.extensions == {"tenant": "eu", "shard": 5}


def test_a_conversation_is_named_after_the_id_that_was_given(composer: Composer) -> None:
    assert composer.with_options("a", 1, {"id": "mine"}).correlationid == "mine"
    both = composer.with_options("a", 1, {"id": "mine", "correlationid": "talk"})
    assert both.correlationid == "talk"


@pytest.mark.usefixtures("cause")
def test_an_id_does_not_leave_the_conversation(composer: Composer) -> None:
    assert composer.with_options("a", 1, {"id": "mine"}).correlationid == "talk"


@pytest.mark.parametrize("ttl", [60, "1m", timedelta(minutes=1)])
def test_ttl_counts_from_the_time_of_the_message(composer: Composer, ttl: Any) -> None:
    envelope = composer.with_options("a", 1, {"ttl": ttl})
    assert envelope.expires_ns is not None
    assert envelope.time_ns is not None
    assert abs(envelope.expires_ns - envelope.time_ns - 60_000_000_000) < 1_000_000_000


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"id": ""}, "id"),
        ({"type": ""}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"severitynumber": 2**31}, "severitynumber"),
        ({"subject": "a\x00b"}, "subject"),
        ({"topic": "b"}, "topic"),
        ({"source": "/x"}, "source"),
        ({"hops": 1}, "hops"),
        ({"credit": 1}, "credit"),
        ({"colour": "red"}, "colour"),
        ({"extensions": {"Not-A-Name": 1}}, "Not-A-Name"),
        ({"extensions": {"priority": 1}}, "priority"),
        ({"extensions": {"big": 2**31}}, "big"),
    ],
)
def test_an_option_that_breaks_a_rule_is_refused_by_its_name(
    composer: Composer, options: Any, field: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        composer.with_options("a", 1, options)
    assert caught.value.field == field


def test_too_many_extensions_are_refused(composer: Composer) -> None:
    with pytest.raises(EncodeError, match="more than 64"):
        composer.with_options("a", 1, {"extensions": {f"x{n}": n for n in range(65)}})


@pytest.mark.parametrize("ttl", ["soon", -1, float("inf"), "99999w"])
def test_a_ttl_that_is_no_duration_is_refused(composer: Composer, ttl: Any) -> None:
    with pytest.raises(ConfigError):
        composer.with_options("a", 1, {"ttl": ttl})


async def test_ids_rise_and_times_do_not_fall_within_a_bus() -> None:
    seen: list[Envelope] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take(envelope: Envelope) -> None:
        seen.append(envelope)

    async with bus:
        for _ in range(100):
            await bus.publish("a")
    assert [envelope.id for envelope in seen] == sorted(envelope.id for envelope in seen)
    times = [parse_time(envelope.time or "") for envelope in seen]
    assert times == sorted(times)
