"""Messages that are sent later: kept in the log, sent by whichever bus has it open (ADR 6).

A schedule is a record on `$schedule.<name>` that holds the message. The one consumer of the durable
`scheduler` defers each record until it is due, sends the message and settles the record. So it
survives whatever ends, is sent late rather than never, and, since the message has an id that
follows from the schedule, is kept once however often it is tried.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Struct
from msgspec.structs import replace

from hms_bus import jsonformat
from hms_bus.abc import (
    Consumer,
    ConsumingLog,
    Delivery,
    Durable,
    Outcome,
    Receipt,
    Selector,
    Settlement,
)
from hms_bus.bounces import text_of
from hms_bus.durations import Duration, parse_duration
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    ConfigError,
    DurableInUseError,
    LogCorruptError,
    LogReadOnlyError,
    QueueFullError,
    StateError,
    TopicError,
)
from hms_bus.ids import format_time, parse_time, stamp
from hms_bus.topics import check_topic

logger = logging.getLogger("hms_bus")

SCHEDULE = "hms.bus.schedule.v1"
UNSCHEDULE = "hms.bus.unschedule.v1"
TOPIC = "$schedule"

SCHEDULER = Durable(
    name="scheduler",
    pattern=f"{TOPIC}.>",
    ack_wait_s=5.0,  # who is killed holds up what was on its way for so long
    max_deliveries=None,
    max_unacked=1_000_000,
)

_S_NS = 1_000_000_000

_STANDBY_S = 5.0
"""How often a bus looks whether there is a schedule, and whether who runs them has ended."""

_LONGEST_WAIT_S = 86_400.0
"""How long a record is put off at most: the clock may be set meanwhile."""

Send = Callable[[Envelope], Awaitable[Receipt]]


class Schedule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a schedule: the message (CloudEvents JSON), and when it is sent.

    Once, at `at` (RFC 3339), or at each time that `cron` names in `timezone`.
    """

    envelope: dict[str, Any]
    at: str | None = None
    cron: str | None = None
    timezone: str = "UTC"

    def message(self) -> Envelope:
        """Return the message. Raises `DecodeError`."""
        return jsonformat.decode(msgspec.json.encode(self.envelope))

    def is_nameless(self, record: Envelope) -> bool:
        """Whether nothing else is ever kept on the topic of its record, but for its end."""
        return record.topic in {f"{TOPIC}.{record.id}", f"{TOPIC}.{self.message().id}"}

    def last_due_ns(self, since_ns: int, now_ns: int) -> int | None:
        """Return the last time after `since_ns`, up to `now_ns`, at which it was due."""
        if self.cron is None:
            due_ns = parse_time(self.at or "")
            return due_ns if due_ns <= now_ns else None
        # Its times are whole seconds, and it looks for one before: so one that is due now counts.
        behind = self._local(now_ns // _S_NS * _S_NS + _S_NS)
        occurrence = next(CronSim(self.cron, behind, reverse=True), None)
        if occurrence is None or (due_ns := _to_ns(occurrence)) <= since_ns:
            return None
        return due_ns

    def next_due_ns(self, now_ns: int) -> int | None:
        """Return when it is due next, `None` for never again."""
        if self.cron is None:
            due_ns = parse_time(self.at or "")
            return due_ns if due_ns > now_ns else None
        occurrence = next(CronSim(self.cron, self._local(now_ns)), None)
        return None if occurrence is None else _to_ns(occurrence)

    def _local(self, time_ns: int) -> datetime:
        seconds, rest = divmod(time_ns, _S_NS)
        moment = datetime.fromtimestamp(seconds, _zone(self.timezone))
        return moment.replace(microsecond=rest // 1000)


def _to_ns(moment: datetime) -> int:
    return int(moment.replace(microsecond=0).timestamp()) * _S_NS + moment.microsecond * 1000


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


async def load_zone(name: str) -> None:
    """Read the time zone from the disk before it is needed. Raises `ConfigError`."""
    try:
        await asyncio.to_thread(_zone, name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"{name!r} is no time zone: write Europe/Berlin, or UTC") from error


def make_schedule(
    envelope: Envelope,
    *,
    delay: Duration | None = None,
    at: datetime | str | None = None,
    cron: str | None = None,
    timezone: str = "UTC",
) -> Schedule:
    """Return when `envelope` shall be sent; `load_zone` comes before.

    Raises `ConfigError`, and `EncodeError` for the payload.
    """
    values = (("delay", delay), ("at", at), ("cron", cron))
    given = [name for name, value in values if value is not None]
    if len(given) != 1:
        raise ConfigError(f"give one of delay=, at=, cron=, not {', '.join(given) or 'none'}")
    document = msgspec.json.decode(jsonformat.encode(envelope))
    if cron is not None:
        _check_cron(cron, timezone)
        return Schedule(envelope=document, cron=cron, timezone=timezone)
    if at is not None:
        due_ns = _moment_ns(at)
    else:
        due_ns = time.time_ns() + round(parse_duration(delay or 0) * 1e9)
    due_ns = due_ns // 1000 * 1000
    return Schedule(envelope=document, at=format_time(due_ns))


def _moment_ns(at: datetime | str) -> int:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ConfigError(f"at={at} has no time zone: use datetime.now(UTC) or .astimezone()")
        return _to_ns(at)
    try:
        return parse_time(at)
    except ValueError as error:
        raise ConfigError(f"at={at!r} is no time: write 2026-01-31T12:00:00Z") from error


def _check_cron(cron: str, timezone: str) -> None:
    try:
        if next(CronSim(cron, datetime.now(_zone(timezone))), None) is not None:
            return
        why: object = "it is never due"
    except CronSimError as error:
        why = error
    raise ConfigError(
        f"cron={cron!r}: {why}; write '*/5 * * * *' (minute, hour, day, month, weekday), with the "
        "second before these if it matters"
    )


def schedule_topic(name: str) -> str:
    """Return the topic of the schedule `name`. Raises `ConfigError` for what is no name."""
    if "." in name:
        raise ConfigError(f"{name!r} is no name of a schedule: it has a dot")
    try:
        return check_topic(f"{TOPIC}.{name}")
    except TopicError as error:
        raise ConfigError(f"{name!r} is no name of a schedule: {error.message}") from error


def schedule_record(name: str | None, source: str, schedule: Schedule | None) -> Envelope:
    """Return the record that makes a schedule, replaces the one of that name, or ends it.

    Without a name it has one of its own.
    """
    new_id, now = stamp()
    return Envelope(
        id=new_id,
        source=source,
        type=UNSCHEDULE if schedule is None else SCHEDULE,
        topic=schedule_topic(new_id if name is None else name),
        time=now,
        datacontenttype="application/json",
        data=schedule or {},
    )


def is_schedule(envelope: Envelope) -> bool:
    """Whether `envelope` is the record of a schedule."""
    return envelope.type == SCHEDULE and envelope.topic.startswith(f"{TOPIC}.")


class Scheduler:
    """Sends what is due in `log`, as long as nobody else does, once there is a schedule."""

    def __init__(self, log: ConsumingLog, send: Send) -> None:
        self._log = log
        self._send = send
        self._made = asyncio.Event()
        self._seen = 0
        self._sending: dict[int, Delivery] = {}
        """The last delivery of each position whose message is on its way."""
        self._sent: dict[int, int] = {}
        """When the schedules that come again, by position, were due last and have been sent."""
        self._latest: dict[str, int] = {}
        """The position of the newest record on each topic: it replaces those before, which are
        settled when they come."""

    def note_made(self) -> None:
        """Note that a schedule was made: there is something to do."""
        self._made.set()

    async def run(self) -> None:
        """Run until it is cancelled, or the log is closed."""
        is_closed = False
        while True:
            try:
                await self._until_there_is_one()
                async with self._log.consume(SCHEDULER) as consumer:
                    await self._serve(consumer)
            except* DurableInUseError:
                pass  # somebody else runs it, and may end
            except* StateError:
                is_closed = True
            except* LogReadOnlyError as errors:
                logger.warning("schedules are not run any more: %s", errors.exceptions[0])
                is_closed = True
            except* BusError as errors:
                logger.warning("schedules are not run: %s; it is tried again", errors.exceptions[0])
            except* Exception as errors:
                logger.exception("a bug ended the schedules: it is tried again", exc_info=errors)
            if is_closed:
                return
            await asyncio.sleep(_STANDBY_S)

    async def _until_there_is_one(self) -> None:
        """Return once the log holds a schedule: without one it needs no durable."""
        looked = 0
        while not self._made.is_set():
            head = (await self._log.head()).position
            if looked < head:
                selector = Selector(pattern=SCHEDULER.pattern, first=looked + 1, last=head, limit=1)
                async for _ in self._log.read(selector):
                    self._made.set()
                looked = head
            with suppress(TimeoutError):
                async with asyncio.timeout(_STANDBY_S):
                    await self._made.wait()

    async def _serve(self, consumer: Consumer) -> None:
        self._latest.clear()
        self._sent.clear()
        self._seen = await self._floor()
        async with asyncio.TaskGroup() as tasks:
            while True:
                deliveries = await consumer.fetch(100)
                await self._catch_up()
                for delivery in deliveries:
                    # In a task each: who waits for room on one topic holds up no other.
                    tasks.create_task(self._handle(consumer, delivery))

    async def _floor(self) -> int:
        """Return up to where all is settled: what lies before it replaces nothing that waits."""
        try:
            stands = {each.durable.name: each.floor for each in await self._log.durables()}
        except LogCorruptError:
            return 0  # what is kept of another durable cannot be read
        return stands[SCHEDULER.name]

    async def _handle(self, consumer: Consumer, delivery: Delivery) -> None:
        position = delivery.record.position
        is_on_its_way = position in self._sending
        self._sending[position] = delivery
        if is_on_its_way:  # for longer than the ack wait
            await consumer.settle([_said(delivery, "progress")])
            return
        try:
            settlement = await self._decide(delivery)
        finally:
            last = self._sending.pop(position)
        await consumer.settle([replace(settlement, attempt=last.attempt)])

    async def _catch_up(self) -> None:
        """Learn what replaces the records that wait, settled long ago or not delivered yet."""
        head = (await self._log.head()).position
        selector = Selector(pattern=SCHEDULER.pattern, first=self._seen + 1, last=head)
        if self._seen < head:
            async for record in self._log.read(selector):
                self._latest[record.envelope.topic] = record.position
            self._seen = head

    async def _decide(self, delivery: Delivery) -> Settlement:
        """Send what is due; say when the record shall come again."""
        record = delivery.record
        envelope = record.envelope
        if envelope.type != SCHEDULE or record.position < self._latest.get(envelope.topic, 0):
            self._sent.pop(record.position, None)
            return _said(delivery, "ack")
        try:
            schedule = envelope.decode(Schedule)
            await load_zone(schedule.timezone)
            now_ns = time.time_ns()
            since_ns = self._sent.get(record.position, record.recorded_ns)
            due_ns = schedule.last_due_ns(since_ns, now_ns)
            next_ns = schedule.next_due_ns(now_ns)
            message = None if due_ns is None else _due_message(schedule, envelope, due_ns)
        except Exception as error:  # noqa: BLE001 - anybody may write what is no schedule
            logger.error("%s is no schedule that can be run: %s", envelope.topic, error)  # noqa: TRY400
            return replace(
                _said(delivery, "term"), code="INVALID_ARGUMENT", reason=f"no schedule: {error}"
            )
        failure = None if message is None else await self._try(message, envelope.topic)
        if isinstance(failure, BusError) and failure.retryable:
            return _said(delivery, "defer", delay_s=_STANDBY_S)
        if failure is not None and next_ns is None:
            code = failure.code if isinstance(failure, BusError) else "UNKNOWN"
            reason = f"it cannot be sent: {text_of(failure)}"
            return replace(_said(delivery, "term"), code=code, reason=reason)
        if next_ns is None:
            if schedule.is_nameless(envelope):
                self._latest.pop(envelope.topic, None)
            return _said(delivery, "ack")
        if due_ns is not None:
            self._sent[record.position] = due_ns
        wait_s = max(next_ns - time.time_ns(), 0) / 1e9
        return _said(delivery, "defer", delay_s=min(wait_s, _LONGEST_WAIT_S))

    async def _try(self, message: Envelope, topic: str) -> Exception | None:
        """Send, and return why that failed: not when the log has taken it all the same."""
        try:
            await self._send(message)
        except Exception as error:  # noqa: BLE001 - publish middleware may raise anything
            if isinstance(error, QueueFullError) and error.position is not None:
                return None
            logger.error("%s could not be sent: %s", topic, text_of(error))  # noqa: TRY400
            return error
        return None


def _said(delivery: Delivery, outcome: Outcome, *, delay_s: float = 0.0) -> Settlement:
    return Settlement(
        position=delivery.record.position,
        attempt=delivery.attempt,
        outcome=outcome,
        delay_s=delay_s,
    )


def _due_message(schedule: Schedule, record: Envelope, due_ns: int) -> Envelope:
    """Return the message as it is sent; sending it twice keeps it once."""
    now_ns = time.time_ns() // 1000 * 1000
    message = schedule.message()
    if message.expires_ns is not None and message.time_ns is not None:
        # How long it may wait counts from when it is sent.
        later = format_time(message.expires_ns + now_ns - message.time_ns)
        message = message.replace(expirytime=later)
    message = message.replace(time=format_time(now_ns))
    if schedule.cron is None:
        return message
    return message.replace(id=f"{record.id}-{due_ns // 1_000_000_000}", causationid=record.id)
