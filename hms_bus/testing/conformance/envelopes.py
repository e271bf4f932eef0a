"""Checks: what an envelope says besides its payload arrives as it was said."""

from typing import Any

from hms_bus.envelope import ATTRIBUTES
from hms_bus.ids import parse_time
from hms_bus.testing.conformance.probes import carry, equal, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")

SETTABLE: dict[str, Any] = {
    "id": "an id / of its own",
    "type": "com.example.thing.v1",
    "time": "2026-01-31T12:00:00.123456Z",
    "subject": "thing 7 — «äöü» 🧩",
    "datacontenttype": "application/json",
    "dataschema": "https://example.com/schema#thing",
    "correlationid": "conversation-1",
    "causationid": "cause-1",
    "partitionkey": "key-1",
    "expirytime": "2999-12-31T23:59:59.000001Z",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=opaque,other=1",
    "dataref": "https://example.com/data/1",
    "authtype": "app_user",
    "authid": "user-5",
    "severitynumber": 9,
    "priority": 7,
}
"""Every attribute that a publisher may set, with a value that differs from the default."""


class Declared(dict[str, int]):
    """A payload that says what it is."""

    __event_type__ = "com.example.declared.v2"


@check(survives={"delay", "reorder", "duplicate"})
async def every_attribute_arrives(subject: Subject) -> None:
    """Every attribute that a publisher sets arrives with its value and type."""
    envelope = (await carry(subject, {"n": 1}, **SETTABLE)).envelope
    arrived = {name: getattr(envelope, name) for name in SETTABLE}
    equal(arrived, SETTABLE, "attributes")


@check(survives={"delay", "reorder", "duplicate"})
async def absent_attributes_stay_absent(subject: Subject) -> None:
    """Nothing is made up on the way: what the publisher did not set is not there."""
    envelope = (await carry(subject, {"n": 1})).envelope
    present = {name for name in ATTRIBUTES if getattr(envelope, name) is not None}
    expected = {"id", "source", "type", "topic", "time", "datacontenttype", "correlationid"}
    equal(present, expected, "attributes that are present")
    that(not envelope.extensions, f"there are extensions: {envelope.extensions}")


@check(survives={"delay", "reorder", "duplicate"})
async def unknown_extensions_arrive(subject: Subject) -> None:
    """Extensions that the bus does not know arrive with their names, values and types."""
    extensions = {
        "comexampletext": "näh 🧩",
        "comexampleint": -(2**31),
        "comexampletrue": True,
        "comexamplefalse": False,
        "a1": "",
        "x" * 20: 2**31 - 1,
    }
    envelope = (await carry(subject, 1, extensions=extensions)).envelope
    equal(envelope.extensions, extensions, "extensions")
    kinds = {name: type(value) for name, value in (envelope.extensions or {}).items()}
    equal(kinds, {name: type(value) for name, value in extensions.items()}, "their types")


@check(survives={"delay", "reorder", "duplicate"})
async def messages_say_who_sent_them_and_when(subject: Subject) -> None:
    """An envelope names its sender, its topic, and an RFC 3339 time with an offset."""
    topic = subject.topic("identity")
    async with (
        subject.bus() as listener,
        subject.publisher(source=subject.source) as sender,
        listener.subscribe(topic) as messages,
    ):
        await sender.publish(topic, {"n": 1})
        [message] = await take(messages, 1)
    equal(message.source, subject.source, "source")
    equal(message.topic, topic, "topic")
    equal(message.type, topic, "event type of a payload without a class")
    that(message.time is not None and message.time.tzinfo, f"the time is {message.time!r}")
    that(parse_time(message.envelope.time or "") > 0, "the time is before 1970")


@check(survives={"delay"})
async def ids_are_unique_and_stand_in_the_receipt(subject: Subject) -> None:
    """Each message has an id of its own, the one that its publisher got in the receipt."""
    topic = subject.topic("ids")
    async with (
        subject.bus() as listener,
        subject.publisher() as sender,
        listener.subscribe(topic) as messages,
    ):
        receipts = [await sender.publish(topic, n) for n in range(30)]
        arrived = [message.id for message in await take(messages, 30)]
    equal(arrived, [receipt.id for receipt in receipts], "ids")
    equal(len(set(arrived)), 30, "number of different ids")


@check(survives={"delay", "reorder", "duplicate"})
async def an_event_type_can_be_declared_by_the_payload(subject: Subject) -> None:
    """A payload's class can name its event type by `__event_type__`; the publisher's word wins."""
    equal((await carry(subject, Declared(n=1))).type, "com.example.declared.v2", "event type")
    equal((await carry(subject, Declared(n=1), type="mine")).type, "mine", "event type")
