"""Printing envelopes and records: a line each, as text, JSON, CSV, or the bare payload.

The JSON line of a record, which `hms-bus log import` takes as well:

    {"position":12,"recorded":"2026-01-31T12:00:00.000000Z","event":{…CloudEvents JSON…}}
"""

import csv
import io
import json
import re
from typing import Any, BinaryIO, Literal

import click
import msgspec
from msgspec import UNSET, Raw, Struct

from hms_bus import jsonformat, payload
from hms_bus.attributes import to_values
from hms_bus.cli.screen import local_time
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.ids import format_time

RecordForm = Literal["text", "json", "csv", "raw"]

CSV_COLUMNS = (
    "position",
    "recorded",
    "time",
    "topic",
    "type",
    "source",
    "id",
    "correlationid",
    "causationid",
    "datacontenttype",
    "data",
)
_SHOWN = frozenset({"specversion", "topic", "type", "source", "time"})
_FLUSH_AT = 64 * 1024
_PREVIEW_BYTES = 16
# What would move a terminal's cursor, or break the line; tabs part the columns.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_JSON_PART = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)
_COLOURS = {"key": "cyan", "text": "green", "number": "magenta", "word": "magenta"}


class Line(Struct, frozen=True, kw_only=True):
    """One printed record: `position` 1 upwards, `recorded` in RFC 3339, both `None` when live."""

    position: int | None
    recorded: str | None
    event: Raw


