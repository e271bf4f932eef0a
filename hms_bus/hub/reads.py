"""One client reading the hub's log: records in the order of positions, as fast as it takes them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from hms_bus import plugins
from hms_bus.abc import EventLog, Record, Selector
from hms_bus.errors import BusError, StateError
from hms_bus.hub.seams import Client
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Read

_FRAME_BYTES = 64 * 2**10
"""How large a frame of records grows before it is sent."""

_RECORDS_AT_ONCE = 256


class Reading:
    """A READ until its END. Nothing is read ahead of the credit but one batch of the log."""

    def __init__(self, peer: Client, call: int, log: EventLog, wanted: Read) -> None:
        self._peer = peer
        self._call = call
        self._log = log
        self._wanted = wanted
        self._credit = wanted.credit
        self._more = asyncio.Event()
        self._codec = plugins.get_codec(wanted.codec or peer.codecs[0])
        self.task = asyncio.get_running_loop().create_task(self._run())

    def grant(self, count: int) -> None:
        """Allow `count` more records."""
        self._credit += count
        self._more.set()

    def stop(self) -> None:
        """Send no more; END comes all the same."""
        self.task.cancel()

    async def _run(self) -> None:
        peer, call = self._peer, self._call
        try:
            await self._send_all()
        except asyncio.CancelledError:
            pass
        except StateError:
            pass  # the log was closed: the hub ends
        except BusError as error:
            peer.end_read(
                call, frames.call_frame(frames.FAILED, call, session.to_json(to_failure(error)))
            )
            return
        peer.end_read(call, frames.call_frame(frames.END, call))

    async def _send_all(self) -> None:
        selector = selector_of(self._wanted)
        async with aclosing(_batches(self._log, selector, follow=self._wanted.follow)) as batches:
            async for batch in batches:
                await self._send(batch)

    async def _send(self, batch: list[Record]) -> None:
        encode = self._codec.encode
        at = 0
        while at < len(batch):
            await self._room()
            entries: list[tuple[int, int, bytes]] = []
            size = 0
            most = min(self._credit, _RECORDS_AT_ONCE)
            while at < len(batch) and len(entries) < most and size < _FRAME_BYTES:
                record = batch[at]
                document = encode(record.envelope)
                entries.append((record.position, record.recorded_ns, document))
                size += len(document)
                at += 1
            self._credit -= len(entries)
            self._peer.send_frame(frames.records(self._call, entries))
            self._peer.flush()
            await asyncio.sleep(0)

    async def _room(self) -> None:
        """Return when there is credit, and the client reads what it was sent."""
        while self._credit <= 0 or self._peer.is_congested:
            if self._credit <= 0:
                self._more.clear()
                await self._more.wait()
            if self._peer.is_congested:
                await self._peer.readable()


def selector_of(wanted: Read) -> Selector:
    """Return what a READ selects."""
    return Selector(
        pattern=wanted.pattern,
        first=wanted.first,
        last=wanted.last,
        since_ns=wanted.since_ns,
        until_ns=wanted.until_ns,
        types=frozenset(wanted.types),
        correlation=wanted.correlation,
        source=wanted.source,
        backwards=wanted.backwards,
        limit=wanted.limit,
    )


async def _batches(
    log: EventLog, selector: Selector, *, follow: bool
) -> AsyncGenerator[list[Record]]:
    """Yield records in lists, as the log hands them out, or one by one."""
    in_batches = getattr(log, "read_batches", None)
    if in_batches is None:
        records: AsyncIterator[Record] = log.read(selector, follow=follow)
        async for record in records:
            yield [record]
        return
    batches: AsyncGenerator[list[Record]] = in_batches(selector, follow=follow)
    async with aclosing(batches):
        async for batch in batches:
            yield batch
