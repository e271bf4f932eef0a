"""The vectors of spec/vectors/ipc-*.json: what is written, what is read, and what is refused."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.errors import FrameError
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import (
    KINDS,
    MAX_FRAME,
    MAX_HELLO,
    read_frame,
    read_stream,
    write_frame,
)
from tests.support.ipc_sessions import agrees
from tests.support.ipc_vectors import (
    FrameVector,
    RefusedStream,
    Session,
    load_frames,
    load_refused_streams,
    load_sessions,
)

VECTORS = load_frames()
KNOWN = [vector for vector in VECTORS if vector.kind]
IGNORED = [vector for vector in VECTORS if not vector.kind]
REFUSED = load_refused_streams()
SESSIONS = load_sessions()
PING = b"\0\0\0\x09\x04" + bytes(8)
SECOND = ("length-0-second", "length-4-gib-second")
STREAM = b"".join(vector.stream for vector in VECTORS)


def name_of(vector: FrameVector | RefusedStream | Session) -> str:
    return vector.name


def opened(vector: FrameVector) -> bool:
    return vector.kind not in {"HELLO", "WELCOME"}


def fed(*chunks: bytes) -> list[bytes]:
    """What a reader makes of chunks."""
    reader = FrameReader(MAX_FRAME)
    found = [frame for chunk in chunks for frame in reader.feed(chunk)]
    assert reader.held == 0
    return found


# -- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", KNOWN, ids=name_of)
def test_a_frame_is_written_to_the_byte(vector: FrameVector) -> None:
    assert write_frame(vector.kind, vector.content) == vector.stream


@pytest.mark.parametrize("vector", KNOWN, ids=name_of)
def test_a_frame_is_read(vector: FrameVector) -> None:
    [read] = read_stream(vector.stream, vector.sender, opened=opened(vector))
    assert (read.kind, read.content) == (vector.kind, vector.content)


SPELLED_OTHERWISE = [vector for vector in KNOWN if vector.others]


@pytest.mark.parametrize("vector", SPELLED_OTHERWISE, ids=name_of)
def test_each_spelling_is_read_as_the_same(vector: FrameVector) -> None:
    [read] = read_stream(vector.stream, vector.sender, opened=opened(vector))
    for other in vector.others:
        [same] = read_stream(other, vector.sender, opened=opened(vector))
        assert same.value == read.value
        assert same.content | {"json": None} == read.content | {"json": None}


@pytest.mark.parametrize("vector", IGNORED, ids=name_of)
def test_an_optional_kind_is_ignored(vector: FrameVector) -> None:
    assert read_stream(vector.stream, vector.sender, opened=True) == []


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_a_frame_is_read_wherever_it_is_cut(vector: FrameVector) -> None:
    stream = vector.stream
    for cut in range(len(stream) + 1):
        assert fed(stream[:cut], stream[cut:]) == [stream[4:]]
    assert fed(*(stream[at : at + 1] for at in range(len(stream)))) == [stream[4:]]


def test_all_frames_are_read_in_one_piece_and_byte_by_byte() -> None:
    contents = [vector.stream[4:] for vector in VECTORS]
    assert fed(STREAM) == contents
    assert fed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == contents
    for size in (2, 3, 4, 5, 7, 64, 4095, 4096, 4097):
        assert fed(*(STREAM[at : at + size] for at in range(0, len(STREAM), size))) == contents


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=60))
def test_all_frames_are_read_however_they_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = (STREAM[start:stop] for start, stop in pairwise(edges))
    assert fed(*chunks) == [vector.stream[4:] for vector in VECTORS]


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", REFUSED, ids=name_of)
def test_a_stream_is_refused_for_its_reason(refused: RefusedStream) -> None:
    with pytest.raises(FrameError) as caught:
        read_stream(refused.stream, refused.sender, opened=refused.opened)
    assert caught.value.reason == refused.reason
    assert str(caught.value)


@pytest.mark.parametrize("refused", REFUSED, ids=name_of)
def test_a_stream_is_refused_when_it_comes_byte_by_byte(refused: RefusedStream) -> None:
    reader = reader_of(refused)
    with pytest.raises(FrameError) as caught:
        read_in_pieces(reader, refused)
    assert caught.value.reason == refused.reason
    assert reader.held == 0


def reader_of(refused: RefusedStream) -> FrameReader:
    is_hello = refused.sender == "client" and not refused.opened
    return FrameReader(MAX_HELLO if is_hello else MAX_FRAME)


def read_in_pieces(reader: FrameReader, refused: RefusedStream) -> None:
    for chunk in in_pieces(refused.stream):
        for content in reader.feed(chunk):
            read_frame(content, refused.sender, opened=refused.opened)


def in_pieces(stream: bytes) -> Iterator[bytes]:
    """The first and the last bytes one by one; a few streams are long."""
    for at in range(min(len(stream), 1000)):
        yield stream[at : at + 1]
    yield stream[1000:-1000]
    for at in range(max(len(stream) - 1000, 1000), len(stream)):
        yield stream[at : at + 1]


def test_a_length_is_refused_as_soon_as_it_is_there() -> None:
    lengths = [refused for refused in REFUSED if refused.name.startswith("length-")]
    for refused in lengths:
        reader = reader_of(refused)
        behind = len(PING) if refused.name.startswith(SECOND) else 0
        assert len(reader.feed(refused.stream[: behind + 3])) == (behind > 0)
        with pytest.raises(FrameError) as caught:
            reader.feed(refused.stream[behind + 3 : behind + 4])
        assert caught.value.reason == refused.reason
    assert len(lengths) > 10


# -- conversations -----------------------------------------------------------------------------


@pytest.mark.parametrize("session", SESSIONS, ids=name_of)
def test_a_conversation_consists_of_frames(session: Session) -> None:
    """Whoever gets a frame reads what the vector says."""
    said: set[str] = set()
    for step in session.steps:
        if step.closes:
            continue
        line = f"{step.connection}/{step.sender}"
        found = read_stream(
            step.stream, step.sender, opened=line in said or session.name == "no-hello"
        )
        said.add(line)
        assert [frame.kind for frame in found] == ([step.kind] if step.kind else [])
        assert all(agrees(step.content, frame.content) for frame in found)


@pytest.mark.parametrize("session", SESSIONS, ids=name_of)
def test_a_conversation_is_read_wherever_a_line_is_cut(session: Session) -> None:
    lines = {(step.connection, step.sender) for step in session.steps}
    for line in lines:
        steps = [s for s in session.steps if (s.connection, s.sender) == line and not s.closes]
        stream = b"".join(step.stream for step in steps)
        contents = [step.stream[4:] for step in steps]
        for cut in range(len(stream) + 1):
            assert fed(stream[:cut], stream[cut:]) == contents


# -- what there is -----------------------------------------------------------------------------


def test_there_are_vectors_of_every_kind() -> None:
    per_kind = Counter(vector.kind for vector in KNOWN)
    assert set(per_kind) == KINDS
    assert {kind for kind, count in per_kind.items() if count < 2} <= {"END", "STOP", "GONE"}
    assert {vector.sender for vector in IGNORED} == {"client", "hub"}


def test_every_kind_is_refused_for_something() -> None:
    """Whatever follows the kind of an ERROR is an error, and of a FORGET an address."""
    names = " ".join(vector.name for vector in REFUSED)
    never = {kind for kind in KINDS if not re.search(rf"\b{kind.lower()}-", names)}
    assert never == {"ERROR"}
    reasons = Counter(refused.reason for refused in REFUSED)
    assert set(reasons) == {"bad-frame", "frame-too-large", "no-hello"}
    assert len(REFUSED) > 400


def test_the_names_are_unique() -> None:
    everything: list[Any] = [*VECTORS, *REFUSED, *SESSIONS]
    names = Counter(vector.name for vector in everything)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_conversations_show_every_kind() -> None:
    """But WINDOW, which a hub sends when it likes."""
    shown = {step.kind for session in SESSIONS for step in session.steps}
    assert KINDS - shown == {"WINDOW"}