class Printer:
    """Writes envelopes to `out`, in the order of the calls; `flush` when a reader shall see them.

    `verbose` adds every attribute to the text. Writing may block on a slow reader: that holds the
    command back, as it should.
    """

    def __init__(
        self, out: BinaryIO, form: RecordForm, *, coloured: bool = False, verbose: bool = False
    ) -> None:
        self._out = out
        self._coloured = coloured
        self._verbose = verbose
        self._parts: list[bytes] = []
        self._size = 0
        self._form = {
            "text": self._terminal_text if coloured else self._text,
            "json": json_line,
            "csv": csv_line,
            "raw": raw_payload,
        }[form]
        if form == "csv":
            self._write(_csv_row(CSV_COLUMNS))

    def show(
        self, envelope: Envelope, position: int | None = None, recorded_ns: int | None = None
    ) -> None:
        """Print one envelope."""
        self._write(self._form(envelope, position, recorded_ns))

    def flush(self) -> None:
        """Hand over all that was printed."""
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._out.write(b"".join(parts))
        self._out.flush()

    def _write(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size >= _FLUSH_AT:
            self.flush()

    def _text(self, envelope: Envelope, position: int | None, recorded_ns: int | None) -> bytes:
        when = envelope.time if recorded_ns is None else format_time(recorded_ns)
        number = "-" if position is None else str(position)
        cells = [number, when or "-", envelope.topic, envelope.type, envelope.source]
        line = "\t".join([*cells, payload_text(envelope)])
        return f"{line}\n{self._attributes(envelope)}".encode()

    def _terminal_text(
        self, envelope: Envelope, position: int | None, recorded_ns: int | None
    ) -> bytes:
        when_ns = envelope.time_ns if recorded_ns is None else recorded_ns
        cells = [
            "" if position is None else click.style(f"{position:>6}", fg="blue"),
            "" if when_ns is None else click.style(local_time(when_ns), dim=True),
            click.style(envelope.topic, fg="yellow", bold=True),
            "" if envelope.type == envelope.topic else click.style(envelope.type, fg="green"),
            click.style(envelope.source, dim=True),
            _coloured_payload(envelope),
        ]
        return f"{' '.join(filter(None, cells))}\n{self._attributes(envelope)}".encode()

    def _attributes(self, envelope: Envelope) -> str:
        if not self._verbose:
            return ""
        shown = {name: v for name, v in to_values(envelope).items() if name not in _SHOWN}
        lines = [f"    {name}: {_attribute(value)}" for name, value in shown.items()]
        if self._coloured:
            lines = [click.style(line, dim=True) for line in lines]
        return "".join(f"{line}\n" for line in lines)


def json_line(envelope: Envelope, position: int | None, recorded_ns: int | None) -> bytes:
    """Return the record as a line of JSON."""
    line = Line(
        position=position,
        recorded=None if recorded_ns is None else format_time(recorded_ns),
        event=Raw(_one_line(jsonformat.encode(envelope))),
    )
    return msgspec.json.encode(line) + b"\n"


def csv_line(envelope: Envelope, position: int | None, recorded_ns: int | None) -> bytes:
    """Return the record as a row under `CSV_COLUMNS`; octets are in base64."""
    values = to_values(envelope) | {
        "position": position,
        "recorded": None if recorded_ns is None else format_time(recorded_ns),
        "data": _whole_payload(envelope),
    }
    return _csv_row(values.get(name) for name in CSV_COLUMNS)


def raw_payload(envelope: Envelope, position: int | None, recorded_ns: int | None) -> bytes:
    """Return the payload alone: octets as they are, JSON and text with a newline behind them."""
    del position, recorded_ns
    is_octets = envelope.data is not UNSET and payload.is_octets(envelope.data)
    return payload_bytes(envelope) + (b"" if is_octets else b"\n")


def payload_bytes(envelope: Envelope) -> bytes:
    """Return the payload as a program would store it: octets, text, or JSON; empty without one."""
    if envelope.data is UNSET:
        return b""
    if payload.is_octets(envelope.data):
        return payload.to_octets(envelope.data)
    text = _plain_text(envelope)
    return payload.to_json(envelope.data) if text is None else text.encode()


def payload_text(envelope: Envelope) -> str:
    """Return the payload on one line that is safe for a terminal; octets as length and start.

    An event that says of what type its payload is, and has none, was redacted (spec/log.md).
    """
    if envelope.data is UNSET:
        kind = envelope.datacontenttype
        return "" if kind is None else escape(f"<no {kind}: redacted>")
    if payload.is_octets(envelope.data):
        octets = payload.to_octets(envelope.data)
        more = "…" if len(octets) > _PREVIEW_BYTES else ""
        kind = envelope.datacontenttype or payload.OCTETS
        return f"<{len(octets)} bytes {kind}: {octets[:_PREVIEW_BYTES].hex()}{more}>"
    text = _plain_text(envelope)
    if text is None:
        text = _one_line(payload.to_json(envelope.data)).decode()
    return escape(text)


def escape(text: str) -> str:
    """Return `text` with its control characters as JSON would write them."""
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def value_text(value: Any) -> str:
    """Return a decoded payload as text: text itself, anything else as JSON."""
    return value if isinstance(value, str) else payload.to_json(value).decode()


def highlight(text: str) -> str:
    """Return JSON text with colours."""
    return _JSON_PART.sub(
        lambda match: click.style(match[0], fg=_COLOURS[match.lastgroup or "text"]), text
    )


def _coloured_payload(envelope: Envelope) -> str:
    text = payload_text(envelope)
    if envelope.data is UNSET:
        return text
    is_json = not payload.is_octets(envelope.data) and _plain_text(envelope) is None
    return highlight(text) if is_json else text


def _plain_text(envelope: Envelope) -> str | None:
    """Return the payload when it is text, not JSON; else `None`."""
    if type(envelope.data) is Raw and payload.is_json(envelope.datacontenttype):
        return None
    try:
        value = envelope.decode()
    except DecodeError:
        return None
    return value if isinstance(value, str) else None


def _whole_payload(envelope: Envelope) -> str:
    if envelope.data is not UNSET and payload.is_octets(envelope.data):
        document = msgspec.json.decode(jsonformat.encode(envelope), type=dict[str, Any])
        return document["data_base64"]
    return payload_bytes(envelope).decode()


def _one_line(document: bytes) -> bytes:
    """Return JSON without the line breaks that its writer may have put between its tokens."""
    if b"\n" not in document and b"\r" not in document:
        return document
    return msgspec.json.format(document, indent=-1)


def _csv_row(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _attribute(value: Any) -> str:
    return f"<{value.hex()}>" if isinstance(value, bytes) else escape(str(value))
