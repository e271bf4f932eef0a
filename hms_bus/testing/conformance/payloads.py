"""Checks: a payload of every kind arrives as it was sent, in the type that is asked for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

from google.protobuf.wrappers_pb2 import StringValue
from msgspec import UNSET, Struct

from hms_bus.bus import Message
from hms_bus.errors import DecodeError, EncodeError
from hms_bus.testing.conformance.probes import Seen, carry, equal, raises, take, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("transport")


class Color(Enum):
    """An enumeration, sent as its value."""

    RED = "red"


class Part(Struct, frozen=True):
    """A value inside of another."""

    name: str
    weight: float | None = None


class Assembly(Struct, frozen=True, kw_only=True):
    """One field of every kind that JSON has no form of its own for, and nested values."""

    id: UUID
    made: datetime
    due: date
    price: Decimal
    color: Color
    image: bytes
    parts: list[Part]
    by_name: dict[str, Part]


@dataclass(frozen=True)
class Point:
    """A dataclass payload."""

    x: int
    y: int = 0


class Address(TypedDict):
    """A TypedDict payload."""

    street: str
    number: int


ASSEMBLY = Assembly(
    id=UUID(int=7),
    made=datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC),
    due=date(2026, 2, 1),
    price=Decimal("12.30"),
    color=Color.RED,
    image=bytes(range(256)),
    parts=[Part("wheel", 1.5), Part("bolt")],
    by_name={"axle": Part("axle", -0.25)},
)


@check(survives={"delay", "reorder", "duplicate"})
async def structs_arrive_as_they_were(subject: Subject) -> None:
    """A Struct with nested values, bytes, times, UUIDs, decimals and enums arrives equal."""
    message = await carry(subject, ASSEMBLY)
    equal(message.decode(Assembly), ASSEMBLY, "payload")
    equal(message.type, "Assembly", "event type")


@check(survives={"delay", "reorder", "duplicate"})
async def dataclasses_and_typed_dicts_arrive_as_they_were(subject: Subject) -> None:
    """A dataclass and a TypedDict arrive equal in their types."""
    equal((await carry(subject, Point(3))).decode(Point), Point(3), "dataclass")
    address = Address(street="Main", number=5)
    equal((await carry(subject, address)).decode(Address), address, "TypedDict")


@check(survives={"delay", "reorder", "duplicate"})
async def values_without_a_class_arrive_as_they_were(subject: Subject) -> None:
    """None, booleans, lists and objects, also empty and nested ones, arrive equal."""
    values: list[Any] = [
        None,
        True,
        False,
        [],
        {},
        [1, [2, [3, {"four": [None]}]]],
        {"": "", "a.b": {"ключ": [True, None, "🧩"]}},
    ]
    equal((await carry(subject, values)).data, values, "values")
    for value in values[:5]:
        equal((await carry(subject, value)).data, value, f"{value!r} alone")


@check(survives={"delay", "reorder", "duplicate"})
async def numbers_arrive_exactly(subject: Subject) -> None:
    """Integers of 64 bits and floats arrive with every bit, and keep being what they are."""
    numbers = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, -0.0, 1e308, 5e-324, 1.5]
    arrived = (await carry(subject, numbers)).decode(list[int | float])
    equal([repr(n) for n in arrived], [repr(n) for n in numbers], "numbers")


@check(survives={"delay", "reorder", "duplicate"})
async def text_arrives_as_text(subject: Subject) -> None:
    """Text arrives equal: empty, with escapes, and with characters beyond the basic plane."""
    for text in ("", 'quotes " and \\ and \n', "e\u0301 é 日本 🧩 \u2028", "null", "{}"):
        message = await carry(subject, text)
        equal(message.data, text, "text")
        equal(message.decode(str), text, "text as str")


@check(survives={"delay", "reorder", "duplicate"})
async def bytes_arrive_as_bytes(subject: Subject) -> None:
    """Octets arrive equal, also none at all, and whatever their media type."""
    for octets in (b"", bytes(range(256)), b"\xff\xfe"):
        message = await carry(subject, octets)
        equal(message.data, octets, "octets")
        equal(message.envelope.datacontenttype, "application/octet-stream", "media type")
    image = await carry(subject, b"\x89PNG", datacontenttype="image/png")
    equal((image.data, image.envelope.datacontenttype), (b"\x89PNG", "image/png"), "image")


@check(survives={"delay", "reorder", "duplicate"})
async def large_payloads_arrive_whole(subject: Subject) -> None:
    """A quarter of a mebibyte arrives equal, as octets and as a list."""
    octets = bytes(range(256)) * 1024
    that((await carry(subject, octets)).data == octets, "256 KiB of octets arrived changed")
    numbers = list(range(30_000))
    that((await carry(subject, numbers)).data == numbers, "30,000 numbers arrived changed")


@check(survives={"delay", "reorder", "duplicate"})
async def protobuf_messages_arrive_as_they_were(subject: Subject) -> None:
    """A protobuf message arrives equal, with its type URL as schema and its name as type."""
    message = await carry(subject, StringValue(value="héllo"))
    equal(message.decode(StringValue), StringValue(value="héllo"), "message")
    equal(message.type, "google.protobuf.StringValue", "event type")
    schema = message.envelope.dataschema or ""
    that(schema.endswith("/google.protobuf.StringValue"), f"the schema is {schema!r}")


@check(survives={"delay", "reorder", "duplicate"})
async def no_payload_stays_no_payload(subject: Subject) -> None:
    """A message that was published without a payload has none, and no media type."""
    message = await carry(subject, UNSET)
    equal(message.data, None, "payload")
    equal(message.envelope.datacontenttype, None, "media type")
    with raises(DecodeError, "decoding what is not there"):
        message.decode(Point)


@check(survives={"delay", "reorder"})
async def handlers_get_the_type_that_they_ask_for(subject: Subject) -> None:
    """A handler's payload comes in the type of its annotation, beside the message itself."""
    topic = subject.topic("points")
    listener, seen = subject.bus(), Seen[tuple[Point, str]]()

    @listener.subscribe(topic)
    async def handle(point: Point, message: Message) -> None:
        seen.add((point, message.topic))

    async with listener, subject.publisher() as sender:
        await sender.publish(topic, Point(1, 2))
        equal((await seen.reach(1))[0], (Point(1, 2), topic), "payload and topic")
        await sender.publish(topic, {"x": 5, "more": "is ignored"})
        equal((await seen.reach(2))[-1], (Point(5), topic), "a payload of another class")


