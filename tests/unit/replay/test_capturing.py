"""What is captured: ordinals that outlive a handler, and messages that are sent later."""

import pytest

from hms_bus import Envelope
from hms_bus.replay.capturing import Capture, Turns
from hms_bus.replay.naming import derived_id
from hms_bus.schedules import SCHEDULE, make_schedule, schedule_record
from tests.support.runs import said


@pytest.fixture
def outputs() -> list[Envelope]:
    return []


@pytest.fixture
def capture(outputs: list[Envelope]) -> Capture:
    made = Capture(Turns(), lambda _: 1_000_000_000)
    made.on_output = outputs.append
    return made


def test_the_latest_causes_and_what_nothing_has_caused_are_counted_on() -> None:
    turns = Turns()
    turns.next(None, "/a", "")
    turns.next("first", "/a", "")
    assert turns.next("first", "/a", "") == 1
    assert turns.next("first", "/b", "") == 0
    for number in range(10_000):
        turns.next(str(number), "/a", "")
    assert turns.next("9999", "/a", "") == 1
    assert turns.next(None, "/a", "") == 1
    assert turns.next("first", "/a", "") == 0


def test_of_what_is_sent_later_the_message_is_the_output(
    capture: Capture, outputs: list[Envelope]
) -> None:
    cause = said("go")
    message = said("later", 1, by="/agents/a", cause=cause)
    for name in (None, "named"):
        capture.take(schedule_record(name, "/agents/a", make_schedule(message, delay=1)))
    assert [output.topic for output in outputs] == ["later", "later"]
    assert [output.causationid for output in outputs] == [cause.id, cause.id]
    assert [output.id for output in outputs] == [
        derived_id("/agents/a", cause.id, ordinal) for ordinal in (0, 1)
    ]


def test_a_schedule_that_comes_again_or_ends_is_no_output(
    capture: Capture, outputs: list[Envelope]
) -> None:
    daily = make_schedule(said("later", 1), cron="0 0 * * *")
    capture.take(schedule_record("daily", "/agents/a", daily))
    capture.take(schedule_record("daily", "/agents/a", None))
    capture.take(said("$schedule.odd", {"no": "schedule"}, type=SCHEDULE))
    assert (outputs, capture.count) == ([], 0)
