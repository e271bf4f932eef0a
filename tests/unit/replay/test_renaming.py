"""What `--remap` makes of a record."""

import pytest

from hms_bus import Envelope
from hms_bus.replay.renaming import Renaming
from hms_bus.schedules import SCHEDULE, Schedule, make_schedule, schedule_record
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


def test_the_message_in_a_schedule_is_renamed() -> None:
    later = make_schedule(said("old", 1, by="/agents/a"), delay=1)
    record = renamed(schedule_record("named", "/agents/a/0123abcd", later))
    message = record.decode(Schedule).message()
    assert (record.topic, record.source) == ("$schedule.named", "/agents/b")
    assert (message.topic, message.type, message.source) == ("new", "new", "/agents/b")
    assert record.decode(Schedule).at == later.at
    odd = said("$schedule.odd", {"no": "schedule"}, by="/agents/c", type=SCHEDULE)
    assert renamed(odd) == odd
