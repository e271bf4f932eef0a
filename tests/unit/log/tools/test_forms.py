"""CloudEvents batches, MCAP and Parquet: what is written is read again, and by others."""

import importlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader

from hms_bus import jsonformat, new_envelope
from hms_bus.abc import Record
from hms_bus.errors import ConfigError, DecodeError, UsageError
from hms_bus.log.tools import mcapfile, parquetfile
from hms_bus.log.tools.forms import Elements, Form, open_writer, read_documents

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

FORMS: tuple[Form, ...] = ("batch", "mcap", "parquet")
TEXT = 'brackets ]},{" and \\ quotes'
RECORDS = [
    Record(position=n, recorded_ns=1769860800000000000 + n, envelope=envelope)
    for n, envelope in enumerate(
        [
            new_envelope("a.b", {"text": TEXT}, source="/x", subject="s"),
            new_envelope("a.c", bytes(range(256)), source="/x", extensions={"ours": 7}),
            new_envelope("a.c", source="/y"),
            new_envelope("a.b", ["ü", [1, 2], {}], source="/y", correlationid="c"),
        ],
        start=1,
    )
]
DOCUMENTS = [jsonformat.encode(record.envelope) for record in RECORDS]


class Pipe(io.RawIOBase):
    """A stream that goes forwards only."""

    def __init__(self, content: bytes = b"") -> None:
        self.written = bytearray()
        self._content = io.BytesIO(content)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def readinto(self, room: "WriteableBuffer", /) -> int:
        return self._content.readinto(room)

    def write(self, octets: "ReadableBuffer", /) -> int:
        self.written += bytes(octets)
        return memoryview(octets).nbytes


def written(form: Form, records: Sequence[Record] = RECORDS) -> bytes:
    pipe = Pipe()
    writer = open_writer(form, pipe)  # type: ignore[arg-type]
    for record in records:
        writer.write(record)
    writer.finish()
    return bytes(pipe.written)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_what_is_written_is_read_again(form: Form, count: int) -> None:
    content = written(form, RECORDS[:count])
    assert [*read_documents(form, io.BytesIO(content))] == DOCUMENTS[:count]


@pytest.mark.parametrize("form", ["batch", "mcap"])
def test_a_pipe_is_read(form: Form) -> None:
    source: IO[bytes] = Pipe(written(form))  # type: ignore[assignment]
    assert [*read_documents(form, source)] == DOCUMENTS


def test_parquet_says_why_it_cannot_come_from_a_pipe() -> None:
    source: IO[bytes] = Pipe(written("parquet"))  # type: ignore[assignment]
    with pytest.raises(UsageError, match="from its end"):
        list(read_documents("parquet", source))


def test_a_batch_is_the_cloudevents_batch_format() -> None:
    assert json.loads(written("batch")) == [json.loads(document) for document in DOCUMENTS]
    assert json.loads(written("batch", [])) == []


def test_mcap_is_read_by_its_own_library() -> None:
    reader = make_reader(io.BytesIO(written("mcap")), validate_crcs=True)
    found = [
        (channel.topic, message.sequence, message.log_time, message.data)
        for _, channel, message in reader.iter_messages()
    ]
    assert found == [
        (record.envelope.topic, record.position, record.recorded_ns, document)
        for record, document in zip(RECORDS, DOCUMENTS, strict=True)
    ]


def test_parquet_has_columns_to_ask() -> None:
    # It has no types.
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(written("parquet")))
    assert table.column("position").to_pylist() == [1, 2, 3, 4]
    assert table.column("topic").to_pylist() == ["a.b", "a.c", "a.c", "a.b"]
    assert table.column("correlationid").to_pylist() == [None, None, None, "c"]
    payloads = [
        None if text is None else json.loads(text) for text in table.column("data").to_pylist()
    ]
    assert payloads == [{"text": TEXT}, None, None, ["ü", [1, 2], {}]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_what_is_damaged_is_refused(form: Form, damage: str) -> None:
    content = written(form)
    content = {"cut": content[: len(content) // 2], "garbage": b"x" * 100, "empty": b""}[damage]
    with pytest.raises(DecodeError):
        list(read_documents(form, io.BytesIO(content)))


@pytest.mark.parametrize(
    "text",
    ['{"a":1}', "[1,]", "[,1]", "[1] 2", "x[1]", "[1", '["a', "", "[1]]", "7", '"a"', "[1]x"],
)
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        list(read_documents("batch", io.BytesIO(text.encode())))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},\n ü'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='a"\\]'), inner),
    max_leaves=8,
)


@given(
    values=st.lists(json_values, max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8),
)
def test_an_array_is_cut_the_same_whatever_chunks_it_comes_in(
    values: list[object], indent: int | None, sizes: list[int]
) -> None:
    content = json.dumps(values, indent=indent).encode()
    elements = Elements()
    found: list[bytes] = []
    at = turn = 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        found += elements.feed(content[at : at + size])
        at, turn = at + size, turn + 1
    elements.end()
    assert [json.loads(element) for element in found] == values


def test_a_long_text_is_looked_at_once() -> None:
    """Looking at it anew with each chunk would take longer than a test may."""
    text = json.dumps('\\"x' * 4_000_000).encode()
    content = b'[{"data":' + text + b"}, 7]"
    elements = Elements()
    found: list[bytes] = []
    for at in range(0, len(content), 1009):
        found += elements.feed(content[at : at + 1009])
    elements.end()
    assert found == [b'{"data":' + text + b"}", b"7"]


def test_parquet_writes_large_rows_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    monkeypatch.setattr(parquetfile, "_BYTES_AT_ONCE", 2 * max(map(len, DOCUMENTS)))
    content = written("parquet", RECORDS * 4)
    assert parquet.ParquetFile(io.BytesIO(content)).num_row_groups > 2
    assert [*read_documents("parquet", io.BytesIO(content))] == DOCUMENTS * 4


def test_mcap_says_that_it_has_no_room_for_so_many_topics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcapfile, "_MOST_CHANNELS", 2)
    assert len([*read_documents("mcap", io.BytesIO(written("mcap")))]) == len(RECORDS)
    third = Record(position=5, recorded_ns=1, envelope=new_envelope("a.d", source="/x"))
    with pytest.raises(UsageError, match="room for 2 topics"):
        written("mcap", [*RECORDS, third])


@pytest.mark.parametrize(("form", "module"), [("mcap", "mcap"), ("parquet", "pyarrow")])
def test_without_the_extra_the_error_names_it(
    form: Form, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = {name for name in sys.modules if name.partition(".")[0] == module}
    for name in {module, *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"hms-bus\[{form}\]"):
        open_writer(form, io.BytesIO())
    with pytest.raises(ConfigError, match=rf"hms-bus\[{form}\]"):
        list(read_documents(form, io.BytesIO()))
