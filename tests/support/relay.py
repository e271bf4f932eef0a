"""A transport between processes for tests, as a third party would write and install one.

The hub passes documents on over a Unix socket. A frame is a line, a JSON array:

    to the hub    ["sub", call, sub, [pattern, group, answers]]   ["unsub", call, sub]
                  ["pub", call, address, reply_to, document]
                  ["took", delivery, refusal]                     ["idle", sub, taken]
    from the hub  ["done", call, reached, refusal]
                  ["msg", delivery, sub, reply_to, document]

`done` answers a call; `reached` says to how many subscriptions a message went. It comes when all of
them took theirs and have room for more. A `refusal` is the queue and the limit of one that did not
take it, or null. `idle` tells that nothing is left to do of the messages `taken` so far.

With `?lag=MILLISECONDS` each frame takes up to so long, in each direction; the order stays.
"""

import asyncio
import base64
import json
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from hms_bus.abc import Capability, Codec, EventLog, Sink, Unsubscribe
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    ConnectError,
    DisconnectedError,
    NoRespondersError,
    QueueFullError,
)
from hms_bus.plugins import Address
from tests.support.relay_hub import Hub, Writer, send

__all__ = ["Hub", "RelayTransport", "install", "open_relay"]

ENTRY_POINT = "[hms_bus.transports]\nrelay = tests.support.relay:open_relay\n"


def install(folder: Path) -> None:
    """Make the transport known to every Python that has `folder` on its path."""
    metadata = folder / "relay_for_tests-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: relay-for-tests\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)


class RelayTransport:
    """The client's end. Contract: `hms_bus.abc.Transport`."""

    capabilities: frozenset[Capability] = frozenset(
        {
            "groups",
            "group-balance",
            "no-responders",
            "no-servers",
            "backpressure",
            "publisher-order",
        }
    )
    log: EventLog | None = None

    def __init__(
        self,
        codec: Codec,
        reader: asyncio.StreamReader,
        writer: Writer,
        lag_s: float,
    ) -> None:
        self._codec = codec
        self._reader = reader
        self._writer = writer
        self._lag_s = lag_s
        self._numbers = count(1)
        self._calls: dict[int, tuple[asyncio.Future[None], str | None]] = {}
        self._sinks: dict[int, _Taking] = {}
        self._waiting = set[asyncio.Future[None]]()

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None]:
        address = to or envelope.topic
        document = base64.b64encode(self._codec.encode(envelope)).decode()
        return self._call("pub", address, reply_to, document, asked=address if reply_to else None)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        number = next(self._numbers)
        taking = self._sinks[number] = _Taking(sink)
        sink.on_idle(lambda: send(self._writer, ["idle", number, taking.taken]))
        await self._call("sub", number, [pattern, group, sink.answers])

        async def unsubscribe() -> None:
            if self._sinks.pop(number, None):
                await self._call("unsub", number)

        return unsubscribe

    async def receive(self) -> None:
        """Take what the hub sends, until it ends the connection."""
        while line := await self._reader.readline():
            if self._lag_s:
                await asyncio.sleep(random.random() * self._lag_s)
            kind, *rest = json.loads(line)
            if kind == "done":
                self._done(*rest)
            else:
                self._take(*rest)
        for done, _ in self._calls.values():
            if not done.done():
                _fail(done, DisconnectedError("the hub has gone"))

    def _done(self, call: int, reached: int, refusal: list[Any] | None) -> None:
        done, asked = self._calls.pop(call)
        if done.done():  # whoever waited has given up
            return
        if refusal is not None:
            _fail(done, QueueFullError(queue=refusal[0], limit=refusal[1]))
        elif asked is not None and not reached:
            _fail(done, NoRespondersError(asked))
        else:
            done.set_result(None)

    def _take(self, delivery: int, number: int, reply_to: str | None, document: str) -> None:
        taking = self._sinks.get(number)
        if taking is None:
            self._took(delivery)
            return
        envelope = self._codec.decode(base64.b64decode(document))
        taking.taken += 1
        try:
            room = taking.sink.offer(envelope, reply_to)
        except QueueFullError as full:
            taking.taken -= 1
            self._took(delivery, [full.queue, full.limit])
            return
        if room is None:
            self._took(delivery)
            return
        waiting = asyncio.ensure_future(room)
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        waiting.add_done_callback(lambda _: self._took(delivery))

    def _took(self, delivery: int, refusal: list[Any] | None = None) -> None:
        send(self._writer, ["took", delivery, refusal])

    def _call(self, verb: str, *rest: Any, asked: str | None = None) -> asyncio.Future[None]:
        number = next(self._numbers)
        done = asyncio.get_running_loop().create_future()
        self._calls[number] = done, asked
        send(self._writer, [verb, number, *rest])
        return done


def _fail(done: asyncio.Future[None], error: BusError) -> None:
    done.set_exception(error)
    done.exception()  # not everybody waits for it


@dataclass(eq=False)
class _Taking:
    """A sink, and how many messages it took."""

    sink: Sink
    taken: int = 0


class _SlowWriter:
    """Writes each frame up to `lag_s` later, in the order of the calls; at its end all at once."""

    def __init__(self, writer: asyncio.StreamWriter, lag_s: float) -> None:
        self._writer = writer
        self._lag_s = lag_s
        self._frames: deque[bytes] = deque()
        self._is_waiting = False

    def write(self, frame: bytes) -> None:
        self._frames.append(frame)
        if not self._is_waiting:
            self._wait()

    def _wait(self) -> None:
        self._is_waiting = bool(self._frames)
        if self._frames:
            due_s = random.random() * self._lag_s
            asyncio.get_running_loop().call_later(due_s, self._write_one)

    def _write_one(self) -> None:
        if self._frames:
            self._writer.write(self._frames.popleft())
        self._wait()

    def is_closing(self) -> bool:
        return self._writer.is_closing()

    def write_eof(self) -> None:
        self._writer.write(b"".join(self._frames))
        self._frames.clear()
        self._writer.write_eof()


@asynccontextmanager
async def open_relay(address: Address, *, codec: Codec) -> AsyncGenerator[RelayTransport]:
    """Connect to the hub at `relay:///path/to.sock`."""
    lag_s = float(address.only("lag").get("lag", 0)) / 1e3
    try:
        reader, writer = await asyncio.open_unix_connection(address.path, limit=2**24)
    except OSError as error:
        raise ConnectError(
            f"no hub at {address.path}: {error.strerror}", url=address.url
        ) from error
    line = _SlowWriter(writer, lag_s) if lag_s else writer
    transport = RelayTransport(codec, reader, line, lag_s)
    receiving = asyncio.create_task(transport.receive())
    try:
        yield transport
    finally:
        # The hub closes when it has read all. Closing first would cost what it has not read yet.
        with suppress(OSError):
            line.write_eof()
        await asyncio.wait({receiving}, timeout=5)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
