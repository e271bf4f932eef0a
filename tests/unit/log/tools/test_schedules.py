"""Schedules in copies of a log: none is sent twice, none is lost."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from hms_bus import Bus, Message, new_envelope
from hms_bus.abc import Delivery, Outcome, Selector, Settlement
from hms_bus.envelope import Envelope
from hms_bus.log.tools import Rule, compact_log, filter_log, merge_logs, redact_log, split_log
from hms_bus.logrules import keeps_durables
from hms_bus.plugins import open_log
from hms_bus.schedules import SCHEDULER, make_schedule, schedule_record
from tests.support.tool_logs import fill, records, verify


def message(number: int) -> Envelope:
    return new_envelope("orders.late", number, source="/shop", id=f"order-{number}")


def schedule(name: str, number: int = 1, *, cron: str | None = None) -> Envelope:
    """Make what is sent in an hour, or by `cron`."""
    when = make_schedule(message(number), delay=None if cron else 3600, cron=cron)
    return schedule_record(name, "/shop", when)


def end_of(name: str) -> Envelope:
    return schedule_record(name, "/shop", None)


def settle(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Let the scheduler do with the schedules of these names what `outcomes` says."""

    async def scheduler() -> None:
        async with open_log(f"sqlite:{path}") as log:
            assert keeps_durables(log)
            async with log.consume(SCHEDULER) as consumer:
                await consumer.settle([settlement(one) for one in await consumer.fetch(100)])

    def settlement(delivery: Delivery) -> Settlement:
        name = delivery.record.envelope.topic.partition(".")[2]
        return Settlement(
            position=delivery.record.position,
            attempt=delivery.attempt,
            outcome=outcomes.get(name, "defer"),
            delay_s=3600,
        )

    asyncio.run(scheduler())


def topics(path: Path) -> list[str]:
    """The topics in a log, those of its own left out."""
    assert verify(path).is_sound
    return [one.topic for one in records(path) if not one.topic.startswith("$log.")]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a schedule that was sent, one that waits, one that is sent again and again."""
    path = fill(
        tmp_path / "run.db",
        [
            schedule("sent", 1),
            schedule("open", 2),
            schedule("tick", 3, cron="0 4 * * *"),
            new_envelope("orders.now", 0, source="/shop"),
        ],
    )
    settle(path, {"sent": "ack"})
    return path


OPEN = ["$schedule.open", "$schedule.tick"]


@pytest.mark.parametrize(
    "rule", [Rule(max_records=0), Rule(pattern="*.>", max_records=0), Rule(pattern="$schedule.>")]
)
def test_a_compaction_keeps_what_is_still_to_be_sent(log: Path, rule: Rule) -> None:
    done = compact_log(log, log.with_name("new.db"), [rule], by="/test")
    found = topics(log.with_name("new.db"))
    assert found == (OPEN if rule.max_records == 0 else [*OPEN, "orders.now"])
    assert (done.kept, done.dropped) == (len(found), 4 - len(found))


def test_no_other_copy_has_what_was_sent(log: Path, tmp_path: Path) -> None:
    filter_log(log, tmp_path / "filtered.db", Selector(pattern="$schedule.>"))
    assert topics(tmp_path / "filtered.db") == OPEN
    merge_logs([log], tmp_path / "merged.db")
    assert topics(tmp_path / "merged.db") == [*OPEN, "orders.now"]
    assert [*split_log(log, tmp_path / "parts", "topic")] == [
        "$schedule.open.db",
        "$schedule.tick.db",
        "orders.now.db",
    ]


def test_what_replaced_a_schedule_is_kept_alone(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", [schedule("a", 1), schedule("b", 2), schedule("a", 3)])
    second = records(log)[2]
    compact_log(log, tmp_path / "new.db", [Rule(max_records=9)], by="/test")
    assert [one.id for one in records(tmp_path / "new.db")[:-1]] == [records(log)[1].id, second.id]
    filter_log(log, tmp_path / "part.db", Selector(last=2))
    assert topics(tmp_path / "part.db") == ["$schedule.b"]


def test_a_schedule_that_was_ended_does_not_come_back(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", [schedule("a", 1), end_of("a")])
    settle(log, {"a": "ack"})
    compact_log(log, tmp_path / "new.db", [Rule(max_records=9)], by="/test")
    assert topics(tmp_path / "new.db") == []


def test_a_schedule_that_cannot_be_sent_is_left_out(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", [schedule("a", 1)])
    settle(log, {"a": "term"})
    filter_log(log, tmp_path / "new.db", Selector(pattern="$schedule.>"))
    assert topics(tmp_path / "new.db") == []


def test_a_message_in_the_log_was_sent_whatever_the_durable_says(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", [schedule("a", 1), schedule("b", 2), message(1)])
    compact_log(log, tmp_path / "new.db", [Rule(max_records=0)], by="/test")
    assert topics(tmp_path / "new.db") == ["$schedule.b"]


def test_a_schedule_without_its_payload_is_kept(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", [schedule("a", 1)])
    redact_log(log, Selector(), positions=[1], by="/test")
    filter_log(log, tmp_path / "new.db", Selector(pattern="$schedule.>"))
    assert topics(tmp_path / "new.db") == ["$schedule.a"]


def test_what_one_log_knows_of_a_schedule_counts_in_a_merge(log: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.db"
    merge_logs([log], earlier)  # here they all wait
    fill(log, [end_of("tick"), message(2)])
    settle(log, {"tick": "ack"})
    for index, paths in enumerate(([log, earlier], [earlier, log])):
        merge_logs(paths, tmp_path / f"{index}.db")
        assert topics(tmp_path / f"{index}.db") == ["orders.now", "orders.late"]


def test_the_last_schedule_of_all_logs_counts_in_a_merge(tmp_path: Path) -> None:
    first = fill(tmp_path / "a.db", [schedule("a", 1)])
    second = fill(tmp_path / "b.db", [schedule("a", 2)])
    merge_logs([second, first], tmp_path / "new.db")
    assert [one.id for one in records(tmp_path / "new.db")] == [records(second)[0].id]


def test_a_bus_on_a_copy_sends_nothing_again(tmp_path: Path) -> None:
    async def run(path: Path) -> None:
        handled = asyncio.Event()
        bus = Bus("direct://", log=f"sqlite:{path}", source="/shop")

        @bus.subscribe("orders.>", durable="work")
        async def work(msg: Message) -> None:
            handled.set()

        async with bus:
            await bus.publish("orders.late", 1, delay=0.01)
            await handled.wait()

    asyncio.run(run(tmp_path / "run.db"))
    rule = Rule(pattern="orders.>", max_records=0)
    compact_log(tmp_path / "run.db", tmp_path / "new.db", [rule], by="/test")
    assert topics(tmp_path / "new.db") == []
