"""One client reading the hub's log: records in the order of positions, as fast as it takes them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import cache
from typing import Final

from hms_bus import plugins
from hms_bus.abc import Codec, EventLog, Record, Selector
from hms_bus.errors import ConfigError, FrameError, StateError
from hms_bus.hub.failing import failure_of
from hms_bus.hub.seams import Client
from hms_bus.ipc import frames, session
from hms_bus.ipc.session import Failure, Read

CODECS: Final = ("json", "cbor", "protobuf")
"""What the hub reads and writes."""

_FRAME_BYTES = 64 * 2**10
"""How large a frame of records grows before it is sent."""

_RECORDS_AT_ONCE = 256


class Reading:
    """A READ until its END. Nothing is read ahead of the credit but one batch of the log.

    Raises `ConfigError` for a codec that the hub does not know.
    """

    def __init__(self, peer: Client, call: int, log: EventLog, wanted: Read) -> None:
        self._peer = peer
        self._call = call
        self._log = log
        self._wanted = wanted
        self._credit = wanted.credit
        self._more = asyncio.Event()
        self._encode = codec_of(wanted.codec or peer.codecs[0]).encode
        self._task = asyncio.get_running_loop().create_task(self._send_all())
        self._task.add_done_callback(self._end)

    def grant(self, count: int) -> None:
        """Allow `count` more records."""
        self._credit += count
        self._more.set()

    def stop(self) -> None:
        """Send no more; END comes all the same."""
        self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        """Say how it has ended, also when it was stopped before it had begun."""
        call, failure = self._call, None if task.cancelled() else _failure_of(task.exception())
        if failure is None:
            last = frames.call_frame(frames.END, call)
        else:
            last = frames.call_frame(frames.FAILED, call, session.to_json(failure))
        self._peer.end_read(call, last)

    async def _send_all(self) -> None:
        selector = selector_of(self._wanted)
        async with aclosing(_batches(self._log, selector, follow=self._wanted.follow)) as batches:
            async for batch in batches:
                await self._send(batch)

    async def _send(self, batch: list[Record]) -> None:
        encode, longest = self._encode, self._peer.limits.max_frame
        at = 0
        is_too_long = False
        while at < len(batch) and not is_too_long:
            await self._room()
            entries: list[tuple[int, int, bytes]] = []
            size = 0
            most = min(self._credit, _RECORDS_AT_ONCE)
            while at < len(batch) and len(entries) < most and size < _FRAME_BYTES:
                record = batch[at]
                document = encode(record.envelope)
                if is_too_long := len(document) > longest:
                    break
                entries.append((record.position, record.recorded_ns, document))
                size += len(document)
                at += 1
            if entries:
                self._credit -= len(entries)
                self._peer.send_frame(frames.records(self._call, entries))
                self._peer.flush()
                await asyncio.sleep(0)
        if is_too_long:
            raise FrameError(
                f"the record at position {batch[at].position} is longer than the {longest} bytes "
                "of a frame: read past it, or raise max_frame of the hub",
                reason="frame-too-large",
            )

    async def _room(self) -> None:
        """Return when there is credit, and the client reads what it was sent."""
        while self._credit <= 0 or self._peer.is_congested:
            if self._credit <= 0:
                self._more.clear()
                await self._more.wait()
            if self._peer.is_congested:
                await self._peer.readable()


_known_codec = cache(plugins.get_codec)


def codec_of(name: str) -> Codec:
    """Return the codec that a client names. Raises `ConfigError` for one the hub does not know."""
    # Looking for others would search all that is installed, at the word of a client.
    if name not in CODECS:
        raise ConfigError(f"the hub writes {', '.join(CODECS)}, not {name!r:.40}")
    return _known_codec(name)


def _failure_of(error: BaseException | None) -> Failure | None:
    """Return what a READ that ended with `error` is answered with; `None`: it has just ended."""
    if error is None or isinstance(error, StateError):
        return None  # the log was closed: the hub ends
    return failure_of(error, "a READ")


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
