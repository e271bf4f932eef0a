"""What `--remap` makes of a record."""

import pytest

from hms_bus import Envelope
from hms_bus.replay.renaming import Renaming
from tests.support.runs import answered, recorded, said

REMAP = {"old": "new", "/agents/a": "/agents/b"}


def renamed(envelope: Envelope) -> Envelope:
    [record] = recorded([envelope])
    return Renaming(REMAP).record(record).envelope


def test_a_topic_is_renamed_with_the_type_that_is_its_name_and_its_replies() -> None:
    request = said("old", 1)
    reply = answered(request, 2, by="/agents/c")
    assert (renamed(request).topic, renamed(request).type) == ("new", "new")
    assert (renamed(reply).topic, renamed(reply).type) == ("$reply.new", "$reply.new")
    assert renamed(said("old", 1, type="order.v1")).type == "order.v1"
    assert renamed(said("other", 1)).topic == "other"


@pytest.mark.parametrize(
    ("source", "new"),
    [
        ("/agents/a", "/agents/b"),
        ("/agents/a/0123abcd", "/agents/b"),
        ("/agents/c/0123abcd", "/agents/c/0123abcd"),
    ],
)
def test_an_agent_is_renamed_with_and_without_random_digits(source: str, new: str) -> None:
    assert renamed(said("topic", by=source)).source == new
