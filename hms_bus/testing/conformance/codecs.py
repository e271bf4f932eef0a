"""Checks: a codec by itself, without any transport."""

import random
import re
from dataclasses import replace
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue
from msgspec import UNSET

from hms_bus.attributes import new_envelope, to_values
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError
from hms_bus.testing.conformance.envelopes import SETTABLE
from hms_bus.testing.conformance.payloads import ASSEMBLY, Address, Assembly, Point
from hms_bus.testing.conformance.probes import equal, raises, that
from hms_bus.testing.conformance.subject import Subject
from hms_bus.testing.conformance.suite import checks_of

check = checks_of("codec")


def _envelope(subject: Subject, data: Any = UNSET, /, **attributes: Any) -> Envelope:
    own: dict[str, Any] = {"source": subject.source}
    return new_envelope(subject.topic("a"), data, **(own | attributes))


def _round_trip(subject: Subject, envelope: Envelope) -> Envelope:
    document = subject.codec.encode(envelope)
    that(type(document) is bytes, f"encode returned {type(document).__name__}, not bytes")
    return subject.codec.decode(document)


@check()
async def a_codec_says_what_it_writes(subject: Subject) -> None:
    """A codec has the name it is found by, and the media type of one event (RFC 6838)."""
    codec = subject.codec
    that(re.fullmatch(r"[a-z][a-z0-9_-]*", codec.name), f"the name is {codec.name!r}")
    media_type = r"[a-z]+/[a-z0-9!#$&^_.+-]+"
    that(re.fullmatch(media_type, codec.content_type), f"media type {codec.content_type!r}")


@check()
async def a_minimal_envelope_survives(subject: Subject) -> None:
    """The required attributes and the topic come back alone when there is nothing else."""
    envelope = Envelope(id="1", source="/a", type="t", topic=subject.topic("a"))
    equal(to_values(_round_trip(subject, envelope)), to_values(envelope), "attributes")
    that(_round_trip(subject, envelope).data is UNSET, "a payload has come from nowhere")


@check()
async def all_attributes_survive(subject: Subject) -> None:
    """Every attribute comes back with its value."""
    own: dict[str, Any] = {"hops": 3, "credit": 64, "sequence": "0000000007"}
    envelope = _envelope(subject, {"n": 1}, **SETTABLE, **own)
    equal(to_values(_round_trip(subject, envelope)), to_values(envelope), "attributes")


@check()
async def extreme_attributes_survive(subject: Subject) -> None:
    """Integers at their bounds and long text come back."""
    for changes in (
        {"severitynumber": -(2**31), "priority": 0, "hops": 0, "credit": 0},
        {"severitynumber": 2**31 - 1, "priority": 9, "hops": 2**31 - 1, "credit": 2**31 - 1},
        {"subject": "é" * 2000, "id": "🧩", "type": "."},
    ):
        envelope = _envelope(subject, **changes)
        equal(to_values(_round_trip(subject, envelope)), to_values(envelope), "attributes")


@check()
async def all_extensions_survive(subject: Subject) -> None:
    """Extensions come back with name, value and type: text, integers and booleans."""
    extensions = {"a": "", "b1": "é", "c": 0, "d": -(2**31), "e": True, "f": False, "z" * 20: "x"}
    found = _round_trip(subject, _envelope(subject, 1, extensions=extensions)).extensions or {}
    equal(found, extensions, "extensions")
    equal([type(found[n]) for n in extensions], [type(v) for v in extensions.values()], "types")


@check()
async def times_are_the_same_instants(subject: Subject) -> None:
    """Times come back as the same instant, to the nanosecond, whatever their offset."""
    for time in (
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.123456789Z",
        "2026-01-31T12:00:00.5+05:30",
        "1969-12-31T23:59:59.999999999-00:01",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ):
        envelope = _envelope(subject, time=time, expirytime=time)
        found = _round_trip(subject, envelope)
        equal((found.time_ns, found.expires_ns), (envelope.time_ns,) * 2, f"instant of {time}")


@check()
async def payloads_without_a_class_survive(subject: Subject) -> None:
    """Builtins come back equal, and numbers stay the kind of number that they are."""
    values: list[Any] = [
        None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e308, 5e-324,
        "", 'e\u0301 日本 🧩 \u2028 " \\ \n \x00', [], {}, [[]], {"": {"": []}},
        {"ключ": [1, "два", None, {"x": 1.5}]},
    ]  # fmt: skip
    for value in values:
        found = _round_trip(subject, _envelope(subject, value)).decode()
        equal((found, repr(found)), (value, repr(value)), "payload")


