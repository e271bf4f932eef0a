"""Frames: cut from a stream in any pieces, written and read."""

import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.errors import FrameError
from hms_bus.ipc import frames
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
ADDRESS = st.binary(min_size=1, max_size=256)
ENVELOPES = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20)
REPLY = st.binary(max_size=256)
JSON = st.binary(max_size=300)


def content_of(whole: bytes) -> bytes:
    """The content of the one frame that these bytes are."""
    [content] = FrameReader(MAX_FRAME).feed(whole)
    return content


def entries(*fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(st.tuples(*fields), min_size=1, max_size=20)


# -- cutting -----------------------------------------------------------------------------------


@given(
    contents=st.lists(st.binary(min_size=1, max_size=9000), max_size=20),
    cuts=st.lists(st.integers(0, 2**20), max_size=30),
)
def test_frames_come_out_as_they_went_in(contents: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames.frame(content[0], content[1:]) for content in contents)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader(MAX_FRAME)
    found: list[bytes] = []
    for start, stop in pairwise(edges):
        found += reader.feed(stream[start:stop])
    assert (found, reader.held) == (contents, 0)
    assert all(type(content) is bytes for content in found)


def test_what_is_not_complete_is_held() -> None:
    reader = FrameReader(MAX_FRAME)
    assert (reader.feed(b""), reader.held) == ([], 0)
    assert (reader.feed(b"\0\0"), reader.held) == ([], 2)
    assert (reader.feed(b""), reader.held) == ([], 2)
    assert (reader.feed(b"\0\3ab"), reader.held) == ([], 6)
    assert (reader.feed(b"c\0\0\0\1d\0"), reader.held) == ([b"abc", b"d"], 1)


def test_a_frame_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert FrameReader(5).feed(b"\0\0\0\5abcde") == [b"abcde"]
    with pytest.raises(FrameError) as caught:
        FrameReader(5).feed(b"\0\0\0\6")
    assert caught.value.reason == "frame-too-large"


def test_the_limit_may_be_changed_on_the_way() -> None:
    reader = FrameReader(1)
    assert reader.feed(b"\0\0\0\1a") == [b"a"]
    reader.max_frame = 3
    assert reader.feed(b"\0\0\0\3abc") == [b"abc"]


@pytest.mark.parametrize(
    ("length", "reason"),
    [(0, "bad-frame"), (MAX_FRAME + 1, "frame-too-large"), (2**32 - 1, "frame-too-large")],
)
def test_a_bad_length_is_refused_with_its_fourth_byte(length: int, reason: str) -> None:
    reader = FrameReader(MAX_FRAME)
    first, last = length.to_bytes(4)[:3], length.to_bytes(4)[3:]
    assert reader.feed(first) == []
    with pytest.raises(FrameError) as caught:
        reader.feed(last)
    assert caught.value.reason == reason
    assert reader.held == 0


def test_a_claim_of_4_gib_takes_no_memory() -> None:
    """Not when it is refused, nor when a limit allows it and the bytes do not come."""
    reader = FrameReader(2**32 - 1)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="4294967295 bytes"):
            FrameReader(MAX_FRAME).feed(b"\xff\xff\xff\xff")
        assert reader.feed(b"\xff\xff\xff\xff\x11") == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert reader.held == 5


class CountingReader(FrameReader):
    """Counts the bytes that are looked through for frames."""

    looked_through = 0

    def _cut(self, data: bytes) -> list[bytes]:
        self.looked_through += len(data)
        return super()._cut(data)


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[at : at + size] for at in range(0, len(stream), size))


@pytest.mark.parametrize(
    ("frame_bytes", "piece_bytes"),
    [(MAX_FRAME, 65_536), (MAX_FRAME, 262_144), (2**20, 4096), (2**20, 1000), (2**17, 2)],
)
def test_a_big_frame_in_small_pieces_is_looked_through_once(
    frame_bytes: int, piece_bytes: int
) -> None:
    content = b"\x10" + bytes(frame_bytes - 1)
    reader = CountingReader(MAX_FRAME)
    found: list[bytes] = []
    for piece in pieces(frames.frame(content[0], content[1:]), piece_bytes):
        found += reader.feed(piece)
    assert found == [content]
    # Once when its length is read, in the first pieces, and once when it is complete.
    assert reader.looked_through <= frame_bytes + 4 + 2 * max(piece_bytes, 4)


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 100, 4095, 4096, 10_000])
def test_an_unfinished_frame_takes_little_more_than_its_bytes(piece_bytes: int) -> None:
    reader = FrameReader(MAX_FRAME)
    stream = frames.frame(0x10, bytes(2**18))[:-1]
    for piece in pieces(stream, piece_bytes):
        assert reader.feed(piece) == []
    assert reader.held == len(stream)
    assert sum(map(sys.getsizeof, reader._parts)) < 1.25 * reader.held


