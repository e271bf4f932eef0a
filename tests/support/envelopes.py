"""Hypothesis strategies for envelopes as they may be published, and for the bytes of documents."""

from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET, Raw

from hms_bus import payload
from hms_bus.attributes import RESERVED
from hms_bus.envelope import ATTRIBUTES, INTEGER_ATTRIBUTES, TIME_ATTRIBUTES, Envelope
from hms_bus.ids import format_time

_MIN_NS = -62_135_596_800 * 10**9
_MAX_NS = 253_402_300_799 * 10**9 + 999_999_999


def _is_character(character: str) -> bool:
    code = ord(character)
    return not (0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)


characters = st.characters(exclude_categories=("Cc", "Cs")).filter(_is_character)
"""What the text of an attribute may hold."""

texts = st.text(characters, max_size=30)
names = st.text(characters, min_size=1, max_size=20)
tokens = st.text("abcxyzABC019_~:@/+=%!#-", min_size=1, max_size=8)
topics = st.lists(tokens, min_size=1, max_size=5).map(".".join)
times_ns = st.integers(_MIN_NS, _MAX_NS)


@st.composite
def times(draw: st.DrawFn) -> str:
    """Draw a timestamp in any of the forms that RFC 3339 allows."""
    text = format_time(draw(st.integers(_MIN_NS + 10**15, _MAX_NS - 10**15)))
    fraction = draw(st.sampled_from(["", ".5", ".123456", ".000000001", text[19:-1]]))
    offset = draw(st.sampled_from(["Z", "z", "+00:00", "-00:00", "+05:30", "-11:59"]))
    return f"{text[:10]}{draw(st.sampled_from('Tt'))}{text[11:19]}{fraction}{offset}"


int64 = st.integers(-(2**63), 2**64 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
json_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
json_scalars = st.none() | st.booleans() | int64 | floats | json_texts


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(json_texts, values, max_size=4)


json_values = st.recursive(json_scalars, _containers, max_leaves=12)

extension_names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: name not in RESERVED
)
extensions = st.dictionaries(
    extension_names, texts | int32 | st.booleans() | st.binary(max_size=12), max_size=4
)

_JSON_TYPES = ["application/json", "application/vnd.acme+json", "text/json; charset=utf-8"]
_structured = st.tuples(
    json_values | json_values.map(lambda value: Raw(payload.encode_json(value))),
    st.sampled_from([None, *_JSON_TYPES]),
    st.none(),
)
_text = st.tuples(json_texts, st.sampled_from(["text/plain", "application/xml"]), st.none())
_octets = st.tuples(
    st.binary(max_size=30),
    st.sampled_from([None, "application/octet-stream", "image/png", "application/cbor"]),
    st.none(),
)
_octets_of_json = st.tuples(
    json_values.map(payload.encode_json) | st.binary(max_size=10),
    st.sampled_from(_JSON_TYPES),
    st.none(),
)
_messages = st.tuples(
    st.binary(max_size=30),
    st.just("application/protobuf"),
    st.none() | st.just("type.googleapis.com/acme.Order"),
)
_absent = st.tuples(
    st.just(UNSET), st.sampled_from([None, "text/plain", *_JSON_TYPES]), st.none() | names
)

payloads = st.one_of(_structured, _text, _octets, _octets_of_json, _messages, _absent)
"""`data` with the `datacontenttype` and `dataschema` that it may have."""

_OTHERS = [
    name
    for name in ATTRIBUTES
    if name not in {"id", "source", "type", "topic", "datacontenttype", "dataschema"}
]


def _values(name: str) -> st.SearchStrategy[Any]:
    if name in TIME_ATTRIBUTES:
        return times()
    if name == "priority":
        return st.integers(0, 9)
    if name == "severitynumber":
        return int32
    return st.integers(0, 2**31 - 1) if name in INTEGER_ATTRIBUTES else names


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Draw an envelope that every codec can send."""
    optional = draw(st.lists(st.sampled_from(_OTHERS), unique=True, max_size=8))
    others: dict[str, Any] = {name: draw(_values(name)) for name in optional}
    data, content_type, schema = draw(payloads)
    return Envelope(
        id=draw(names),
        source=draw(names),
        type=draw(names),
        topic=draw(topics | st.just("")),
        datacontenttype=content_type,
        dataschema=schema,
        extensions=draw(extensions) or None,
        data=data,
        **others,
    )


@st.composite
def mutations(draw: st.DrawFn, document: bytes) -> bytes:
    """Draw `document` with some bytes changed, inserted, taken out or doubled."""
    changed = bytearray(document)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        length = draw(st.integers(0, 3))
        inserted = draw(
            st.binary(max_size=3)
            | st.sampled_from(
                [b'"', b",", b"{", b"}", b"[", b"]", b":", b"null", b"\\", b"\x7f", b"\xff"]
            )
            | st.just(bytes(changed[at : at + 40]))
        )
        changed[at : at + length] = inserted
    return bytes(changed)
