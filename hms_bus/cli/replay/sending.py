"""`hms-bus replay --to URL`: what was recorded is published on a live bus."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from msgspec import UNSET, Struct

from hms_bus.abc import Record
from hms_bus.bounces import REPLY_PREFIX
from hms_bus.bus import Bus
from hms_bus.cli.log.opening import configured
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError
from hms_bus.ids import format_time
from hms_bus.plugins import open_log
from hms_bus.replay.recording import Recording, batches_of
from hms_bus.replay.settings import ReplaySettings
from hms_bus.replay.stage import Pace

REPLAYED = "replayed"
"""The extension that marks what was recorded before."""

_AT_ONCE = 256


class Sent(Struct, kw_only=True):
    """How much was published, how much of it the bus's log had already, and asked."""

    events: int = 0
    duplicates: int = 0
    requests: int = 0


async def send(settings: ReplaySettings, url: str, *, wants_requests: bool) -> Sent:
    """Publish the selected events at their pace, each with its own id, source and causes.

    Replies, and all else on system topics, are left out; requests too, unless they are wanted: then
    they are asked anew, and nobody waits for the answers longer than the replay lasts. Raises what
    `Bus` and reading raise.
    """
    sent = Sent()
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings.log))
        bus = await stack.enter_async_context(Bus(config=configured(url=url)))
        asking = await stack.enter_async_context(asyncio.TaskGroup())
        recording = Recording(
            batches_of(log, settings.selector), ahead=settings.ahead, remap=settings.remap
        )
        stack.push_async_callback(recording.close)
        pace = Pace(settings.rate)
        while records := await recording.peek(_AT_ONCE):
            for record in records:
                if record.envelope.topic.startswith("$") or not _is_sent_by(record, settings):
                    continue
                await pace.wait(record.recorded_ns)
                if not _is_request(record.envelope, recording):
                    receipt = await bus.forward(_marked(record))
                    sent.events += 1
                    sent.duplicates += receipt.duplicate
                elif wants_requests:
                    sent.requests += 1
                    asking.create_task(_ask(bus, record.envelope))
            recording.forget(len(records))
    return sent


def _is_sent_by(record: Record, settings: ReplaySettings) -> bool:
    source = record.envelope.source
    return not settings.only or bool({source, source.rpartition("/")[2]} & settings.only)


def _is_request(envelope: Envelope, recording: Recording) -> bool:
    if envelope.credit is not None:
        return True
    caused = recording.caused_by(envelope.id)
    return any(each.topic.startswith(REPLY_PREFIX) for each in caused)


def _marked(record: Record) -> Envelope:
    """Return the event as it is published: it expires as long from now as it did then."""
    envelope = record.envelope
    expires_ns = envelope.expires_ns
    if expires_ns is not None:
        left_ns = max(0, expires_ns - record.recorded_ns)
        envelope = envelope.replace(expirytime=format_time(time.time_ns() + left_ns))
    return envelope.replace(extensions={**(envelope.extensions or {}), REPLAYED: True})


async def _ask(bus: Bus, envelope: Envelope) -> None:
    """Ask again what was asked then; what becomes of it concerns nobody."""
    data: Any = UNSET if envelope.data is UNSET else envelope.decode()
    try:
        await bus.request(
            envelope.topic,
            data,
            type=envelope.type,
            correlationid=envelope.correlationid or envelope.id,
            extensions={REPLAYED: True},
        )
    except BusError:
        return