@check()
async def typed_payloads_survive(subject: Subject) -> None:
    """Structs, dataclasses and TypedDicts come back as the type that is asked for."""
    found = _round_trip(subject, _envelope(subject, ASSEMBLY))
    equal(found.decode(Assembly), ASSEMBLY, "Struct")
    point = replace(Point(1), y=-(2**40))
    equal(_round_trip(subject, _envelope(subject, point)).decode(Point), point, "dataclass")
    address = Address(street="Main", number=5)
    equal(_round_trip(subject, _envelope(subject, address)).decode(Address), address, "TypedDict")


@check()
async def octets_and_text_survive(subject: Subject) -> None:
    """Octets come back as octets, text as text, also when empty or of another media type."""
    for data in (b"", b"\x00", bytes(range(256)) * 40, "", "text", "{}", "null"):
        equal(_round_trip(subject, _envelope(subject, data)).decode(), data, "payload")
    image = _envelope(subject, b"\x89PNG", datacontenttype="image/png")
    found = _round_trip(subject, image)
    equal((found.decode(), found.datacontenttype), (b"\x89PNG", "image/png"), "image")


@check()
async def protobuf_payloads_survive(subject: Subject) -> None:
    """A protobuf message comes back equal, with its type URL."""
    message = StringValue(value="é 🧩")
    envelope = _envelope(subject, message)
    found = _round_trip(subject, envelope)
    equal(found.decode(StringValue), message, "message")
    equal(found.dataschema, envelope.dataschema, "type URL")


@check()
async def deep_payloads_survive_to_the_limit(subject: Subject) -> None:
    """64 levels of arrays come back; 100 are refused, at the latest when the payload is read."""

    def nested(levels: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(levels - 1):
            value = [value]
        return value

    equal(_round_trip(subject, _envelope(subject, nested(64))).decode(), nested(64), "64 levels")
    try:
        _round_trip(subject, _envelope(subject, nested(100))).decode()
    except (DecodeError, EncodeError):
        return
    raise AssertionError("100 levels were accepted")


@check()
async def a_decoded_envelope_can_be_sent_on(subject: Subject) -> None:
    """What was decoded encodes again to what decodes to the same."""
    for data in (UNSET, None, {"a": [1, 2.5]}, "text", b"\x00\xff", StringValue(value="x")):
        once = _round_trip(subject, _envelope(subject, data, extensions={"a": 1}))
        twice = _round_trip(subject, once)
        equal(to_values(twice), to_values(once), "attributes")
        equal(twice.decode(), once.decode(), "payload")


@check()
async def what_has_no_form_is_an_encode_error(subject: Subject) -> None:
    """A payload that cannot be written raises EncodeError, and nothing else."""
    for data in (object(), {"a": object()}, {"a": {"b": [object]}}, [StringValue(value="x")]):
        with raises(EncodeError, f"encode of {data!r}"):
            subject.codec.encode(_envelope(subject, data))


@check()
async def cut_documents_are_refused(subject: Subject) -> None:
    """A document that ends too early anywhere raises DecodeError, or is a smaller whole one."""
    document = subject.codec.encode(
        _envelope(subject, {"a": [1, "two"]}, extensions={"a": 1, "b": "x"}, priority=3)
    )
    for length in range(len(document)):
        _decode_or_refuse(subject, document[:length])


@check()
async def damaged_documents_are_refused(subject: Subject) -> None:
    """Flipped bits and random bytes raise DecodeError, or give an envelope, and nothing else."""
    chance = random.Random(7)  # noqa: S311 - the same every time, and no secret
    whole = subject.codec.encode(_envelope(subject, {"a": [1, "two"]}, extensions={"a": 1}))
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        _decode_or_refuse(subject, bytes(damaged))
        _decode_or_refuse(subject, chance.randbytes(chance.randrange(60)))


def _decode_or_refuse(subject: Subject, document: bytes) -> None:
    try:
        envelope = subject.codec.decode(document)
    except DecodeError as error:
        that(error.reason, "the error has no reason")
    except Exception as error:
        raise AssertionError(f"decode({document!r}) raised {error!r}") from error
    else:
        that(envelope.id and envelope.source and envelope.type, f"{envelope} is no envelope")
