"""Finding a codec by name, media type or first byte."""

import importlib.metadata
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus import codecs
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, DecodeError

NAMES = ("json", "cbor", "protobuf")


@pytest.mark.parametrize("name", NAMES)
def test_by_name(name: str) -> None:
    codec = codecs.find(name)
    assert codec.name == name
    assert codec.content_type == f"application/cloudevents+{name}"
    assert codecs.find(name) is codec


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'yaml'.*cbor, json, protobuf"):
        codecs.find("yaml")


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("application/cloudevents+json", "json"),
        ("application/cloudevents+json; charset=utf-8", "json"),
        (" Application/CloudEvents+JSON;x=y", "json"),
        ("application/cloudevents+cbor", "cbor"),
        ("application/cloudevents+protobuf", "protobuf"),
    ],
)
def test_by_media_type(media_type: str, name: str) -> None:
    assert codecs.find_by_media_type(media_type).name == name


@pytest.mark.parametrize(
    "media_type",
    ["", "application/json", "application/cloudevents-batch+json", "application/cloudevents"],
)
def test_an_unknown_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(DecodeError) as refused:
        codecs.find_by_media_type(media_type)
    assert refused.value.reason == "unknown-codec"


class Reversed:
    """A codec as others install them."""

    name = "reversed"
    content_type = "application/cloudevents+Reversed"

    def encode(self, envelope: Envelope) -> bytes:
        return codecs.find("json").encode(envelope)[::-1]

    def decode(self, document: bytes) -> Envelope:
        return codecs.find("json").decode(document[::-1])


def test_a_codec_of_an_entry_point_is_found_by_name_and_media_type() -> None:
    entry = mock.Mock(spec=importlib.metadata.EntryPoint)
    entry.name = "reversed"
    entry.load.return_value = Reversed
    found = importlib.metadata.EntryPoints((entry,))
    with mock.patch.object(importlib.metadata, "entry_points", return_value=found):
        codec = codecs.find_by_media_type("application/cloudevents+reversed; v=1")
        assert codecs.find("reversed") is codec
    envelope = Envelope(id="1", source="/s", type="t")
    assert codec.decode(codec.encode(envelope)) == envelope


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (b"{", "json"),
        (b"{}", "json"),
        (b"\x0a\x01x", "protobuf"),
        (b"\xa0", "cbor"),
        (b"\xbb", "cbor"),
        (b"\xbf", "cbor"),
        (b"\xd9\xd9\xf7\xa0", "cbor"),
    ],
)
def test_by_first_byte(document: bytes, name: str) -> None:
    assert codecs.find_by_first_byte(document).name == name


@pytest.mark.parametrize(
    "document",
    [b"", b" {}", b"\xef\xbb\xbf{}", b"[]", b"\xbc", b"\xd9\xd9", b"\x80", b"x", b"\x12"],
)
def test_other_beginnings_are_refused(document: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        codecs.find_by_first_byte(document)
    assert refused.value.reason == "unknown-codec"


@given(document=st.binary())
def test_any_beginning_is_found_or_refused(document: bytes) -> None:
    known = b"\x0a{" + bytes(range(0xA0, 0xBC)) + b"\xbf"
    if document[:1] in {bytes([first]) for first in known} or document[:3] == b"\xd9\xd9\xf7":
        assert codecs.find_by_first_byte(document).name in NAMES
    else:
        with pytest.raises(DecodeError):
            codecs.find_by_first_byte(document)


def test_json_is_found_without_loading_the_libraries_of_the_others() -> None:
    program = (
        "import sys; from hms_bus import codecs; codecs.find('json');"
        "codecs.find_by_media_type('application/cloudevents+json');"
        "codecs.find_by_first_byte(b'{');"
        "print(sorted({'cbor2', 'google.protobuf'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
