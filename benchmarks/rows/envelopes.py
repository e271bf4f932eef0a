"""Envelopes as bytes: against the official SDK, and against the library that each codec stands on.

Every contender takes the same Python values in and gives them back: the attributes below, and the
payload as an `Order`. Each proves it once before it runs. Bare protobuf alone has its time in
nanoseconds, since its own way from text and back would take as long as all the rest.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import cbor2
import msgspec
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from msgspec import Struct

from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.rows.protobuf_event import make_event_class
from hms_bus import Envelope
from hms_bus.plugins import get_codec

SDK = "CloudEvents SDK"

ID = "01936f2b-7c44-7a10-9d2e-5b1f0c8e6a33"
SOURCE = "/agents/shop/5b1f0c8e"
TYPE = "Order"
TIME = "2026-01-31T12:00:00.123456Z"
TIME_NS = 1_769_860_800_123_456_000
CONTENT_TYPE = "application/json"
CORRELATION = "01936f2b-7c40-7a01-8c11-0d2f4b6a8c1e"
CAUSE = "01936f2b-7c42-7b55-a1b2-c3d4e5f60718"
KEY = "c-20391"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOPS = 2

VALUES = (
    ID,
    SOURCE,
    TYPE,
    TOPIC,
    TIME,
    CONTENT_TYPE,
    CORRELATION,
    CAUSE,
    KEY,
    TRACE,
    HOPS,
    ORDER,
)


VALUES_OF_PROTOBUF = tuple(TIME_NS if value is TIME else value for value in VALUES)


class BareEnvelope(Struct, frozen=True, kw_only=True, gc=False, tag_field="specversion", tag="1.0"):
    """What one would write with msgspec alone: exactly these fields, and a payload of one type."""

    id: str
    source: str
    type: str
    topic: str
    time: str
    datacontenttype: str
    correlationid: str
    causationid: str
    partitionkey: str
    traceparent: str
    hops: int
    data: Order


def _envelope() -> Envelope:
    return Envelope(
        id=ID,
        source=SOURCE,
        type=TYPE,
        topic=TOPIC,
        time=TIME,
        datacontenttype=CONTENT_TYPE,
        correlationid=CORRELATION,
        causationid=CAUSE,
        partitionkey=KEY,
        traceparent=TRACE,
        hops=HOPS,
        data=ORDER,
    )


def make_ours(name: str) -> Callable[[], object]:
    """Build an `Envelope`, encode, decode, and read everything back."""
    codec = get_codec(name)
    encode, decode = codec.encode, codec.decode

    def round_trip() -> object:
        e = decode(encode(_envelope()))
        return (
            e.id,
            e.source,
            e.type,
            e.topic,
            e.time,
            e.datacontenttype,
            e.correlationid,
            e.causationid,
            e.partitionkey,
            e.traceparent,
            e.hops,
            e.decode(Order),
        )

    return round_trip


def make_msgspec() -> Callable[[], object]:
    """Do the same with a msgspec Struct of these fields."""
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(BareEnvelope).decode

    def round_trip() -> object:
        envelope = BareEnvelope(
            id=ID,
            source=SOURCE,
            type=TYPE,
            topic=TOPIC,
            time=TIME,
            datacontenttype=CONTENT_TYPE,
            correlationid=CORRELATION,
            causationid=CAUSE,
            partitionkey=KEY,
            traceparent=TRACE,
            hops=HOPS,
            data=ORDER,
        )
        e = decode(encode(envelope))
        return (
            e.id,
            e.source,
            e.type,
            e.topic,
            e.time,
            e.datacontenttype,
            e.correlationid,
            e.causationid,
            e.partitionkey,
            e.traceparent,
            e.hops,
            e.data,
        )

    return round_trip


def make_cbor2() -> Callable[[], object]:
    """Do the same with a dict and cbor2; msgspec makes the payload's type of its dict."""
    convert = msgspec.convert

    def round_trip() -> object:
        document = cbor2.dumps(
            {
                "specversion": "1.0",
                "id": ID,
                "source": SOURCE,
                "type": TYPE,
                "topic": TOPIC,
                "time": TIME,
                "datacontenttype": CONTENT_TYPE,
                "correlationid": CORRELATION,
                "causationid": CAUSE,
                "partitionkey": KEY,
                "traceparent": TRACE,
                "hops": HOPS,
                "data": {
                    "number": ORDER.number,
                    "customer": ORDER.customer,
                    "item": ORDER.item,
                    "quantity": ORDER.quantity,
                    "note": ORDER.note,
                },
            }
        )
        e = cbor2.loads(document)
        return (
            e["id"],
            e["source"],
            e["type"],
            e["topic"],
            e["time"],
            e["datacontenttype"],
            e["correlationid"],
            e["causationid"],
            e["partitionkey"],
            e["traceparent"],
            e["hops"],
            convert(e["data"], Order),
        )

    return round_trip


