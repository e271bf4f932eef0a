"""Heads as documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_bus.abc import Head
from hms_bus.errors import DecodeError
from hms_bus.log import format_head, parse_head

heads = st.builds(
    Head,
    position=st.integers(0, 2**63 - 1),
    hash=st.binary(min_size=32, max_size=32),
    recorded_ns=st.integers(0, 2**63 - 1),
)


@given(head=heads)
def test_a_head_survives_being_written_down(head: Head) -> None:
    assert parse_head(format_head(head)) == head
    assert format_head(head).endswith(b"}\n")


def test_members_of_a_later_version_are_ignored() -> None:
    document = format_head(Head(position=1, hash=bytes(32), recorded_ns=2)).strip()
    assert parse_head(document[:-1] + b',"signature":"AAAA"}').position == 1


SOUND = '{"format":"hms-bus-head/1","position":1,"hash":"%s","recorded_ns":5}'


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "malformed"),
        (b"head", "malformed"),
        (b"\xff", "malformed"),
        (b"[]", "wrong-type"),
        ((SOUND % ("0" * 63)).encode(), "wrong-type"),
        ((SOUND % ("G" * 64)).encode(), "wrong-type"),
        ((SOUND % ("0" * 64)).replace("head/1", "head/2").encode(), "wrong-type"),
        ((SOUND % ("0" * 64)).replace('"position":1', '"position":-1').encode(), "wrong-type"),
        ((SOUND % ("0" * 64)).replace('"position":1,', "").encode(), "wrong-type"),
    ],
)
def test_what_is_no_head_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match="no head of a log") as error:
        parse_head(document)
    assert error.value.reason == reason
