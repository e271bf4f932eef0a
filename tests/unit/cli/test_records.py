"""Envelopes as lines: nothing is lost in JSON, nothing reaches a terminal that would move it."""

import io
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, Struct

from hms_bus import Envelope, jsonformat, new_envelope
from hms_bus.cli.records import (
    Printer,
    csv_line,
    escape,
    highlight,
    json_line,
    payload_bytes,
    payload_text,
    raw_payload,
)
from hms_bus.plugins import get_codec

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Order(Struct):
    """A payload with a type."""

    id: int


def envelope(data: Any = UNSET, **attributes: Any) -> Envelope:
    return new_envelope("a.b", data, source="/me", **attributes)


PAYLOADS = [
    (UNSET, b"", ""),
    (Order(id=1), b'{"id":1}', '{"id":1}'),
    ({"a": [1, None]}, b'{"a":[1,null]}', '{"a":[1,null]}'),
    (Raw(b'{\n "a": 1\n}'), b'{\n "a": 1\n}', '{"a":1}'),
    ("two\nlines\u2028\x1b", b"two\nlines\xe2\x80\xa8\x1b", "two\\nlines\\u2028\\u001b"),
    (b"\x00\xff", b"\x00\xff", "<2 bytes application/octet-stream: 00ff>"),
    (None, b"null", "null"),
]


@pytest.mark.parametrize(("data", "stored", "shown"), PAYLOADS)
@pytest.mark.parametrize("codec", [None, "json", "cbor", "protobuf"])
def test_a_payload_is_shown_alike_whatever_it_came_through(
    data: Any, stored: bytes, shown: str, codec: str | None
) -> None:
    one = envelope(data)
    if codec is not None:
        one = get_codec(codec).decode(get_codec(codec).encode(one))
    if type(data) is not Raw:
        assert payload_bytes(one) == stored
    assert payload_text(one) == shown


def test_raw_output_ends_a_line_but_not_octets() -> None:
    assert raw_payload(envelope({"a": 1}), 1, 1) == b'{"a":1}\n'
    assert raw_payload(envelope("text"), 1, 1) == b"text\n"
    assert raw_payload(envelope(b"\xff"), 1, 1) == b"\xff"
    assert raw_payload(envelope(), 1, 1) == b"\n"


@given(st.text())
def test_shown_text_has_no_control_characters(text: str) -> None:
    shown = escape(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", shown)
    assert len(shown.splitlines()) <= 1


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_highlighting_changes_colours_only(value: Any) -> None:
    text = escape(json.dumps(value))
    assert COLOUR.sub("", highlight(text)) == text


@pytest.mark.parametrize("data", [data for data, _, _ in PAYLOADS])
def test_a_json_line_holds_the_whole_event(data: Any) -> None:
    one = envelope(data, subject="s")
    line = json_line(one, 7, 1_000_000_000)
    assert line.count(b"\n") == 1
    read = json.loads(line)
    assert (read["position"], read["recorded"]) == (7, "1970-01-01T00:00:01.000000Z")
    assert read["event"] == json.loads(jsonformat.encode(one))
    assert json.loads(json_line(one, None, None))["position"] is None


def test_a_csv_line_has_empty_cells_for_what_is_absent() -> None:
    line = csv_line(envelope(b"\x00", id="1", time="2026-01-31T12:00:00Z"), None, None)
    assert line == (b",,2026-01-31T12:00:00Z,a.b,a.b,/me,1,,,application/octet-stream,AA==\n")


def test_printed_text_is_handed_over_by_flush() -> None:
    out = io.BytesIO()
    printer = Printer(out, "text")
    printer.show(envelope({"a": 1}, time="2026-01-31T12:00:00Z"))
    assert out.getvalue() == b""
    printer.flush()
    assert out.getvalue() == b'-\t2026-01-31T12:00:00Z\ta.b\ta.b\t/me\t{"a":1}\n'


def test_much_text_is_handed_over_by_itself() -> None:
    out = io.BytesIO()
    printer = Printer(out, "raw")
    for _ in range(3):
        printer.show(envelope("x" * 40_000))
    assert len(out.getvalue()) == 2 * 40_001


def test_verbose_text_shows_extensions(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.BytesIO()
    printer = Printer(out, "text", verbose=True)
    printer.show(envelope(extensions={"blob": b"\xff", "team": "red"}))
    printer.flush()
    assert b"\n    blob: <ff>\n    team: red\n" in out.getvalue()


def test_a_coloured_line_says_the_same() -> None:
    out = io.BytesIO()
    printer = Printer(out, "text", coloured=True)
    printer.show(envelope({"a": 1}, time="2026-01-31T12:00:00Z", type="T"), 3, 1_000_000_000)
    printer.flush()
    assert COLOUR.search(out.getvalue().decode())
    shown = COLOUR.sub("", out.getvalue().decode())
    assert re.fullmatch(r' +3 19\d\d-\d\d-\d\d \d\d:\d\d:01\.000 a\.b T /me \{"a":1\}\n', shown)


def test_a_json_line_is_msgspec_readable() -> None:
    assert msgspec.json.decode(json_line(envelope(2**53), 1, 0))["event"]["data"] == 2**53


def test_a_payload_that_was_taken_out_is_no_empty_one() -> None:
    redacted = envelope({"a": 1}).replace(datacontenttype="application/json", data=UNSET)
    assert payload_text(redacted) == "<no application/json: redacted>"
