"""What client and hub tell each other in JSON: what is read, what is refused, what is agreed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from hms_bus.errors import FrameError
from hms_bus.ipc import session
from hms_bus.ipc.session import (
    PROTOCOL,
    Ask,
    ClientInfo,
    Failure,
    Farewell,
    HeadInfo,
    Hello,
    Limits,
    LogInfo,
    Read,
    Subscribe,
    Welcome,
    agree,
    from_json,
    object_from_json,
    to_json,
)

STRUCTS = (Hello, Welcome, Failure, Farewell, Subscribe, Read, Ask)
HELLO = Hello(
    protocol=(1, 1), envelope="1.0", codecs=["json"], client=ClientInfo(name="small", pid=1)
)
VALUES: list[Struct] = [
    HELLO,
    Hello(
        protocol=(1, 4),
        envelope="1.0",
        codecs=["cbor", "json"],
        client=ClientInfo(name="", sdk="small/1"),
        token="t",
        log="memory:",
        schemas={"hms.orders": "1.2"},
    ),
    Welcome(
        protocol=1,
        envelope="1.0",
        codecs=["json"],
        hub=session.HubInfo(name="a", pid=1, version="1", started_ns=2**62, instance="i"),
        client=9,
        limits=Limits(heartbeat_s=0.25),
        log=LogInfo(url="memory:", identity="1", capabilities=["log-batch"]),
    ),
    Failure(code="ABORTED", message="m", reason="conflict", retryable=True, details={"a": [1]}),
    Farewell(),
    Farewell(reason="the hub ends"),
    Subscribe(subscription=0, pattern=">"),
    Subscribe(subscription=2**32 - 1, pattern="a", group="g", overflow="block", credit=0),
    Subscribe(subscription=1, pattern="a", answers=False, overflow="error"),
    Read(),
    Read(pattern="a", first=0, since_ns=-(2**63), types=["t"], backwards=True, credit=0),
    Ask(op="verify", expected=HeadInfo(position=0, hash="00", recorded_ns=0)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_read(value: Struct) -> None:
    assert from_json(to_json(value), type(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_unknown_members_are_ignored(value: Struct) -> None:
    members = msgspec.json.decode(to_json(value)) | {"later": {"a": [None, 1.5, "x"]}}
    assert from_json(msgspec.json.encode(members), type(value)) == value


def test_members_at_their_default_are_not_sent() -> None:
    assert to_json(Farewell()) == b"{}"
    assert to_json(Read()) == b"{}"
    assert to_json(Subscribe(subscription=1, pattern="a")) == b'{"subscription":1,"pattern":"a"}'


def test_what_is_read_has_defaults() -> None:
    failure = from_json(b'{"code":"UNKNOWN","message":"m"}', Failure)
    assert (failure.reason, failure.retryable, failure.details) == ("internal", False, {})
    wanted = from_json(b'{"subscription":1,"pattern":"a"}', Subscribe)
    assert (wanted.answers, wanted.overflow, wanted.credit) == (True, "drop_newest", None)


def hello(**members: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(HELLO) | members)


@pytest.mark.parametrize(
    ("document", "wanted", "says"),
    [
        (hello(protocol=[1]), Hello, "protocol"),
        (hello(protocol=[1, 2**32]), Hello, "protocol"),
        (hello(protocol=[-1, 1]), Hello, "protocol"),
        (hello(codecs=[]), Hello, "codecs"),
        (hello(client={}), Hello, "client"),
        (b'{"subscription":4294967296,"pattern":"a"}', Subscribe, "subscription"),
        (b'{"subscription":-1,"pattern":"a"}', Subscribe, "subscription"),
        (b'{"subscription":1,"pattern":"a","overflow":"block"}', Subscribe, "credit"),
        (b'{"subscription":1,"pattern":"a","overflow":"explode"}', Subscribe, "overflow"),
        (b'{"first":9223372036854775808}', Read, "first"),
        (b'{"limit":-1}', Read, "limit"),
        (b'{"since_ns":-9223372036854775809}', Read, "since_ns"),
        (b'{"first":' + b"9" * 5000 + b"}", Read, "first"),
        (b'{"credit":4294967296}', Read, "credit"),
        (b"{}", Ask, "op"),
        (b'{"op":"verify","expected":{"position":-1}}', Ask, "expected"),
    ],
)
def test_what_cannot_be_is_refused(document: bytes, wanted: type[Struct], says: str) -> None:
    with pytest.raises(FrameError, match=says) as caught:
        from_json(document, wanted)
    assert caught.value.reason == "bad-frame"


@pytest.mark.parametrize("depth", [65, 999, 2000, 100_000])
def test_what_is_nested_deep_is_refused(depth: int) -> None:
    """It would be written again where the stack is deeper, and fail there."""
    deep = b"[" * depth + b"]" * depth
    failure = b'{"code":"UNKNOWN","message":"m","details":{"a":' + deep + b"}}"
    for wanted in (Failure, Farewell):
        with pytest.raises(FrameError):
            from_json(failure, wanted)
    with pytest.raises(FrameError):
        object_from_json(failure)


def test_what_is_nested_a_little_is_read() -> None:
    deep = b"[" * 62 + b"]" * 62
    failure = from_json(b'{"code":"A","message":"m","details":{"a":' + deep + b"}}", Failure)
    assert from_json(to_json(failure), Failure) == failure


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b"1", b"{", b"{}{}", b"\xff", b'"\xff"'])
def test_what_is_no_object_is_refused(document: bytes) -> None:
    for wanted in STRUCTS:
        with pytest.raises(FrameError, match=f"no {wanted.__name__.lower()}: "):
            from_json(document, wanted)
    with pytest.raises(FrameError, match="no object: "):
        object_from_json(document)


@given(members=st.dictionaries(st.text(), st.integers(-(2**63), 2**64 - 1) | st.text()))
def test_any_object_is_read_where_any_will_do(members: dict[str, Any]) -> None:
    assert object_from_json(to_json(members)) == members


@given(document=st.binary(max_size=100), wanted=st.sampled_from(STRUCTS))
def test_garbage_is_refused_or_read(document: bytes, wanted: type[Struct]) -> None:
    try:
        from_json(document, wanted)
    except FrameError as error:
        assert error.reason == "bad-frame"  # noqa: PT017 - some of it may be fine


VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(data=st.data(), value=st.sampled_from(VALUES))
def test_members_of_any_type_are_refused_or_read(data: st.DataObject, value: Struct) -> None:
    """What is read can be written, and is the same when it is read again."""
    members: dict[str, Any] = msgspec.to_builtins(value)
    names = st.sampled_from(value.__struct_fields__)
    wrong = data.draw(st.dictionaries(names, VALUE, max_size=2))
    try:
        read = from_json(to_json(members | wrong), type(value))
    except (FrameError, OverflowError):  # the latter: no integer that JSON's writer knows
        return
    assert from_json(to_json(read), type(value)) == read


@pytest.mark.parametrize(
    ("lowest", "highest", "agreed"),
    [(1, 1, 1), (1, 9, 1), (0, 1, 1), (0, 0, None), (2, 2, None), (7, 9, None), (2, 1, None)],
)
def test_the_highest_version_that_both_know(lowest: int, highest: int, agreed: int | None) -> None:
    assert PROTOCOL == (1, 1)
    assert agree(lowest, highest) == agreed


def test_as_many_subscriptions_as_a_deliver_can_count() -> None:
    assert Limits().max_subscriptions == 2**16 - 1