def make_protobuf() -> Callable[[], object]:
    """Do the same with the CloudEvent message; the payload is JSON text in it, as ours is."""
    event = make_event_class()
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(Order).decode

    def round_trip() -> object:
        message = event(id=ID, source=SOURCE, spec_version="1.0", type=TYPE)
        attributes = message.attributes
        attributes["topic"].ce_string = TOPIC
        attributes["time"].ce_timestamp.FromNanoseconds(TIME_NS)
        attributes["datacontenttype"].ce_string = CONTENT_TYPE
        attributes["correlationid"].ce_string = CORRELATION
        attributes["causationid"].ce_string = CAUSE
        attributes["partitionkey"].ce_string = KEY
        attributes["traceparent"].ce_string = TRACE
        attributes["hops"].ce_integer = HOPS
        message.binary_data = encode(ORDER)
        e = event.FromString(message.SerializeToString())
        a = e.attributes
        return (
            e.id,
            e.source,
            e.type,
            a["topic"].ce_string,
            a["time"].ce_timestamp.ToNanoseconds(),
            a["datacontenttype"].ce_string,
            a["correlationid"].ce_string,
            a["causationid"].ce_string,
            a["partitionkey"].ce_string,
            a["traceparent"].ce_string,
            a["hops"].ce_integer,
            decode(e.binary_data),
        )

    return round_trip


def make_ours_ready() -> Callable[[], object]:
    """Encode an envelope that is there already, decode it and its payload, as the SDK does."""
    codec = get_codec("json")
    envelope = _envelope()

    def round_trip() -> object:
        return codec.decode(codec.encode(envelope)).decode(Order)

    return round_trip


def make_sdk() -> Callable[[], object]:
    """Write and read an event with the SDK's JSON format; it gives the payload as a dict."""
    sdk = JSONFormat()
    event = CloudEvent(
        {
            "id": ID,
            "source": SOURCE,
            "type": TYPE,
            "specversion": "1.0",
            "topic": TOPIC,
            "time": datetime.fromisoformat(TIME),
            "datacontenttype": CONTENT_TYPE,
            "correlationid": CORRELATION,
            "causationid": CAUSE,
            "partitionkey": KEY,
            "traceparent": TRACE,
            "hops": HOPS,
        },
        msgspec.to_builtins(ORDER),
    )

    def round_trip() -> object:
        return sdk.read(None, sdk.write(event)).get_data()

    return round_trip


@asynccontextmanager
async def open_round_trip(
    make: Callable[[], Callable[[], object]], expected: object
) -> AsyncGenerator[Run]:
    """Run round trips that must give `expected`."""
    round_trip = make()
    assert round_trip() == expected

    async def work(operations: int) -> None:
        for _ in range(operations):
            round_trip()

    yield timed(work)


def _contender(name: str, make: Callable[[], Callable[[], object]], expected: object) -> Contender:
    return Contender(name=name, open=partial(open_round_trip, make, expected))


def _codec_race(
    codec: str,
    bare: str,
    make_bare: Callable[[], Callable[[], object]],
    expected: object = VALUES,
) -> Race:
    peer = f"bare {bare}, same fields"
    return Race(
        name=f"codec-{codec}",
        title=f"envelope {codec}: build, encode, decode, read",
        unit="envelopes",
        ours=_contender("hms-bus", partial(make_ours, codec), VALUES),
        peers=(_contender(peer, make_bare, expected),),
        targets=(Target(against=peer, limit=1.5, direction="at most"),),
    )


ROWS = (
    Race(
        name="sdk",
        title="envelope JSON: encode, decode",
        unit="envelopes",
        ours=_contender("hms-bus", make_ours_ready, ORDER),
        peers=(_contender(SDK, make_sdk, msgspec.to_builtins(ORDER)),),
        targets=(Target(against=SDK, limit=10),),
    ),
    _codec_race("json", "msgspec", make_msgspec),
    _codec_race("cbor", "cbor2", make_cbor2),
    _codec_race("protobuf", "protobuf", make_protobuf, VALUES_OF_PROTOBUF),
)
