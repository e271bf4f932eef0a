"""`hms-bus replay --to URL`: what was recorded is published on a live bus."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from hms_bus.abc import Record, Selector
from hms_bus.bus import Bus
from hms_bus.cli.connecting import OTHER_BUS, require_others
from hms_bus.cli.log.opening import configured
from hms_bus.cli.replay.damage import is_asked_for
from hms_bus.config import BusConfig
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, LogCorruptError
from hms_bus.ids import format_time
from hms_bus.plugins import open_log
from hms_bus.replay.naming import agent_of, is_named
from hms_bus.replay.recording import Recording, batches_of
from hms_bus.replay.requests import is_request
from hms_bus.replay.settings import ReplaySettings
from hms_bus.replay.stage import Pace

REPLAYED = "replayed"
"""The extension that marks what was recorded before."""

_AT_ONCE = 256


class Sent(Struct, kw_only=True):
    """What became of the selected messages.

    `events` were published anew, `duplicates` were in the bus's log already, `requests` were asked
    anew, `left_out` are requests, or may be. `failure` is what ended it before all was sent.
    """

    events: int = 0
    duplicates: int = 0
    requests: int = 0
    left_out: int = 0
    failure: BusError | None = None


async def send(settings: ReplaySettings, url: str, *, wants_requests: bool) -> Sent:
    """Publish the selected events at their pace, each with its own id, source and causes.

    Left out are replies, all else on system topics, and what may be a request: what has a deadline,
    asks for a stream, or has an answer at most `ahead` records later. With `wants_requests` what
    was answered is asked anew, and what only has a deadline is published. Returns when the last
    answer is there, or its time is over. Raises `UnsupportedError` for a bus where nobody could
    hear it, and what opening it and the record raises.
    """
    config = configured(url=url)
    _require_listeners(config)
    sent = Sent()
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings.log))
        bus = await stack.enter_async_context(Bus(config=config))
        asking = await stack.enter_async_context(asyncio.TaskGroup())
        whole = replace(settings.selector, last=None, until_ns=None)
        recording = Recording(batches_of(log, whole), ahead=settings.ahead, remap=settings.remap)
        stack.push_async_callback(recording.close)
        sending = _Sending(settings, recording, bus, asking, sent, wants_requests=wants_requests)
        try:
            await sending.run()
        except LogCorruptError as error:
            sent.failure = error if is_asked_for(error, settings.selector) else None
        except BusError as error:
            sent.failure = error
    return sent


def _require_listeners(config: BusConfig) -> None:
    if config.log is None:
        require_others(
            config,
            ">",
            "publishing to",
            instead=f"name a log with HMS_BUS_LOG, or {OTHER_BUS.replace('--bus', '--to')}",
        )


class _Sending:
    def __init__(
        self,
        settings: ReplaySettings,
        recording: Recording,
        bus: Bus,
        asking: asyncio.TaskGroup,
        sent: Sent,
        *,
        wants_requests: bool,
    ) -> None:
        self._settings = settings
        self._recording = recording
        self._bus = bus
        self._asking = asking
        self._sent = sent
        self._wants_requests = wants_requests
        self._pace = Pace(settings.rate)

    async def run(self) -> None:
        """Send all. Raises what reading and publishing raise."""
        while records := await self._recording.peek(_AT_ONCE):
            for record in records:
                if not _is_selected(record, self._settings.selector):
                    return
                if not record.envelope.topic.startswith("$") and self._is_sent_by(record):
                    await self._send(record)
            self._recording.forget(len(records))

    def _is_sent_by(self, record: Record) -> bool:
        only = self._settings.only
        return not only or is_named(agent_of(record.envelope.source), only)

    async def _send(self, record: Record) -> None:
        is_asked = await self._is_request(record.envelope)
        if is_asked and not self._wants_requests:
            self._sent.left_out += 1
            return
        await self._pace.wait(record.recorded_ns)
        if is_asked:
            self._sent.requests += 1
            self._asking.create_task(_ask(self._bus, record.envelope))
            return
        receipt = await self._bus.forward(_marked(record))
        self._sent.duplicates += receipt.duplicate
        self._sent.events += not receipt.duplicate

    async def _is_request(self, envelope: Envelope) -> bool:
        def known() -> bool | None:
            caused = self._recording.caused_by(envelope.id)
            return is_request(envelope, caused, unsure=not self._wants_requests) or None

        return await self._recording.find(known) is not None


def _is_selected(record: Record, selector: Selector) -> bool:
    return (selector.last is None or record.position <= selector.last) and (
        selector.until_ns is None or record.recorded_ns <= selector.until_ns
    )


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
    try:
        data: Any = UNSET if envelope.data is UNSET else envelope.decode()
        await bus.request(
            envelope.topic,
            data,
            type=envelope.type,
            correlationid=envelope.correlationid or envelope.id,
            extensions={REPLAYED: True},
        )
    except BusError:
        return
