"""Events in the files of others: CloudEvents batches, MCAP, Parquet.

A writer takes records one by one and writes to a stream that need not seek. A reader yields
documents, one CloudEvent in the JSON format each, for `hms_bus.log.transfer.import_lines`: what is
none is refused there. MCAP and Parquet need the extra of that name (`ConfigError` without it).
All of it blocks.
"""

import re
from collections.abc import Iterator
from typing import IO, Literal, Protocol

from hms_bus import jsonformat
from hms_bus.abc import Record
from hms_bus.errors import DecodeError
from hms_bus.log.tools.mcapfile import McapWriter, read_mcap
from hms_bus.log.tools.parquetfile import ParquetWriter, read_parquet

Form = Literal["batch", "mcap", "parquet"]

_CHUNK_BYTES = 256 * 1024


class RecordWriter(Protocol):
    """Writes records to a stream."""

    def write(self, record: Record) -> None:
        """Take the next record."""
        ...

    def finish(self) -> None:
        """Write what makes the file whole. Without it the file cannot be read."""
        ...


def open_writer(form: Form, out: IO[bytes]) -> RecordWriter:
    """Return what writes records to `out`. Raises `ConfigError` when an extra is not installed."""
    if form == "mcap":
        return McapWriter(out)
    if form == "parquet":
        return ParquetWriter(out)
    return BatchWriter(out)


def read_documents(form: Form, source: IO[bytes]) -> Iterator[bytes]:
    """Yield the events of `source`; a Parquet file must be able to seek.

    Raises `DecodeError` for what is not of that form, `ConfigError`, `UsageError`, `OSError`.
    """
    if form == "mcap":
        return read_mcap(source)
    if form == "parquet":
        return read_parquet(source)
    return read_batch(source)


class BatchWriter:
    """Writes a JSON array of events, `application/cloudevents-batch+json`, one in a line."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._before = b"[\n"

    def write(self, record: Record) -> None:
        """Take the next record; its position and recorded time are not kept."""
        self._out.write(self._before + jsonformat.encode(record.envelope))
        self._before = b",\n"

    def finish(self) -> None:
        """Close the array."""
        self._out.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


def read_batch(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the elements of a JSON array, holding one chunk and one element at a time."""
    elements = Elements()
    while chunk := source.read(_CHUNK_BYTES):
        yield from elements.feed(chunk)
    elements.end()


class Elements:
    """Cuts a JSON array into its elements, whatever chunks it comes in.

    Only as much of the grammar is checked as the cutting needs; the elements are left to who reads
    them. All methods raise `DecodeError` for what is no array.
    """

    # Within a text nothing but its end counts, and a backslash takes the next octet with it.
    _INSIDE = rb'(?:[^"\\]++|\\.)*+'
    _TOKEN = re.compile(rb'"%b"|[\[\]{},]|"' % _INSIDE, re.DOTALL)
    _TEXT = re.compile(rb'%b("?)' % _INSIDE, re.DOTALL)

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned: int = 0
        self._is_in_text = False
        self._depth = 0
        self._is_over = False
        self._count = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the elements that `chunk` completes."""
        rest = self._rest
        rest += chunk
        if self._is_in_text:
            self._go_on_in_text()
        found: list[bytes] = []
        start: int = 0
        while not self._is_in_text and (match := self._TOKEN.search(rest, self._scanned)):
            token = match[0]
            if self._depth == 0 and (
                self._is_over or token != b"[" or rest[start : match.start()].strip()
            ):
                raise self._malformed()
            self._scanned = match.end()
            if token == b'"':
                self._is_in_text = True
            elif token in b"[{":
                self._depth += 1
                start = match.end() if self._depth == 1 else start
            elif token in b"]}" or (token == b"," and self._depth == 1):
                self._depth -= token != b","
                if self._depth == 0 or token == b",":
                    self._add(found, bytes(rest[start : match.start()]), is_last=token != b",")
                    start = match.end()
        if not self._is_in_text:
            self._scanned = len(rest)
        del rest[:start]
        self._scanned -= start
        if self._depth == 0 and rest.strip():
            raise self._malformed()
        return found

    def _go_on_in_text(self) -> None:
        """Look for the end of a text that began in an earlier chunk, each octet once."""
        if match := self._TEXT.match(self._rest, self._scanned):
            self._scanned = match.end()
            self._is_in_text = not match[1]

    def end(self) -> None:
        """Say that nothing follows."""
        if not self._is_over:
            raise DecodeError("the batch ends before its array does", reason="truncated")

    def _add(self, found: list[bytes], element: bytes, *, is_last: bool) -> None:
        self._is_over = is_last
        self._count += 1
        element = element.strip()
        if element:
            found.append(element)
        elif not (is_last and self._count == 1):
            raise self._malformed()

    def _malformed(self) -> DecodeError:
        return DecodeError("this is no batch of events, a JSON array", reason="malformed")
