"""Parquet: records as the rows of a table, for tools that analyse.

The columns of the attributes are there to be asked; `event` holds the whole event in the
CloudEvents JSON format, and is what is imported.
"""

from collections.abc import Iterator
from typing import IO, Any

from hms_bus import jsonformat
from hms_bus.abc import Record
from hms_bus.errors import DecodeError, UsageError
from hms_bus.log.chain import cut
from hms_bus.log.tools.extras import need
from hms_bus.log.tools.streams import Counted

_EXTRA = {"extra": "parquet", "purpose": "Parquet"}
_ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 16 * 2**20
_ATTRIBUTES = (
    "topic", "type", "source", "id", "time", "subject",
    "correlationid", "causationid", "datacontenttype",
)  # fmt: skip
_DATA = b',"data":'


class ParquetWriter:
    """Writes records as rows, in groups; see `hms_bus.log.tools.forms.RecordWriter`."""

    def __init__(self, out: IO[bytes]) -> None:
        arrow = self._arrow = need("pyarrow", **_EXTRA)
        text = [(name, arrow.string()) for name in (*_ATTRIBUTES, "data", "event")]
        self._schema = arrow.schema(
            [("position", arrow.int64()), ("recorded", arrow.timestamp("ns", tz="UTC")), *text]
        )
        self._writer = need("pyarrow.parquet", **_EXTRA).ParquetWriter(
            Counted(out), self._schema, compression="zstd"
        )
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def write(self, record: Record) -> None:
        """Take the next record."""
        document = jsonformat.encode(record.envelope)
        data = document[cut(document) : -1]
        attributes = [getattr(record.envelope, name) for name in _ATTRIBUTES]
        self._rows.append(
            (
                record.position,
                record.recorded_ns,
                *attributes,
                data[len(_DATA) :].decode() if data.startswith(_DATA) else None,
                document.decode(),
            )
        )
        self._bytes += len(document)
        if len(self._rows) >= _ROWS_AT_ONCE or self._bytes >= _BYTES_AT_ONCE:
            self._write_rows()

    def finish(self) -> None:
        """Write what is left, and the directory of the file."""
        self._write_rows()
        self._writer.close()

    def _write_rows(self) -> None:
        if self._rows:
            columns = [
                self._arrow.array(values, field.type)
                for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
            self._rows = []
            self._bytes = 0


def read_parquet(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the column `event`, row by row.

    Raises `UsageError` for a pipe: the directory of a Parquet file is at its end. `DecodeError`.
    """
    if not source.seekable():
        raise UsageError("a Parquet file is read from its end, a pipe has none: name a file")
    parquet = need("pyarrow.parquet", **_EXTRA)
    failures = need("pyarrow", **_EXTRA).ArrowException, ValueError, OSError, KeyError
    try:
        file = parquet.ParquetFile(source)
        if "event" not in file.schema_arrow.names:
            raise DecodeError("this Parquet file has no column `event`", reason="malformed")
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=["event"]):
            for value in batch.column(0):
                yield str(value.as_py()).encode()
    except failures as error:
        raise DecodeError(
            f"this is no Parquet file, or damaged: {error}", reason="malformed"
        ) from error