# -- round trips -------------------------------------------------------------------------------


@given(address=ADDRESS, reply_to=REPLY, envelopes=ENVELOPES, before=st.binary(max_size=30))
def test_messages(address: bytes, reply_to: bytes, envelopes: list[bytes], before: bytes) -> None:
    content = before + frames.messages(address, reply_to, envelopes)
    found = frames.read_messages(content, len(before))
    assert (found.address, found.reply_to) == (address, reply_to)
    assert frames.envelopes_of(content, found) == envelopes
    assert found.count == len(envelopes)
    assert frames.address_head(address, reply_to) == content[len(before) : found.first]


@given(subscriptions=st.lists(U32, max_size=100), ask=U32, block=st.binary(max_size=50))
def test_subscriptions(subscriptions: list[int], ask: int, block: bytes) -> None:
    content = frames.deliver_head(subscriptions) + block
    expected = tuple(subscriptions), len(content) - len(block)
    assert content[0] == frames.DELIVER
    assert frames.read_subscriptions(content, 1) == expected
    offered = content_of(frames.offer(ask, subscriptions, block))
    assert (offered[0], frames.read_u32(offered)) == (frames.OFFER, ask)
    numbers, at = frames.read_subscriptions(offered, 5)
    assert (list(numbers), offered[at:]) == (subscriptions, block)


@given(call=U32, number=U32, document=JSON)
def test_calls(call: int, number: int, document: bytes) -> None:
    assert frames.read_pair(content_of(frames.done(call, number))) == (call, number)
    with_json = content_of(frames.call_frame(frames.FAILED, call, document))
    assert (frames.read_u32(with_json), with_json[5:]) == (call, document)
    assert frames.read_call(content_of(frames.call_frame(frames.END, call))) == call


@given(call=U32, document=JSON, more=st.booleans())
def test_answers_and_verdicts(call: int, document: bytes, more: bool) -> None:
    answer = content_of(frames.answer(call, document, more=more))
    assert (answer[0], frames.read_answer(answer)) == (frames.ANSWER, (call, more, document))
    refused = content_of(frames.verdict(call, document))
    assert frames.read_verdict(refused) == (call, False, document)
    assert frames.read_verdict(content_of(frames.verdict(call, None))) == (call, True, b"{}")


@given(reason=st.integers(0, 255), address=ADDRESS, envelopes=ENVELOPES)
def test_returned(reason: int, address: bytes, envelopes: list[bytes]) -> None:
    content = content_of(frames.returned(reason, frames.messages(address, b"", envelopes)))
    read, found = frames.read_returned(content)
    assert (read, found.address, frames.envelopes_of(content, found)) == (
        reason,
        address,
        envelopes,
    )


@given(window=U32, address=ADDRESS)
def test_windows(window: int, address: bytes) -> None:
    content = content_of(frames.window(window, address))
    assert frames.read_window(content) == (window, address)
    assert frames.read_address(content_of(frames.frame(frames.GONE, address))) == address


@given(
    call=U32,
    flags=st.integers(0, 255),
    expect=st.integers(-1, 2**63 - 1),
    blocks=st.lists(st.binary(max_size=300), min_size=1, max_size=20),
)
def test_appending(call: int, flags: int, expect: int, blocks: list[bytes]) -> None:
    content = content_of(frames.append(call, flags, expect, blocks))
    assert frames.read_append(content) == (call, flags, expect, blocks)


@given(listed=entries(U32, U64, st.integers(0, 255)))
def test_receipts(listed: list[tuple[int, int, int]]) -> None:
    assert frames.read_receipts(content_of(frames.receipts(listed))) == listed


@given(call=U32, listed=entries(U64, U64, st.binary(min_size=1, max_size=300)))
def test_records(call: int, listed: list[tuple[int, int, bytes]]) -> None:
    assert frames.read_records(content_of(frames.records(call, listed))) == (call, listed)


@given(listed=entries(U32, U32, U32))
def test_credit(listed: list[tuple[int, int, int]]) -> None:
    assert frames.read_credit(content_of(frames.credit(listed))) == listed
