"""The CloudEvents JSON format: what the `json` codec sends, and what a log keeps of a record.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

Reading has two paths. msgspec decodes the struct in C, but lets the last of two equal keys win and
does not look into the text that it leaves unparsed. A document that this module writes passes a
proof that it holds neither (600 ns). Whatever fails the proof (foreign order or white
space, extensions, `data_base64`, escapes, and all that is wrong) is read again member by member,
which takes about 10 µs and finds the words for the error.
"""

import binascii
import re
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET, Raw

from hms_bus import payload
from hms_bus.attributes import MAX_ATTRIBUTE_BYTES, from_values, to_values
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError, EncodeError, TopicError
from hms_bus.ids import is_stamped_time
from hms_bus.payload import MAX_BYTES, encode_json, encode_json_into
from hms_bus.topics import check_topic

_BACKSLASH, _DELETE = ord("\\"), 0x7F
_DATA_MEMBERS = frozenset({"data", "data_base64"})
_NULL = b"null"

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def encode(envelope: Envelope) -> bytes:
    """Return the JSON document; `data` is its last member, so a reader can cut it off.

    Raises `EncodeError` when the payload or an attribute has no JSON form.
    """
    try:
        if type(envelope.data) in _json_classes and envelope.extensions is None:
            document = encode_json(envelope)
            return document if len(document) <= MAX_BYTES else payload.check_size(document)
        return payload.check_size(_encode(envelope))
    except EncodeError:
        raise
    except payload.NO_PLAIN_FORM as error:
        raise EncodeError(f"the envelope has no JSON form: {error}") from error


# Hot path: the classes of payloads that msgspec writes in their place, instead of 100 ns to ask.
_json_classes: set[type] = set()


def _encode(envelope: Envelope) -> bytes:
    if payload.is_octets(envelope.data):
        return encode_json(_document(envelope))
    _json_classes.add(envelope.data.__class__)
    return encode_json(envelope if envelope.extensions is None else _document(envelope))


def _document(envelope: Envelope) -> dict[str, Any]:
    document = to_values(envelope)
    for name, value in document.items():
        if type(value) is bytes:
            document[name] = _to_base64(value)
    if payload.is_octets(envelope.data):
        document["data_base64"] = _to_base64(payload.to_octets(envelope.data))
    elif envelope.data is not UNSET:
        document["data"] = envelope.data
    return document


def _to_base64(octets: bytes) -> str:
    return binascii.b2a_base64(octets, newline=False).decode()


