"""A transport between processes for tests, as a third party would write and install one.

The hub passes documents on over a Unix socket. A frame is a line, a JSON array:

    to the hub    ["sub", call, pattern, group]  ["unsub", call, sub]
                  ["pub", call, address, reply_to, document]
    from the hub  ["done", call, number]         ["msg", sub, reply_to, document]

`done` answers a call: with the number of a subscription, or of those that a message went to.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from hms_bus.abc import Capability, Codec, EventLog, Sink, Unsubscribe
from hms_bus.envelope import Envelope
from hms_bus.errors import ConnectError, NoRespondersError
from hms_bus.plugins import Address
from hms_bus.topics import Pattern, parse_pattern

ENTRY_POINT = "[hms_bus.transports]\nrelay = tests.support.relay:open_relay\n"


def install(folder: Path) -> None:
    """Make the transport known to every Python that has `folder` on its path."""
    metadata = folder / "relay_for_tests-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: relay-for-tests\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)


class Hub:
    """Passes messages on between its clients; each group's members take turns."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._subs: dict[int, tuple[Pattern, str | None, asyncio.StreamWriter]] = {}

    async def serve(self, path: str, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Listen at `path` until `stop` is set; call `started` when it listens."""
        server = await asyncio.start_unix_server(self._talk, path, limit=2**24)
        started()
        await stop.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                verb, call, *rest = json.loads(line)
                number = getattr(self, f"_{verb}")(writer, *rest)
                _send(writer, ["done", call, number])
        except ConnectionError:
            pass
        finally:
            for number in [n for n, sub in self._subs.items() if sub[2] is writer]:
                del self._subs[number]
            writer.close()

    def _sub(self, writer: asyncio.StreamWriter, pattern: str, group: str | None) -> int:
        number = next(self._numbers)
        self._subs[number] = parse_pattern(pattern), group, writer
        return number

    def _unsub(self, writer: asyncio.StreamWriter, number: int) -> int:
        self._subs.pop(number, None)
        return number

    def _pub(
        self, writer: asyncio.StreamWriter, address: str, reply_to: str | None, document: str
    ) -> int:
        matching = {n: sub for n, sub in self._subs.items() if sub[0].matches(address)}
        groups: dict[object, list[int]] = {}
        for number, (pattern, group, _) in matching.items():
            key = number if group is None else (pattern.plain, group)
            groups.setdefault(key, []).append(number)
        turn = next(self._numbers)
        for members in groups.values():
            number = members[turn % len(members)]
            _send(self._subs[number][2], ["msg", number, reply_to, document])
        return len(groups)


def _send(writer: asyncio.StreamWriter, frame: list[Any]) -> None:
    writer.write(json.dumps(frame).encode() + b"\n")


class RelayTransport:
    """The client's end. Contract: `hms_bus.abc.Transport`."""

    capabilities: frozenset[Capability] = frozenset({"groups", "no-responders", "publisher-order"})
    log: EventLog | None = None

    def __init__(
        self, codec: Codec, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._codec = codec
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._calls: dict[int, asyncio.Future[int]] = {}
        self._sinks: dict[int, Sink] = {}
        self._early: dict[int, list[tuple[str | None, str]]] = {}

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None]:
        address = to or envelope.topic
        document = base64.b64encode(self._codec.encode(envelope)).decode()
        reached = self._call("pub", address, reply_to, document)
        return self._reached(reached, address if reply_to else None)

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        number = await self._call("sub", pattern, group)
        self._sinks[number] = sink
        for reply_to, document in self._early.pop(number, []):
            await self._offer(sink, reply_to, document)

        async def unsubscribe() -> None:
            if self._sinks.pop(number, None):
                await self._call("unsub", number)

        return unsubscribe

    async def receive(self) -> None:
        """Take what the hub sends, until it ends the connection."""
        while line := await self._reader.readline():
            kind, number, *rest = json.loads(line)
            if kind == "done":
                self._calls.pop(number).set_result(rest[0])
            elif sink := self._sinks.get(number):
                await self._offer(sink, *rest)
            else:
                self._early.setdefault(number, []).append((rest[0], rest[1]))

    async def _offer(self, sink: Sink, reply_to: str | None, document: str) -> None:
        room = sink.offer(self._codec.decode(base64.b64decode(document)), reply_to)
        if room is not None:
            await room

    def _call(self, *frame: Any) -> asyncio.Future[int]:
        number = next(self._numbers)
        done = self._calls[number] = asyncio.get_running_loop().create_future()
        _send(self._writer, [frame[0], number, *frame[1:]])
        return done

    @staticmethod
    async def _reached(reached: asyncio.Future[int], asked: str | None) -> None:
        if not await reached and asked:
            raise NoRespondersError(asked)


@asynccontextmanager
async def open_relay(address: Address, *, codec: Codec) -> AsyncGenerator[RelayTransport]:
    """Connect to the hub at `relay:///path/to.sock`."""
    address.only()
    try:
        reader, writer = await asyncio.open_unix_connection(address.path, limit=2**24)
    except OSError as error:
        raise ConnectError(
            f"no hub at {address.path}: {error.strerror}", url=address.url
        ) from error
    transport = RelayTransport(codec, reader, writer)
    receiving = asyncio.create_task(transport.receive())
    try:
        yield transport
    finally:
        receiving.cancel()
        writer.close()
        with suppress(asyncio.CancelledError, OSError):
            await writer.wait_closed()