@check(survives={"delay", "reorder", "duplicate"})
async def what_does_not_fit_names_topic_type_and_field(subject: Subject) -> None:
    """A payload that is no such type gives a DecodeError with topic, event type and field."""
    message = await carry(subject, {"parts": [{"name": "a"}, {"name": 5}]}, type="Wrong")

    class Box(Struct):
        parts: list[Part]

    with raises(DecodeError, "decoding what does not fit") as caught:
        message.decode(Box)
    error = caught.error
    equal(
        (error.reason, error.topic, error.type, error.field),
        ("payload", message.topic, "Wrong", "$.parts[1].name"),
        "reason, topic, type and field",
    )


@check()
async def what_has_no_form_is_refused_to_its_publisher(subject: Subject) -> None:
    """A payload or attribute that cannot be sent raises EncodeError, and nothing is published."""
    topic = subject.topic("refused")
    async with subject.publisher() as bus, bus.subscribe(topic) as messages:
        for options in ({"priority": 10}, {"subject": "a\nb"}, {"time": "noon"}):
            with raises(EncodeError, f"publish with {options}"):
                await bus.publish(topic, 1, **options)  # pyright: ignore[reportArgumentType]
        for extension in ({"Bad-Name": 1}, {"number": 2**31}, {"id": "x"}):
            with raises(EncodeError, f"publish with extension {extension}"):
                await bus.publish(topic, 1, extensions=extension)
        await bus.publish(topic, "good")
        [message] = await take(messages, 1)
        equal(message.data, "good", "the first message that arrives")
