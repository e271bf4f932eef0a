"""Which schedules of a log are open: the last record of each name, unless it has done its work."""

import time
from collections.abc import Iterable

from msgspec import Struct

from hms_bus.abc import ConsumingLog, DurableInfo, Record, Selector
from hms_bus.envelope import Envelope
from hms_bus.ids import parse_time
from hms_bus.schedules import SCHEDULER, TOPIC, Schedule, is_schedule, load_zone


class Open(Struct, frozen=True, kw_only=True):
    """A schedule that will send `message` at `due_ns`, or would have: then it is overdue."""

    name: str
    position: int
    schedule: Schedule
    message: Envelope
    due_ns: int


async def read_open(log: ConsumingLog) -> list[Open]:
    """Return the open schedules, in the order in which they are due."""
    stands = await _scheduler(log)
    latest: dict[str, Record] = {}
    floor = 0 if stands is None else stands.floor
    async for record in log.read(Selector(pattern=SCHEDULER.pattern, first=floor + 1)):
        latest[record.envelope.topic] = record
    dead = set[int]() if stands is None else set(stands.dead)
    now_ns = time.time_ns()
    read = [
        await _read(record, now_ns)
        for record in latest.values()
        if is_schedule(record.envelope) and record.position not in dead
    ]
    found = [each for each in read if each is not None]
    delivered = 0 if stands is None else stands.delivered
    tried = [each for each in found if each.due_ns <= now_ns and each.position <= delivered]
    sent = await _sent(log, tried)
    return sorted(
        (each for each in found if each.position not in sent),
        key=lambda each: (each.due_ns, each.position),
    )


async def _scheduler(log: ConsumingLog) -> DurableInfo | None:
    """Return how far the schedules were run, `None` where nobody has run any yet."""
    infos = await log.durables()
    return next((info for info in infos if info.durable.name == SCHEDULER.name), None)


async def _read(record: Record, now_ns: int) -> Open | None:
    """Read one; `None` for what is no schedule, and for what is never due again."""
    try:
        schedule = record.envelope.decode(Schedule)
        await load_zone(schedule.timezone)
        message = schedule.message()
        due_ns = schedule.next_due_ns(now_ns)
        if due_ns is None and schedule.cron is None:
            due_ns = parse_time(schedule.at or "")
    except Exception:  # noqa: BLE001 - anybody may write what is no schedule
        return None
    if due_ns is None:
        return None
    return Open(
        name=record.envelope.topic.removeprefix(f"{TOPIC}."),
        position=record.position,
        schedule=schedule,
        message=message,
        due_ns=due_ns,
    )


async def _sent(log: ConsumingLog, tried: Iterable[Open]) -> set[int]:
    """Return the positions of those whose message the log has.

    The durable tells only up to which position all are settled; one schedule that comes again holds
    that back.
    """
    waiting: dict[str, dict[tuple[str, str], int]] = {}
    for each in tried:
        message = each.message
        waiting.setdefault(message.topic, {})[message.source, message.id] = each.position
    sent: set[int] = set()
    for topic, positions in waiting.items():
        selector = Selector(pattern=topic, first=min(positions.values()))
        async for record in log.read(selector):
            position = positions.get((record.envelope.source, record.envelope.id))
            if position is not None:
                sent.add(position)
    return sent