def decode(document: bytes) -> Envelope:
    """Read a JSON document. Its `data` is left as text, in UTF-8 and free of syntax errors.

    Raises `DecodeError` and nothing else. How deep `data` is nested is checked when it is parsed.
    """
    if len(document) > MAX_BYTES:
        raise DecodeError(f"the document is larger than {MAX_BYTES} bytes", reason="too-large")
    try:
        envelope = _decode_envelope(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_members(document)
    # The proof. What encodes back to the same bytes has every key once, `specversion` among them,
    # and no surprise in its spelling. An attribute in ASCII without backslash and DEL holds no
    # control character. Types, ranges and empty texts were checked by msgspec.
    encode_json_into(envelope, _again)
    if (
        _again == document
        and (
            (
                document.isascii()
                and _BACKSLASH not in document
                and _DELETE not in document
                and len(document) <= MAX_ATTRIBUTE_BYTES
            )
            or _has_plain_header(document, envelope.data)
        )
        and (envelope.time is None or is_stamped_time(envelope.time))
        and (envelope.expirytime is None or is_stamped_time(envelope.expirytime))
        and (envelope.topic in _known_topics or _is_topic(envelope.topic))
    ):
        return envelope
    return _read_members(document)


# One buffer for all calls saves 100 ns. Should another thread encode into it just before the
# comparison: a document that equals anything which came out of the encoder is as plain.
_again: Any = bytearray()
_known_topics: set[str] = set()
_MAX_KNOWN_TOPICS = 65_536


def _is_topic(topic: str) -> bool:
    try:
        check_topic(topic)
    except TopicError:
        return False
    if len(_known_topics) >= _MAX_KNOWN_TOPICS:
        _known_topics.clear()
    _known_topics.add(topic)
    return True


def _has_plain_header(document: bytes, data: Any) -> bool:
    """Whether what stands before `data` is plain, and `data` is UTF-8."""
    text = b"" if data is UNSET else bytes(data)
    header = document[: len(document) - len(text) - 1]
    if len(header) > MAX_ATTRIBUTE_BYTES or not header.isascii():
        return False
    return _BACKSLASH not in header and _DELETE not in header and _is_utf8(text)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_members(document: bytes) -> Envelope:
    """Read any document by its members, with all checks."""
    if not document.isascii():
        _check_utf8(document)
    members = _split(document)
    values = {
        name: _scalar(name, raw) for name, raw in members.items() if name not in _DATA_MEMBERS
    }
    return from_values(values, _data(members))


def _check_utf8(document: bytes) -> None:
    try:
        document.decode()
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data"
        raise DecodeError(
            f"byte {error.start} is no UTF-8: {error.reason}",
            reason="truncated" if cut else "invalid-utf8",
        ) from error


def _split(document: bytes) -> dict[str, Raw]:
    """Return the members of the object, each once, their values unparsed."""
    try:
        members = _decode_members(document)
    except RecursionError as error:
        raise DecodeError("nested too deep", reason="too-deep", field="data") from error
    except msgspec.MsgspecError as error:
        _refuse(document, error)
    _check_unique(document, members)
    return members


# Possessive, so that a long key takes no memory of its own.
_KEY = re.compile(rb'[ \t\r\n{,]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\r\n]*+:[ \t\r\n]*+', re.DOTALL)
_END = re.compile(rb"[ \t\r\n]*+}[ \t\r\n]*+")
_EMPTY = re.compile(rb"[ \t\r\n]*+\{[ \t\r\n]*+}[ \t\r\n]*+")


def _check_unique(document: bytes, members: dict[str, Raw]) -> None:
    """Check that the valid `document` holds each member once, in time linear to its length.

    `members` has the last value of each key. Followed from the first byte on, key and value by key
    and value, these must cover the document: no JSON value is the beginning of another one, numbers
    excepted, and after half a number comes neither comma nor brace.
    """
    at = 0
    for _ in members:
        key = _KEY.match(document, at)
        if key is None:
            break
        value = bytes(members[_decode_text(key[1])])
        if not document.startswith(value, key.end()):
            _refuse_double(key[1])
        at = key.end() + len(value)
    if not (_END.fullmatch(document, at) or _EMPTY.fullmatch(document)):
        double = _KEY.match(document, at)
        _refuse_double(double[1] if double else b'""')


def _refuse_double(key: bytes) -> NoReturn:
    name = _decode_text(key)
    raise DecodeError(f"{name!r:.60} stands twice", reason="duplicate-key", field=name[:40])


def _refuse(document: bytes, error: msgspec.MsgspecError) -> NoReturn:
    text = str(error)
    if "truncated" in text and document.rstrip().endswith(b"}"):
        # Half a surrogate pair near the end of a whole document says so, too.
        text = _error_of(document + b" " * 16)
    if "trailing characters" in text:
        raise DecodeError(f"more follows the document: {text}", reason="trailing-bytes") from error
    if "truncated" in text or f"(byte {len(document)})" in text:
        raise DecodeError("the document ends too early", reason="truncated") from error
    if isinstance(error, msgspec.ValidationError):
        raise DecodeError(f"no JSON object: {text}", reason="wrong-type") from error
    raise DecodeError(f"no JSON: {text}", reason="malformed") from error


def _error_of(document: bytes) -> str:
    try:
        _decode_members(document)
    except msgspec.MsgspecError as error:
        return str(error)
    return ""


def _scalar(name: str, raw: Raw) -> Any:
    if bytes(raw)[:1] in {b"{", b"["}:
        raise DecodeError(f"{name!r:.60} is no plain value", reason="wrong-type", field=name[:40])
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError as error:
        # Its syntax was checked before: a number that no type of Python holds.
        raise DecodeError(
            f"{name!r:.60}: {error}", reason="out-of-range", field=name[:40]
        ) from error


def _data(members: dict[str, Raw]) -> Any:
    encoded = members.get("data_base64")
    if encoded is None or bytes(encoded) == _NULL:
        return members.get("data", UNSET)
    if "data" in members:
        raise DecodeError("both data and data_base64", reason="data-conflict", field="data_base64")
    try:
        return binascii.a2b_base64(_decode_text(encoded), strict_mode=True)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DecodeError(
            f"data_base64 is no base64 text: {error}", reason="wrong-type", field="data_base64"
        ) from error
