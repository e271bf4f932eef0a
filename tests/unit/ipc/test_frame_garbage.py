"""Garbage and frames with faults: they are read, or refused with `FrameError`, and nothing else."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.errors import FrameError
from hms_bus.ipc import durables, frames
from hms_bus.ipc.frames import FrameReader
from tests.support.ipc_frames import MAX_FRAME, read_frame
from tests.support.ipc_vectors import load_frames, load_refused_streams

READERS: Sequence[Callable[[bytes], Any]] = (
    lambda content: frames.read_messages(content, 1),
    lambda content: frames.read_messages(content, 5),
    lambda content: frames.read_subscriptions(content, 1),
    lambda content: frames.read_subscriptions(content, 5),
    frames.read_u32,
    frames.read_call,
    frames.read_pair,
    frames.read_verdict,
    frames.read_answer,
    frames.read_ping,
    frames.read_returned,
    frames.read_window,
    frames.read_address,
    frames.read_append,
    frames.read_receipts,
    frames.read_credit,
    frames.read_records,
    durables.read_fetch,
    durables.read_deliveries,
    durables.read_settle,
    durables.read_release,
)
SENDERS = ("client", "hub")
GOOD = {
    sender: [vector.stream for vector in load_frames() if vector.sender == sender]
    for sender in SENDERS
}
BAD = [refused.stream for refused in load_refused_streams() if len(refused.stream) < 1000]
KINDS = sorted({stream[4] for streams in GOOD.values() for stream in streams})


def digest(stream: bytes, sizes: Sequence[int], sender: str, *, opened: bool) -> int:
    """Read a stream as a hub or a client would, up to its first fault; return how many frames.

    Raises whatever is no `FrameError`.
    """
    reader = FrameReader(MAX_FRAME)
    count = at = 0
    try:
        for size in [*sizes, len(stream)]:
            for content in reader.feed(stream[at : at + size]):
                read_frame(content, sender, opened=opened)
                opened = True
                count += 1
            at += size
    except FrameError as error:
        assert error.reason in {"bad-frame", "frame-too-large", "no-hello"}  # noqa: PT017 - any may come
    return count


@given(content=st.binary(min_size=1, max_size=200), reader=st.sampled_from(READERS))
def test_garbage_is_refused_or_read(content: bytes, reader: Callable[[bytes], Any]) -> None:
    try:
        reader(content)
    except FrameError as error:
        assert (error.reason, bool(str(error))) == ("bad-frame", True)  # noqa: PT017 - may be fine


@given(
    kind=st.sampled_from(KINDS),
    content=st.binary(max_size=200),
    sender=st.sampled_from(SENDERS),
)
def test_a_kind_with_garbage_is_refused_or_read(kind: int, content: bytes, sender: str) -> None:
    digest(frames.frame(kind, content), (), sender, opened=kind > frames.WELCOME)


@given(
    stream=st.binary(max_size=300),
    sizes=st.lists(st.integers(0, 50), max_size=10),
    sender=st.sampled_from(SENDERS),
    opened=st.booleans(),
)
def test_any_stream_is_refused_or_read(
    stream: bytes, sizes: list[int], sender: str, opened: bool
) -> None:
    digest(stream, sizes, sender, opened=opened)


@pytest.mark.parametrize("seed", range(8))
def test_mutated_frames_are_refused_or_read(seed: int) -> None:
    """A thousand streams of a few frames each, with a few faults each, cut anywhere."""
    chance = random.Random(seed)
    count = 0
    for _ in range(1000):
        sender = chance.choice(SENDERS)
        stream = b"".join(chance.choices(GOOD[sender], k=chance.randint(1, 4)))
        for _ in range(chance.randint(0, 4)):
            stream = mutated(stream, chance)
        sizes = [chance.randint(0, 1 + len(stream) // 2) for _ in range(chance.randint(0, 5))]
        count += digest(stream, sizes, sender, opened=chance.random() < 0.9)
    assert count > 500  # much of it is read: the faults are not at once in every frame


INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7B, 0x22)


def mutated(stream: bytes, chance: random.Random) -> bytes:
    """The stream with one fault."""
    if not stream:
        return chance.randbytes(8)
    at = chance.randrange(len(stream))
    end = chance.randint(at, min(len(stream), at + 40))
    match chance.randrange(8):
        case 0:
            return stream[:at] + bytes([stream[at] ^ 1 << chance.randrange(8)]) + stream[at + 1 :]
        case 1:
            return stream[:at] + bytes([chance.choice(INTERESTING)]) + stream[at + 1 :]
        case 2:
            return stream[:at] + chance.randbytes(chance.randint(1, 8)) + stream[at:]
        case 3:
            return stream[:at] + stream[end:]
        case 4:
            return stream[:end] + stream[at:end] + stream[end:]
        case 5:
            return stream[:at]
        case 6:
            number = chance.choice((0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, len(stream)))
            return stream[:at] + number.to_bytes(4) + stream[at + 4 :]
        case _:
            other = chance.choice(BAD)
            return stream[:at] + other[chance.randrange(len(other)) :]
