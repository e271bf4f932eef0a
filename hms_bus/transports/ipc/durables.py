"""The durables of the hub's log, as its clients use them: who consumes here, and what is asked."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from hms_bus import plugins
from hms_bus.abc import Delivery, Durable, DurableInfo, Record
from hms_bus.errors import BusError, DecodeError, LogCorruptError, UnsupportedError, UsageError
from hms_bus.ipc import durables, frames
from hms_bus.ipc.durables import DurableEntry, DurableList, consume_of, infos_of
from hms_bus.ipc.session import LogInfo
from hms_bus.transports.ipc.client import Client
from hms_bus.transports.ipc.consuming import HubConsumer

_MOST: Final = 2**32 - 1
_POSITIONS: Final = 2**63
_POSITION_BYTES: Final = 20
"""Of a position in JSON, at most."""


class HubDurables:
    """What `hms_bus.abc.ConsumingLog` says of durables. The client's log tells it of the line.

    `log` returns what is known of the hub's log at the moment.
    """

    def __init__(self, client: Client, codec_name: str, log: Callable[[], LogInfo]) -> None:
        self._client = client
        self._codec_name = codec_name
        self._log = log
        self._consumers: dict[int, HubConsumer] = {}
        self._next_number = 1
        client.handlers[frames.DELIVERIES] = self._on_deliveries

    # -- asking --------------------------------------------------------------------------------

    async def infos(self) -> list[DurableInfo]:
        """Return those durables, by name, whose records this client may read."""
        self._check()
        entries: list[DurableEntry] = []

        def take(answer: Any) -> None:
            entries.extend(msgspec.convert(answer, DurableList).durables)

        take(await self._client.ask("durables", take))
        return infos_of(entries)

    async def forget(self, name: str) -> None:
        """See `hms_bus.abc.ConsumingLog.forget`."""
        self._check()
        await self._client.ask("forget", name=name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """See `hms_bus.abc.ConsumingLog.redrive`."""
        self._check()
        if any(not 0 < position < _POSITIONS for position in positions):
            raise UsageError(f"durable {name!r:.100}: a position is a number from 1 to 2**63 - 1")
        welcome = self._client.welcome
        if welcome is not None and len(positions) * _POSITION_BYTES > welcome.limits.max_frame:
            raise UsageError(f"{len(positions)} positions are more than a frame of the hub holds")
        await self._client.ask("redrive", name=name, positions=list(positions))

    def _check(self) -> None:
        log = self._log()
        if "log-durable" not in log.capabilities:
            raise UnsupportedError("durable subscriptions (log-durable)", log.url)

    # -- consuming -----------------------------------------------------------------------------

    @asynccontextmanager
    async def consume(self, durable: Durable) -> AsyncGenerator[HubConsumer]:
        """See `hms_bus.abc.ConsumingLog.consume`."""
        self._check()
        self._client.check()
        number = self._new_number()
        wanted = consume_of(durable, number, self._codec_name)
        consumer = self._consumers[number] = HubConsumer(self._client, durable, wanted)
        consumer.begin()
        try:
            await consumer.opened()
            yield consumer
        finally:
            try:
                await consumer.close()
            finally:
                del self._consumers[number]

    def _new_number(self) -> int:
        while self._next_number in self._consumers:
            self._next_number = self._next_number % _MOST + 1
        number = self._next_number
        self._next_number = number % _MOST + 1
        return number

    def _on_deliveries(self, content: bytes) -> None:
        call, more, entries = durables.read_deliveries(content)
        for consumer in self._consumers.values():
            if consumer.fetch_call == call:
                break
        else:
            return
        try:
            deliveries = [_delivery(*entry) for entry in entries]
        except DecodeError as error:
            consumer.fail(LogCorruptError(str(error), path=self._log().url))
            deliveries = []
        consumer.take(deliveries, more=more)

    def go_on(self) -> None:
        """Consume again: there is a connection."""
        for consumer in self._consumers.values():
            consumer.begin()

    def pause(self) -> None:
        """Wait for the next connection."""
        for consumer in self._consumers.values():
            consumer.pause()

    def fail(self, error: BusError) -> None:
        """End them all."""
        for consumer in self._consumers.values():
            consumer.fail(error)


def _delivery(position: int, recorded_ns: int, attempt: int, document: bytes) -> Delivery:
    envelope = plugins.codec_of(document).decode(document)
    record = Record(position=position, recorded_ns=recorded_ns, envelope=envelope)
    return Delivery(record=record, attempt=attempt)
