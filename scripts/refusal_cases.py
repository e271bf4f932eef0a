"""The documents of spec/vectors that every reader must refuse, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cbor2
from cbor2 import CBORSimpleValue, CBORTag
from vector_cases import HEAD, MINIMAL, cbor_, json_, protobuf_, slot

Parts = Sequence[tuple[bytes, int]]
"""A document in parts, with the number of times that each is repeated."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A document that must be refused for `reason`; `attribute` is the one at fault, if one is."""

    codec: str
    name: str
    description: str
    reason: str
    document: bytes | Parts
    attribute: str | None = None


Row = tuple[str, str, str | None, bytes | Parts, str]
"""Name, reason, attribute, document, description."""


def refusals() -> Iterator[Refusal]:
    """Yield all documents to refuse."""
    for codec, rows in (("json", _json()), ("cbor", _cbor()), ("protobuf", _protobuf())):
        for name, reason, attribute, document, description in rows:
            yield Refusal(
                codec=codec,
                name=name,
                description=description,
                reason=reason,
                document=document,
                attribute=attribute,
            )


def _json() -> Iterator[Row]:
    yield from _json_syntax()
    yield from _json_members()
    yield from _json_attributes()


def _json_syntax() -> Iterator[Row]:
    whole = json_(b',"data":{"a":[1,"b"]}')
    deep = (HEAD + b',"data":', 1), (b"[", 100), (b"]", 100), (b"}", 1)
    objects = (HEAD + b',"data":', 1), (b'{"a":', 100), (b"0", 1), (b"}", 101)
    abyss = (HEAD + b',"data":', 1), (b"[", 1_000_000), (b"]", 1_000_000), (b"}", 1)
    giant = (HEAD + b',"data":"', 1), (b"a", 16 * 1024 * 1024), (b'"}', 1)
    yield "empty", "truncated", None, b"", "Nothing at all."
    yield "cut-in-data", "truncated", None, whole[:-6], "The document ends inside its data."
    yield "cut-in-a-name", "truncated", None, HEAD[:30], "The document ends inside a name."
    yield "cut-behind-data", "truncated", None, whole[:-1], "The last brace is missing."
    yield "trailing-document", "trailing-bytes", None, whole + whole, "Two documents."
    yield "trailing-nul", "trailing-bytes", None, whole + b"\x00", "A NUL behind the document."
    yield "array", "wrong-type", None, b"[" + whole + b"]", "A batch is no event."
    yield "number", "wrong-type", None, b"17", "A number is no event."
    yield "text", "malformed", None, b"hello", "No JSON."
    yield "byte-order-mark", "malformed", None, b"\xef\xbb\xbf" + whole, "RFC 8259, section 8.1."
    yield "comma-behind-last", "malformed", None, HEAD + b",}", "A comma behind the last member."
    yield "single-quotes", "malformed", None, b"{'id':'1'}", "Strings have double quotes."
    yield "comment", "malformed", None, HEAD + b"/**/}", "JSON has no comments."
    yield "data-not-a-number", "malformed", None, json_(b',"data":NaN'), "JSON has no NaN."
    yield "data-leading-zero", "malformed", None, json_(b',"data":01'), "No number of JSON."
    yield "data-bad-escape", "malformed", None, json_(b',"data":"\\q"'), "No escape of JSON."
    yield "data-raw-control", "malformed", None, json_(b',"data":"\x01"'), "Must be escaped."
    yield "data-lone-surrogate", "malformed", None, json_(b',"data":"\\ud800"'), "No character."
    yield "data-invalid-utf8", "invalid-utf8", None, json_(b',"data":"\xff"'), "No UTF-8 in data."
    yield "utf8-surrogate", "invalid-utf8", None, json_(b',"data":"\xed\xa0\x80"'), "No UTF-8."
    yield "utf8-overlong", "invalid-utf8", None, json_(b',"data":"\xc0\xaf"'), "No UTF-8."
    yield "invalid-utf8", "invalid-utf8", None, json_(b',"subject":"\xff"'), "No UTF-8."
    yield "100-deep-arrays", "too-deep", None, deep, "The limit is 64 levels."
    yield "100-deep-objects", "too-deep", None, objects, "The limit is 64 levels."
    yield "million-deep", "too-deep", None, abyss, "Must not end the process."
    yield "too-large", "too-large", None, giant, "The limit is 16 MiB."


