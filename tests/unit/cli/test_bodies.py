"""What the words of a command line become: payloads, options, filled templates."""

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, Raw

from hms_bus.cli.bodies import fill, parse_headers, read_body, to_payload
from hms_bus.errors import EncodeError, UsageError
from hms_bus.ids import parse_time


def test_a_body_stands_for_itself_a_file_or_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "body").write_bytes(b"\xff")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from stdin")))
    assert read_body("text") == b"text"
    assert read_body(f"@{tmp_path}/body") == b"\xff"
    assert read_body("-") == b"from stdin"
    assert read_body("@@handle") == b"@handle"
    assert read_body(None) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing.*@@"):
        read_body(f"@{tmp_path}/missing")


@pytest.mark.parametrize(
    ("body", "kind", "payload"),
    [
        (None, "auto", UNSET),
        (b'{"a": 1}', "auto", Raw(b'{"a": 1}')),
        (b" [1]\n", "auto", Raw(b"[1]")),
        (b"42", "auto", Raw(b"42")),
        (b"plain text\n", "auto", "plain text"),
        (b"{broken", "auto", "{broken"),
        (b"", "auto", ""),
        (b"\xff\n", "auto", b"\xff\n"),
        (b"42", "text", "42"),
        (b"42", "bytes", b"42"),
    ],
)
def test_a_payload_is_what_its_bytes_look_like(body: bytes, kind: Any, payload: object) -> None:
    assert to_payload(body, kind) == payload


@pytest.mark.parametrize(("body", "kind"), [(b"{", "json"), (b"\xff", "json"), (b"\xff", "text")])
def test_a_payload_that_is_not_what_it_should_be_is_refused(body: bytes, kind: Any) -> None:
    with pytest.raises(EncodeError):
        to_payload(body, kind)


def test_headers_are_attributes_or_extensions() -> None:
    assert parse_headers(
        ("subject=a=b", "Priority: 7", "ttl=2m", "team=red", "urgency:=3", "checked:=true")
    ) == {
        "subject": "a=b",
        "priority": 7,
        "ttl": 120.0,
        "extensions": {"team": "red", "urgency": 3, "checked": True},
    }
    assert parse_headers(()) == {}


@pytest.mark.parametrize("header", ["noise", "=value", "urgency:=high", "priority=1.5", "a:=null"])
def test_a_header_that_says_nothing_is_refused(header: str) -> None:
    with pytest.raises(UsageError):
        parse_headers((header,))


def test_a_template_is_filled() -> None:
    filled = fill(b'{{count}} {{ unix }} {{time}} {{id}} {{random}} {"a":{"b":{{count}}}} \xff', 7)
    count, unix, time, new_id, random, nested, octet = filled.split(b" ")
    assert count == b"7"
    assert parse_time(time.decode()) // 1_000_000_000 == int(unix)
    assert len(new_id) == 36
    assert random.isdigit()
    assert (nested, octet) == (b'{"a":{"b":7}}', b"\xff")


def test_a_template_with_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no {{coutn}}; known: count, time, unix, id, random"):
        fill(b"{{coutn}}", 1)
