"""The envelopes of spec/vectors, and other spellings that must be read as the same.

Written out by scripts/make_vectors.py. What a case expects is said here by hand; only the bytes
that our own writers give are computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cbor2 import CBORTag

from hms_bus.codecs._pb.cloudevents_pb2 import CloudEvent


@dataclass(frozen=True, kw_only=True)
class Case:
    """An envelope: its attributes, its data (`json`, `text` or `base64` of it), other spellings.

    `writes` names the codecs whose writers give one certain document for it.
    """

    name: str
    description: str
    attributes: Mapping[str, Any]
    data: Mapping[str, str] = field(default_factory=dict[str, str])
    writes: Sequence[str] = ("json", "cbor", "protobuf")
    decodes: Mapping[str, Sequence[bytes]] = field(default_factory=dict[str, Sequence[bytes]])


MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
HEAD = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"'


def with_(**attributes: Any) -> dict[str, Any]:
    """Return the required attributes with others."""
    return {**MINIMAL, **attributes}


def json_(rest: bytes) -> bytes:
    """Return a JSON document: the required members, and `rest` behind them."""
    return HEAD + rest + b"}"


def cbor_(**members: Any) -> bytes:
    """Return a CBOR document: the required members, and `members` behind or instead of them."""
    return cbor2.dumps(with_(**members))


def protobuf_(**fields: Any) -> bytes:
    """Return a protobuf document: the required fields, and `fields` behind or instead of them."""
    required: dict[str, Any] = {"id": "1", "source": "/s", "spec_version": "1.0", "type": "t"}
    return CloudEvent(**required | fields).SerializeToString(deterministic=True)


def slot(name: str, **value: Any) -> dict[str, Any]:
    """Return the keyword arguments of `protobuf_` for one attribute."""
    return {"attributes": {name: value}}


CONTEXT: Mapping[str, Any] = {
    "specversion": "1.0",
    "id": "019c1373-1c80-7000-8000-000000000001",
    "source": "/agents/billing",
    "type": "com.acme.order.created",
    "topic": "orders.eu.created",
    "time": "2026-01-31T12:00:00.123456Z",
    "subject": "order/17",
    "datacontenttype": "application/json",
    "dataschema": "https://acme.example/order.json",
}

EXTENSIONS: Mapping[str, Any] = {
    "correlationid": "019c1373-1c80-7000-8000-000000000001",
    "causationid": "019c1373-1c80-7000-8000-000000000002",
    "partitionkey": "customer-5",
    "expirytime": "2026-01-31T12:00:30.000000Z",
    "sequence": "0000000001",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "dataref": "https://acme.example/blobs/17",
    "authtype": "service_account",
    "authid": "billing@acme.example",
    "severitynumber": 9,
    "priority": 4,
    "hops": 3,
    "credit": 16,
}


def attributes() -> Iterator[Case]:
    """Yield cases of attributes."""
    yield Case(
        name="minimal",
        description="The required attributes and nothing else.",
        attributes=MINIMAL,
        decodes={
            "json": [
                b'{"type":"t","source":"/s","id":"1","specversion":"1.0"}',
                b' {\t"specversion" : "1.0",\r\n"id":"1","source":"/s","type":"t" } \n',
                b'{"specversion":"1.0","id":"1","source":"\\/s","type":"\\u0074"}',
                json_(b',"subject":null,"time":null,"hops":null,"myext":null,"data_base64":null'),
            ],
            "cbor": [
                b"\xd9\xd9\xf7" + cbor2.dumps(MINIMAL),
                cbor2.dumps({name: MINIMAL[name] for name in reversed(MINIMAL)}),
                cbor2.dumps(MINIMAL, indefinite_containers=True),
                b"\xa4\x78\x0bspecversion\x7f\x611\x62.0\xff\x62id\x611\x66source\x62/s\x64type\x61t",
                cbor_(subject=None, time=None, hops=None, myext=None),
            ],
            "protobuf": [
                b"\x22\x01t\x1a\x031.0\x12\x02/s\x0a\x011",
                b"\x0a\x012" + protobuf_(),
                protobuf_() + b"\xfa\x07\x03abc",
            ],
        },
    )
    yield Case(
        name="context",
        description="All attributes of CloudEvents 1.0, and the topic.",
        attributes=CONTEXT,
        data={"json": '{"number":17}'},
        decodes={
            "cbor": [cbor2.dumps({**CONTEXT, "data": '{"number":17}'})],
            "protobuf": [
                _context(text_data='{"number":17}'),
                _context(binary_data=b'{"number":17}'),
            ],
        },
    )
    yield Case(
        name="extensions",
        description="All extensions that the bus knows.",
        attributes=with_(topic="orders.eu.created", **EXTENSIONS),
    )
    for name, low, high in (
        ("severitynumber", -(2**31), 2**31 - 1),
        ("priority", 0, 9),
        ("hops", 0, 2**31 - 1),
        ("credit", 0, 2**31 - 1),
        ("myext", -(2**31), 2**31 - 1),
    ):
        for end, value in (("lowest", low), ("highest", high)):
            yield Case(
                name=f"{name}-{end}",
                description=f"{name} at the {end} value that it may have.",
                attributes=with_(**{name: value}),
            )
    yield Case(
        name="unknown-extensions",
        description="Extensions that no reader knows are kept, with their types.",
        attributes=with_(
            acme="text", empty="", number=-5, zero=0, yes=True, no=False, x0123456789012345678="20"
        ),
    )
    yield Case(
        name="binary-extension",
        description="Octets as an attribute; in JSON they are base64 and come back as such.",
        attributes=with_(signature={"base64": "AP/+"}),
    )
    yield Case(
        name="unicode-attributes",
        description="Astral and combining characters, right to left, quotes, backslash, spaces.",
        attributes=with_(
            subject='😀 e\u0301 שלום "quoted" back\\slash / \u2028',
            partitionkey="ключ",
            acme="\U00010348\u00a0",
        ),
    )
    yield Case(
        name="longest-attribute",
        description="An attribute of 4096 bytes in UTF-8.",
        attributes=with_(subject="é" * 2048),
    )
    yield Case(
        name="kinds-of-protobuf-values",
        description="An attribute may come in another kind of text than we write.",
        attributes=with_(
            subject="s", dataschema="https://acme.example/x", time="2026-01-31T12:00:00.500000Z"
        ),
        decodes={
            "protobuf": [
                protobuf_(
                    attributes={
                        "subject": {"ce_uri_ref": "s"},
                        "dataschema": {"ce_string": "https://acme.example/x"},
                        "time": {"ce_string": "2026-01-31T12:00:00.5Z"},
                    }
                )
            ],
            "cbor": [
                cbor_(
                    subject=CBORTag(32, "s"),
                    dataschema="https://acme.example/x",
                    time="2026-01-31T12:00:00.5Z",
                ),
            ],
        },
    )


def _context(**data: Any) -> bytes:
    texts = ("topic", "subject", "datacontenttype", "dataschema", "time")
    return protobuf_(
        id=CONTEXT["id"],
        source=CONTEXT["source"],
        type=CONTEXT["type"],
        attributes={name: {"ce_string": CONTEXT[name]} for name in texts},
        **data,
    )


JSON_DATA: Mapping[str, tuple[str, str]] = {
    "null": ("null", "Null, which is not the same as no data."),
    "true": ("true", "A truth value."),
    "false": ("false", "A truth value."),
    "zero": ("0", "Zero."),
    "empty-object": ("{}", "An object without members."),
    "empty-array": ("[]", "An array without elements."),
    "empty-string": ('""', "A JSON string without characters."),
    "string": ('"text"', "A JSON string, which is not text/plain."),
    "nested": (
        '{"a":{"b":[1,[2,[]],{"c":null}],"data":"x"},"data":{"id":"2"},"":0}',
        "Objects and arrays, and members that are called like attributes.",
    ),
    "int64-lowest": ("-9223372036854775808", "The lowest signed 64-bit integer."),
    "int64-highest": ("9223372036854775807", "The highest signed 64-bit integer."),
    "uint64-highest": ("18446744073709551615", "The highest unsigned 64-bit integer."),
    "integers": ("[0,23,24,255,256,65535,65536,4294967295,4294967296,-1,-24,-25]", "Widths."),
    "unicode": (
        '{"astral":"😀𐍈","combining":"e\u0301","rtl":"שלום","separators":"\u2028\u2029","é":1}',
        "Unicode in values and names, not normalized.",
    ),
    "controls": ('"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/"', "Escapes; data may hold controls."),
    "delete": ('"\x7f\x80\ufffe"', "Characters that an attribute may not have, data may."),
    "key-like-member": ('"\\"data\\":{\\"id\\":\\"2\\"}"', "A string that looks like a member."),
    "64-levels": ("[" * 64 + "]" * 64, "As deep as data may be."),
    "64-levels-of-objects": ('{"a":' * 63 + "{}" + "}" * 63, "As deep as data may be."),
}

FLOATS: Mapping[str, str] = {
    "half": "0.5",
    "tenth": "0.1",
    "minus-zero": "-0.0",
    "largest": "1e308",
    "smallest": "5e-324",
    "third": "0.3333333333333333",
    "whole": "1.0",
}


def payloads() -> Iterator[Case]:
    """Yield cases of data."""
    json_type = "application/json"
    for name, (text, description) in JSON_DATA.items():
        yield Case(
            name=f"data-{name}",
            description=description,
            attributes=with_(datacontenttype=json_type),
            data={"json": text},
        )
    for name, text in FLOATS.items():
        binary = cbor2.dumps(float(text))
        wire = cbor2.dumps({**with_(datacontenttype="application/cbor"), "data": 0})[:-1] + binary
        yield Case(
            name=f"float-{name}",
            description="A double; how many digits a writer gives it is its own affair.",
            attributes=with_(datacontenttype=json_type),
            data={"json": text},
            writes=("cbor",),
            decodes={
                "json": [
                    json_(b',"datacontenttype":"application/json","data":' + spelling)
                    for spelling in _spellings(text)
                ],
                "cbor": [wire],
                "protobuf": [
                    protobuf_(**_typed(json_type), binary_data=spelling)
                    for spelling in _spellings(text)
                ],
            },
        )
    yield from _media_types()
    yield from _octets()
    yield from _cbor_items()


def _spellings(text: str) -> list[bytes]:
    number = float(text)
    return [text.encode(), f"{number:.17e}".encode(), f"{number:.16E}".encode()]


def _typed(content_type: str) -> dict[str, Any]:
    return slot("datacontenttype", ce_string=content_type)


def _media_types() -> Iterator[Case]:
    yield Case(
        name="text",
        description="Text in a media type of its own.",
        attributes=with_(datacontenttype="text/plain"),
        data={"text": 'line 1\nline 2 "é" 😀'},
    )
    yield Case(
        name="text-empty",
        description="Text without characters.",
        attributes=with_(datacontenttype="text/plain"),
        data={"text": ""},
    )
    yield Case(
        name="text-xml",
        description="Text of a structured media type that is not JSON stays text.",
        attributes=with_(datacontenttype="application/xml"),
        data={"text": '<much wow="xml"/>'},
    )
    yield Case(
        name="data-json-vendor-type",
        description="A media type that ends in +json: JSON text in CBOR, unparsed.",
        attributes=with_(datacontenttype="application/vnd.acme+json"),
        data={"json": '{"a":[1,2]}'},
    )
    yield Case(
        name="data-json-type-with-parameters",
        description="A JSON media type in capitals and with parameters.",
        attributes=with_(datacontenttype="Application/JSON; charset=utf-8"),
        data={"json": "[1]"},
    )
    yield Case(
        name="data-json-without-type",
        description="JSON data whose media type is not named has application/json.",
        attributes=MINIMAL,
        data={"json": '{"a":1}'},
        decodes={
            "cbor": [cbor_(data={"a": 1}), cbor_(datacontenttype="application/json", data={"a": 1})]
        },
    )
    yield Case(
        name="data-text-without-type",
        description="Text whose media type is not named is a JSON string.",
        attributes=MINIMAL,
        data={"json": '"x"'},
        decodes={"protobuf": [protobuf_(text_data="x")], "cbor": [cbor_(data="x")]},
    )
    yield Case(
        name="no-data",
        description="A media type, but no data.",
        attributes=with_(datacontenttype="application/json"),
    )


def _octets() -> Iterator[Case]:
    for name, octets, content_type in (
        ("octets", "AAEC/f7/", "application/octet-stream"),
        ("octets-empty", "", "application/octet-stream"),
        ("octets-image", "iVBORw0KGgo=", "image/png"),
        ("octets-cbor", "oWFhAQ==", "application/cbor"),
        ("octets-message-without-type-url", "CgF4", "application/protobuf"),
    ):
        yield Case(
            name=name,
            description=f"Octets of media type {content_type}.",
            attributes=with_(datacontenttype=content_type),
            data={"base64": octets},
        )
    yield Case(
        name="octets-without-type",
        description="Octets whose media type is not named.",
        attributes=MINIMAL,
        data={"base64": "AAEC"},
    )
    url = "type.googleapis.com/google.protobuf.StringValue"
    yield Case(
        name="protobuf-message",
        description="A protobuf message: an Any in protobuf, octets elsewhere.",
        attributes=with_(datacontenttype="application/protobuf", dataschema=url),
        data={"base64": "CgF4"},
        decodes={
            "protobuf": [
                protobuf_(proto_data={"type_url": url, "value": b"\x0a\x01x"}),
                protobuf_(
                    **_typed("application/protobuf"),
                    proto_data={"type_url": url, "value": b"\x0a\x01x"},
                ),
            ]
        },
    )
    yield Case(
        name="data-json-as-octets",
        description="JSON text that came as octets is JSON all the same.",
        attributes=with_(datacontenttype="application/json"),
        data={"json": '{"a":1}'},
        writes=(),
        decodes={
            "json": [json_(b',"datacontenttype":"application/json","data_base64":"eyJhIjoxfQ=="')],
            "cbor": [cbor_(datacontenttype="application/json", data=b'{"a":1}')],
            "protobuf": [protobuf_(**_typed("application/json"), text_data=' {"a": 1} ')],
        },
    )


def _cbor_items() -> Iterator[Case]:
    typed = "application/cbor"
    for name, text, item in (
        ("text-time", '"2026-01-31T12:00:00Z"', CBORTag(0, "2026-01-31T12:00:00Z")),
        ("epoch-time", '"2026-01-31T12:00:00.000000Z"', CBORTag(1, 1769860800)),
        ("epoch-time-fraction", '"2026-01-31T12:00:00.500000Z"', CBORTag(1, 1769860800.5)),
        ("uri", '"https://acme.example"', CBORTag(32, "https://acme.example")),
        ("uuid", '"00000000-0000-0000-0000-000000000001"', CBORTag(37, bytes(15) + b"\x01")),
        ("bytes", '["AAEC"]', [b"\x00\x01\x02"]),
    ):
        yield Case(
            name=f"cbor-{name}",
            description="A CBOR item that JSON writes as text.",
            attributes=with_(datacontenttype="application/json"),
            data={"json": text},
            writes=(),
            decodes={"cbor": [cbor_(datacontenttype=typed, data=item), cbor_(data=item)]},
        )
    for name, item in (("half", b"\xf9\x3e\x00"), ("single", b"\xfa\x3f\xc0\x00\x00")):
        wire = cbor_(datacontenttype=typed, data=0)[:-1] + item
        yield Case(
            name=f"cbor-{name}-precision",
            description="A shorter float.",
            attributes=with_(datacontenttype="application/json"),
            data={"json": "1.5"},
            writes=(),
            decodes={"cbor": [wire]},
        )


def timestamps() -> Iterator[Case]:
    """Yield cases of times; equal are those that name the same instant."""
    for name, time, description in (
        ("utc", "2026-01-31T12:00:00Z", "Whole seconds in UTC."),
        ("microseconds", "2026-01-31T12:00:00.000001Z", "As we write it."),
        ("nanoseconds", "2026-01-31T12:00:00.123456789Z", "As fine as protobuf has it."),
        ("trailing-zeros", "2026-01-31T12:00:00.120Z", "Milliseconds."),
        ("offset-east", "2026-01-31T17:30:00+05:30", "12:00 in UTC."),
        ("offset-west", "2026-01-31T00:00:00.5-11:59", "11:59 in UTC."),
        ("offset-unknown", "2026-01-31T12:00:00-00:00", "UTC, local offset not known."),
        ("offset-crosses-a-year", "2025-12-31T23:30:00-01:00", "2026 in UTC."),
        ("lower-case", "2026-01-31t12:00:00z", "RFC 3339 leaves the case open."),
        ("leap-second", "2016-12-31T23:59:60Z", "Counts as the second behind it."),
        ("leap-day", "2024-02-29T00:00:00Z", "A day of a leap year."),
        ("epoch", "1970-01-01T00:00:00Z", "Where POSIX time begins."),
        ("before-epoch", "1969-12-31T23:59:59.999999999Z", "One nanosecond earlier."),
        ("first", "0001-01-01T00:00:00Z", "The first instant that there is."),
        ("last", "9999-12-31T23:59:59.999999999Z", "The last one."),
    ):
        yield Case(
            name=f"time-{name}",
            description=description,
            attributes=with_(time=time, expirytime=time),
        )
    yield Case(
        name="time-beyond-nanoseconds",
        description="Digits past the ninth do not count.",
        attributes=with_(time="2026-01-31T12:00:00.123456789Z"),
        writes=(),
        decodes={
            "json": [json_(b',"time":"2026-01-31T12:00:00.1234567899999Z"')],
            "cbor": [cbor_(time=CBORTag(0, "2026-01-31T12:00:00.1234567899999Z"))],
        },
    )
    yield Case(
        name="time-of-an-epoch",
        description="CBOR seconds since 1970.",
        attributes=with_(time="2026-01-31T12:00:00Z", expirytime="1969-12-31T23:59:58.5Z"),
        writes=(),
        decodes={"cbor": [cbor_(time=CBORTag(1, 1769860800), expirytime=CBORTag(1, -1.5))]},
    )