def _json_members() -> Iterator[Row]:
    twice = "duplicate-key"
    yield "id-twice", twice, "id", json_(b',"id":"2"'), "Which one counts would be open."
    yield "same-id-twice", twice, "id", json_(b',"id":"1"'), "Even when both are equal."
    yield "specversion-twice", twice, "specversion", json_(b',"specversion":"1.0"'), "Twice."
    yield "escaped-twice", twice, "id", json_(b',"\\u0069d":"2"'), "The same name, spelled twice."
    yield "null-twice", twice, "subject", json_(b',"subject":"a","subject":null'), "Null counts."
    yield "data-twice", twice, "data", json_(b',"data":1,"data":2'), "Two payloads."
    yield "data-around-attributes", twice, "data", json_(b',"data":1,"hops":1,"data":1'), "Twice."
    both = json_(b',"data":1,"data_base64":"AA=="')
    yield "data-and-base64", "data-conflict", "data_base64", both, "Two payloads."
    null = json_(b',"data":null,"data_base64":"AA=="')
    yield "null-data-and-base64", "data-conflict", "data_base64", null, "Null is a payload."
    for name, text in (
        ("alphabet", b"@@@@"),
        ("padding", b"AAA"),
        ("url", b"_-8="),
        ("nl", b"AA==\\n"),
    ):
        document = json_(b',"data_base64":"' + text + b'"')
        yield f"base64-{name}", "wrong-type", "data_base64", document, "No base64 (RFC 4648)."
    number = json_(b',"data_base64":1')
    yield "base64-number", "wrong-type", "data_base64", number, "Base64 is text."


def _json_attributes() -> Iterator[Row]:
    def without(name: str) -> bytes:
        return (
            b"{"
            + b",".join(
                f'"{key}":"{value}"'.encode() for key, value in MINIMAL.items() if key != name
            )
            + b"}"
        )

    for name in MINIMAL:
        yield f"without-{name}", "missing-attribute", name, without(name), f"{name} is required."
    null = without("type")[:-1] + b',"type":null}'
    yield "null-type", "missing-attribute", "type", null, "Null is absent."
    for name in ("id", "source", "type"):
        empty = without(name)[:-1] + f',"{name}":""}}'.encode()
        yield f"empty-{name}", "empty-attribute", name, empty, "A required attribute is empty."
    yield "empty-subject", "empty-attribute", "subject", json_(b',"subject":""'), "Empty."
    for version in ("0.3", "1", "1.0.2", "2.0"):
        other = without("specversion")[:-1] + f',"specversion":"{version}"}}'.encode()
        yield f"specversion-{version}", "specversion", "specversion", other, "Only 1.0 is read."
    number = without("specversion")[:-1] + b',"specversion":1.0}'
    yield "specversion-number", "wrong-type", "specversion", number, "A text is needed."
    for name, key, rest in (
        ("id-number", "id", b"1"),
        ("source-object", "source", b"{}"),
        ("type-array", "type", b'["t"]'),
        ("source-true", "source", b"true"),
    ):
        wrong = without(key)[:-1] + f',"{key}":'.encode() + rest + b"}"
        yield name, "wrong-type", key, wrong, "A text is needed."
    for name, attribute, rest in (
        ("hops-text", "hops", b'"1"'),
        ("hops-float", "hops", b"1.0"),
        ("hops-true", "hops", b"true"),
        ("priority-float", "priority", b"4.5"),
        ("extension-float", "myext", b"0.5"),
        ("extension-object", "myext", b"{}"),
        ("extension-array", "myext", b"[]"),
        ("time-number", "time", b"1769860800"),
    ):
        document = json_(f',"{attribute}":'.encode() + rest)
        yield name, "wrong-type", attribute, document, "Not the type of this attribute."
    for name, attribute, rest in (
        ("priority-10", "priority", b"10"),
        ("priority-negative", "priority", b"-1"),
        ("hops-negative", "hops", b"-1"),
        ("credit-negative", "credit", b"-1"),
        ("severitynumber-high", "severitynumber", b"2147483648"),
        ("severitynumber-low", "severitynumber", b"-2147483649"),
        ("extension-high", "myext", b"2147483648"),
        ("extension-huge", "myext", b"9" * 30),
        ("extension-endless", "myext", b"9" * 5000),
    ):
        document = json_(f',"{attribute}":'.encode() + rest)
        yield name, "out-of-range", attribute, document, "Not in the range of this attribute."
    yield from _json_names()
    yield from _json_texts()


def _json_names() -> Iterator[Row]:
    for name, key in (
        ("capital", "myExt"),
        ("underscore", "my_ext"),
        ("dash", "my-ext"),
        ("dot", "my.ext"),
        ("space", "my ext"),
        ("empty", ""),
        ("unicode", "é"),
        ("21-characters", "x" * 21),
        ("extensions", "extensions"),
    ):
        for kind, value in (("", '"v"'), ("null-", "null")):
            document = json_(f',"{key}":{value}'.encode())
            description = "No name of an attribute."
            yield f"name-{kind}{name}", "bad-attribute-name", key, document, description


def _json_texts() -> Iterator[Row]:
    for name, text in (
        ("nul", b"\\u0000"),
        ("line-feed", b"\\n"),
        ("delete", b"\x7f"),
        ("next-line", b"\xc2\x85"),
        ("non-character", b"\xef\xbf\xbe"),
        ("non-character-astral", b"\xf0\x9f\xbf\xbf"),
        ("non-character-arabic", b"\xef\xb7\x90"),
    ):
        for attribute in ("subject", "myext"):
            document = json_(f',"{attribute}":"a'.encode() + text + b'"')
            description = "A character that no attribute may hold (CloudEvents 1.0, String)."
            yield f"{attribute}-{name}", "bad-attribute-value", attribute, document, description
    for name, topic in (
        ("pattern", "a.*"),
        ("tail", "a.>"),
        ("capture", "a.{b}"),
        ("empty-token", "a..b"),
        ("space", "a b"),
    ):
        document = json_(f',"topic":"{topic}"'.encode())
        yield f"topic-{name}", "bad-attribute-value", "topic", document, "No topic (topics.md)."
    for name, time in (
        ("words", "tomorrow"),
        ("no-offset", "2026-01-31T12:00:00"),
        ("date", "2026-01-31"),
        ("space", "2026-01-31 12:00:00Z"),
        ("no-dashes", "20260131T120000Z"),
        ("week-date", "2026-W05-6T12:00:00.000000Z"),
        ("month-13", "2026-13-01T12:00:00Z"),
        ("february-30", "2026-02-30T12:00:00.000000Z"),
        ("hour-24", "2026-01-31T24:00:00.000000Z"),
        ("minute-60", "2026-01-31T12:60:00Z"),
        ("second-61", "2026-01-31T12:00:61Z"),
        ("comma", "2026-01-31T12:00:00,5Z"),
        ("no-digits", "2026-01-31T12:00:00.Z"),
        ("short-offset", "2026-01-31T12:00:00+01"),
        ("offset-24", "2026-01-31T12:00:00+24:00"),
        ("year-0", "0000-01-01T00:00:00Z"),
        ("before-year-1", "0001-01-01T00:00:00+00:01"),
        ("after-year-9999", "9999-12-31T23:59:60Z"),
        ("other-digits", "２０２６-01-31T12:00:00Z"),  # noqa: RUF001 - the point of the case
    ):
        for attribute in ("time", "expirytime"):
            document = json_(f',"{attribute}":"{time}"'.encode())
            yield f"{attribute}-{name}", "bad-time", attribute, document, "No RFC 3339 timestamp."
    yield (
        "attribute-too-large",
        "too-large",
        "subject",
        json_(b',"subject":"' + b"x" * 4097 + b'"'),
        "An attribute has at most 4096 bytes.",
    )
    many = b"".join(b',"x%d":1' % number for number in range(65))
    yield "65-extensions", "too-large", None, json_(many), "At most 64 extensions are read."


def _cbor() -> Iterator[Row]:
    yield from _cbor_syntax()
    yield from _cbor_items()
    yield from _cbor_attributes()


def _cbor_syntax() -> Iterator[Row]:
    whole = cbor_(data={"a": [1, "b"]})
    minimal = cbor_()
    yield "empty", "truncated", None, b"", "Nothing at all."
    yield "cut", "truncated", None, whole[:-2], "The document ends inside its data."
    yield "cut-in-a-text", "truncated", None, minimal[:5], "The document ends inside a text."
    yield "no-break", "truncated", None, b"\xbf" + minimal[1:], "An open map without its end."
    yield "trailing-item", "trailing-bytes", None, minimal + b"\x00", "An item behind the map."
    yield "trailing-document", "trailing-bytes", None, minimal + minimal, "Two documents."
    yield "array", "wrong-type", None, b"\x81" + minimal, "A batch is no event."
    yield "integer", "wrong-type", None, b"\x0a", "A number is no event."
    yield "break", "malformed", None, b"\xff", "A break where an item is needed."
    yield "reserved-length", "malformed", None, b"\xbc" + minimal[1:], "Length 28 is reserved."
    yield "bad-simple-value", "malformed", None, _with_item(b"\xf8\x18"), "RFC 8949, section 3.3."
    for name, item in (
        ("bytes", b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("text", b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("array", b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("map", b"\xbb\x00\x00\x00\xff\xff\xff\xff\xff"),
    ):
        description = "A length prefix must not allocate what it promises."
        yield f"giant-{name}", "truncated", None, _with_item(item), description
    deep = (_with_item(b"")[:], 1), (b"\x81", 100), (b"\x00", 1)
    abyss = (_with_item(b"")[:], 1), (b"\x81", 1_000_000), (b"\x00", 1)
    tags = (_with_item(b"")[:], 1), (b"\xc1", 1000), (b"\x00", 1)
    yield "100-deep-arrays", "too-deep", None, deep, "The limit is 64 levels."
    yield "million-deep", "too-deep", None, abyss, "Must not end the process."
    yield "1000-deep-tags", "too-deep", None, tags, "A tag is a level too."
    many = (_with_item(b"")[:], 1), (b"\x9f", 1), (b"\x80", 2**20), (b"\xff", 1)
    yield "million-items", "too-large", None, many, "The limit is 1,048,576 items."
    yield "id-twice", "duplicate-key", None, b"\xa5" + minimal[1:] + b"\x62id\x612", "Twice."
    same = _with_item(b"\xa2\x61a\x01\x61a\x01")
    yield "data-key-twice", "duplicate-key", None, same, "RFC 8949, section 5.6."
    yield "invalid-utf8", "invalid-utf8", None, _with_item(b"\x61\xff"), "No UTF-8 in data."
    key = b"\xa5" + minimal[1:] + b"\x61\xff\x00"
    yield "name-invalid-utf8", "invalid-utf8", None, key, "No UTF-8 in a name."


def _cbor_items() -> Iterator[Row]:
    minimal = cbor_()
    integer = _with_item(b"\xa1\x01\x02")
    yield "integer-key", "wrong-type", None, integer, "Keys of maps are texts."
    octets = _with_item(b"\xa1\x41a\x02")
    yield "octets-key", "wrong-type", None, octets, "Keys of maps are texts."
    top = b"\xa5" + minimal[1:] + b"\x01\x02"
    yield "integer-name", "wrong-type", None, top, "Names of attributes are texts."
    for name, item in (
        ("undefined", b"\xf7"),
        ("simple-value", b"\xf0"),
        ("shared", b"\xd8\x1c\x81\xd8\x1d\x00"),
        ("regular-expression", b"\xd8\x23\x63(a)"),
        ("bignum", b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("decimal", cbor2.dumps(CBORTag(4, [-1, 15]))),
        ("unknown-tag", b"\xda\x00\x01\x00\x00\x00"),
        ("self-described", b"\xd9\xd9\xf7\x00"),
    ):
        description = "Not one of the values and tags that data may have."
        yield f"data-{name}", "wrong-type", None, _with_item(item), description
    mixed = cbor_(datacontenttype="text/plain", data={"a": 1})
    yield "map-as-text", "wrong-type", "data", mixed, "Data of a text type is text or octets."


def _cbor_attributes() -> Iterator[Row]:
    yield "time-integer", "wrong-type", "time", cbor_(time=1769860800), "Only tag 1 makes it one."
    yield "time-tag-text", "bad-time", None, cbor_(time=CBORTag(1, "x")), "Tag 1 is on numbers."
    yield "time-tag-number", "bad-time", None, _with_item(b"\xc0\x01", "time"), "Tag 0 is on text."
    yield "time-year-9999", "bad-time", None, cbor_(time=CBORTag(1, 2**60)), "Out of reach."
    yield "time-nan", "bad-time", None, cbor_(time=CBORTag(1, float("nan"))), "No time."
    yield "time-words", "bad-time", "time", cbor_(time=CBORTag(0, "tomorrow")), "No RFC 3339."
    yield "hops-float", "wrong-type", "hops", cbor_(hops=1.0), "An integer is needed."
    yield "hops-true", "wrong-type", "hops", cbor_(hops=True), "An integer is needed."
    yield "hops-large", "out-of-range", "hops", cbor_(hops=2**31), "Integers have 32 bits."
    yield "extension-large", "out-of-range", "myext", cbor_(myext=2**63), "Integers have 32 bits."
    yield "extension-array", "wrong-type", "myext", cbor_(myext=[1]), "No type of an attribute."
    yield "extension-float", "wrong-type", "myext", cbor_(myext=0.5), "No type of an attribute."
    simple = _with_item(cbor2.dumps(CBORSimpleValue(32)), "myext")
    yield "extension-simple", "wrong-type", "myext", simple, "No type of an attribute."
    yield "subject-octets", "wrong-type", "subject", cbor_(subject=b"x"), "A text is needed."
    yield "id-octets", "wrong-type", "id", cbor_(id=b"1"), "A text is needed."
    yield "without-id", "missing-attribute", "id", cbor_(id=None), "id is required."
    yield "empty-id", "empty-attribute", "id", cbor_(id=""), "id is empty."
    yield "specversion-0.3", "specversion", "specversion", cbor_(specversion="0.3"), "Only 1.0."
    yield "specversion-float", "wrong-type", "specversion", cbor_(specversion=1.0), "A text."
    yield "name", "bad-attribute-name", "my_ext", cbor_(my_ext="v"), "No name of an attribute."
    base64 = cbor_(data_base64="AA==")
    yield "data-base64", "bad-attribute-name", "data_base64", base64, "A member of JSON only."
    yield "control", "bad-attribute-value", "subject", cbor_(subject="a\x00"), "No character."
    yield "large", "too-large", "subject", cbor_(subject="x" * 4097), "At most 4096 bytes."
    yield "large-octets", "too-large", "myext", cbor_(myext=b"x" * 4097), "At most 4096 bytes."


def _with_item(item: bytes, name: str = "data") -> bytes:
    """Return the required members, and one more whose item is given as it stands."""
    return b"\xa5" + cbor_()[1:] + cbor2.dumps(name) + item


def _protobuf() -> Iterator[Row]:
    whole = protobuf_(**slot("subject", ce_string="s"), text_data="x")
    yield "empty", "missing-attribute", "specversion", b"", "A message without fields."
    yield "cut", "malformed", None, whole[:-1], "The document ends inside a field."
    yield "no-message", "malformed", None, b"hello", "No protobuf."
    yield "giant-length", "malformed", None, b"\x0a\xff\xff\xff\xff\x07a", "2 GiB are promised."
    yield "endless-varint", "malformed", None, b"\x0a" + b"\xff" * 11, "A varint of 11 bytes."
    yield "field-0", "malformed", None, whole + b"\x02\x00", "Field numbers start at 1."
    groups = (whole, 1), (b"\x7b", 1_000_000)
    yield "million-groups", "malformed", None, groups, "Must not end the process."
    yield "invalid-utf8", "invalid-utf8", None, b"\x0a\x01\xff" + whole[3:], "No UTF-8."
    for name, field in (("specversion", "spec_version"), ("id", "id"), ("type", "type")):
        document = protobuf_(**{field: ""})
        description = "An empty field is a missing attribute."
        yield f"without-{name}", "missing-attribute", name, document, description
    yield "specversion-0.3", "specversion", "specversion", protobuf_(spec_version="0.3"), "1.0."
    for name in ("id", "specversion"):
        document = protobuf_(**slot(name, ce_string="1.0"))
        description = "A required attribute stands among the others too."
        yield f"{name}-twice", "duplicate-key", name, document, description
    unset = protobuf_(**slot("subject"))
    yield "no-value", "wrong-type", "subject", unset, "A kind of value that is not known."
    for name, attribute, value in (
        ("subject-integer", "subject", {"ce_integer": 1}),
        ("hops-text", "hops", {"ce_string": "1"}),
        ("hops-true", "hops", {"ce_boolean": True}),
        ("subject-octets", "subject", {"ce_bytes": b"x"}),
    ):
        document = protobuf_(**slot(attribute, **value))
        yield name, "wrong-type", attribute, document, "Not the type of this attribute."
    high = protobuf_(**slot("priority", ce_integer=10))
    yield "priority-10", "out-of-range", "priority", high, "0 to 9."
    for name, time in (
        ("nanos-negative", {"seconds": 1, "nanos": -1}),
        ("nanos-large", {"seconds": 1, "nanos": 10**9}),
        ("year-10000", {"seconds": 253402300800}),
        ("year-0", {"seconds": -62135596801}),
    ):
        document = protobuf_(**slot("time", ce_timestamp=time))
        yield f"time-{name}", "bad-time", "time", document, "No google.protobuf.Timestamp."
    words = protobuf_(**slot("time", ce_string="tomorrow"))
    yield "time-words", "bad-time", "time", words, "No RFC 3339 timestamp."
    empty = protobuf_(**slot("subject", ce_string=""))
    yield "empty-subject", "empty-attribute", "subject", empty, "Empty."
    bad = protobuf_(**slot("my_ext", ce_string="v"))
    yield "name", "bad-attribute-name", "my_ext", bad, "No name of an attribute."
    control = protobuf_(**slot("subject", ce_string="a\n"))
    yield "control", "bad-attribute-value", "subject", control, "No character of an attribute."
    url = {"type_url": "type.googleapis.com/acme.Order", "value": b""}
    other = protobuf_(**slot("dataschema", ce_uri="https://acme.example"), proto_data=url)
    yield "schema-conflict", "data-conflict", "dataschema", other, "Two schemas for one message."
    typed = protobuf_(**slot("datacontenttype", ce_string="text/plain"), proto_data=url)
    yield "type-conflict", "data-conflict", "datacontenttype", typed, "A message is no text."
    deep = protobuf_(
        **slot("datacontenttype", ce_string="application/json"), text_data="[" * 100 + "]" * 100
    )
    yield "100-deep-arrays", "too-deep", None, deep, "The limit is 64 levels."
