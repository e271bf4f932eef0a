"""The log of the hub, as its clients use it: positions and order come from the hub's one writer.

An append whose connection breaks is sent again on the next one. The log tells what it holds
already, so it is appended once, and its receipt is the first one's.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, get_args

import msgspec
from msgspec import Struct

from hms_bus import plugins
from hms_bus.abc import (
    Capability,
    Codec,
    Durable,
    DurableInfo,
    Expect,
    Head,
    Receipt,
    Record,
    Selector,
    Verification,
)
from hms_bus.envelope import Envelope
from hms_bus.errors import (
    BusError,
    DecodeError,
    DisconnectedError,
    EncodeError,
    FrameError,
    LogCorruptError,
    LogError,
    StateError,
)
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import read_failure, to_error
from hms_bus.ipc.session import HeadInfo, LogInfo, Welcome
from hms_bus.logrules import check_durable, check_expect, check_selector
from hms_bus.transports.ipc.client import Client
from hms_bus.transports.ipc.consuming import HubConsumer
from hms_bus.transports.ipc.durables import HubDurables
from hms_bus.transports.ipc.reads import Reading


class _Append:
    """An APPEND until all its receipts are there; `flags` is `None` until it was sent."""

    __slots__ = ("blocks", "expect", "flags", "future", "receipts")

    def __init__(self, blocks: list[bytes], expect: int, future: asyncio.Future[Any]) -> None:
        self.blocks = blocks
        self.expect = expect
        self.future = future
        self.receipts: list[tuple[int, bool]] = []
        self.flags: int | None = None


class HubLog:
    """Contract: `hms_bus.abc.DeliveringLog`, and `ConsumingLog` where the hub's log is one.

    Made by the transport when the hub keeps a log.
    """

    def __init__(self, client: Client, codec: Codec, info: LogInfo) -> None:
        self._client = client
        self._encode = codec.encode
        self._codec_name = codec.name
        self._info = info
        self._appends: dict[int, _Append] = {}
        self._reads: dict[int, Reading] = {}
        self._durables = HubDurables(client, codec.name, lambda: self._info)
        self._max_frame = _max_frame(client)
        self._held = 0
        """Bytes of what was never sent, for want of a connection."""
        known: tuple[Capability, ...] = get_args(Capability)
        self.capabilities: frozenset[Capability] = frozenset(
            word for word in known if word in info.capabilities
        )
        client.handlers |= {
            frames.RECEIPTS: self._on_receipts,
            frames.RECORDS: self._on_records,
            frames.END: self._on_end,
        }
        self._on_other_failed = client.handlers[frames.FAILED]
        client.handlers[frames.FAILED] = self._on_failed
        client.up.append(self._on_up)
        client.down.append(self._on_down)
        client.over.append(self._on_over)

    # -- appending -----------------------------------------------------------------------------

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Append all or none, and deliver them; see `hms_bus.abc.DeliveringLog`."""
        check_expect((envelope.topic for envelope in envelopes), expect)
        if not envelopes:
            self._client.check()
            return []
        encode = self._encode
        blocks: list[bytes] = []
        topic, documents = envelopes[0].topic, list[bytes]()
        for envelope in envelopes:
            if envelope.topic != topic:
                blocks.append(frames.messages(topic.encode(), b"", documents))
                topic, documents = envelope.topic, []
            documents.append(encode(envelope))
        blocks.append(frames.messages(topic.encode(), b"", documents))
        receipts: list[tuple[int, bool]] = await self._begin(blocks, expect)
        return [
            Receipt(envelope.id, position, duplicate)
            for envelope, (position, duplicate) in zip(envelopes, receipts, strict=True)
        ]

    async def send(
        self,
        envelope: Envelope,
        *,
        expect: Expect = "any",
        to: str | None = None,
        reply_to: str | None = None,
    ) -> Receipt:
        """Append one envelope and deliver it; see `hms_bus.abc.DeliveringLog`."""
        # Hot path: 4 µs, of which the future and its turn of the event loop are half.
        address = (to or envelope.topic).encode()
        reply = b"" if reply_to is None else reply_to.encode()
        block = frames.messages(address, reply, (self._encode(envelope),))
        [(position, duplicate)] = await self._begin([block], expect)
        return Receipt(envelope.id, position, duplicate)

    def _begin(self, blocks: list[bytes], expect: Expect) -> asyncio.Future[Any]:
        client = self._client
        client.check()
        expected = frames.ANY_POSITION if expect == "any" else 0 if expect == "none" else expect
        append = _Append(blocks, expected, client.loop.create_future())
        call = client.calls.next_number()
        data = frames.append(call, 0, expected, blocks)
        if len(data) - frames.LENGTH_BYTES > self._max_frame:
            raise self._too_large(len(data))
        if client.wire is None:
            self._hold(call, append, len(data))
        else:
            append.flags = 0
            client.wire.write(data)
        self._appends[call] = append
        return append.future

    def _hold(self, call: int, append: _Append, size: int) -> None:
        """Keep an append until there is a connection, or its caller gives up."""
        limit = self._client.settings.max_buffer_bytes
        if self._held + size > limit:
            raise DisconnectedError(
                f"there is no connection to the hub, and {self._held} bytes are waiting for "
                f"one (the limit is {limit}, ?buffer= in the URL)"
            )
        self._held += size

        def forget(_: object) -> None:
            if append.flags is None:
                self._held -= size
                self._appends.pop(call, None)

        append.future.add_done_callback(forget)

    def _too_large(self, size: int) -> EncodeError:
        return EncodeError(
            f"what is to be appended at once has {size} bytes; the hub takes frames of at most "
            f"{self._max_frame}: append it in several parts, send references (dataref), or raise "
            "max_frame in hub.toml",
            field="data",
        )

    def _on_receipts(self, content: bytes) -> None:
        for call, position, flags in frames.read_receipts(content):
            append = self._appends.get(call)
            if append is None:
                continue
            # What an earlier try has appended is no duplicate for whoever tried.
            duplicate = bool(flags & frames.DUPLICATE) and append.flags != frames.RETRY
            append.receipts.append((position, duplicate))
            if flags & frames.LAST:
                del self._appends[call]
                if not append.future.done():
                    append.future.set_result(append.receipts)

    def _on_failed(self, content: bytes) -> None:
        """Fail an append or a read, or let the client fail what else it was."""
        call = frames.read_u32(content)
        append = self._appends.pop(call, None)
        read = self._reads.pop(call, None)
        if append is None and read is None:
            self._on_other_failed(content)
            return
        error = to_error(read_failure(content[5:]), url=self._client.settings.url)
        if append is not None and not append.future.done():
            append.future.set_exception(error)
        if read is not None:
            read.fail(error)

    # -- reading -------------------------------------------------------------------------------

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncGenerator[Record]:
        """Yield the selected records; see `hms_bus.abc.EventLog.read`."""
        return _flatten(self.read_batches(selector, follow=follow))

    def read_batches(
        self, selector: Selector, *, follow: bool = False
    ) -> AsyncGenerator[list[Record]]:
        """Yield the same records in lists, none of them empty."""
        self._client.check()
        check_selector(selector, follow=follow, where=self._info.url)
        return self._read(selector, follow=follow)

    async def _read(self, selector: Selector, *, follow: bool) -> AsyncGenerator[list[Record]]:
        client = self._client
        await client.connected()
        read = Reading(selector, follow=follow, codec=self._codec_name, loop=client.loop)
        call = client.calls.next_number()
        self._reads[call] = read
        self._send_read(call, read)
        try:
            while (batch := await read.next()) is not None:
                yield batch
                if more := read.more_credit():
                    self._write(frames.frame(frames.MORE, frames.U32_PAIR.pack(call, more)))
        finally:
            if self._reads.pop(call, None) is not None:
                self._write(frames.call_frame(frames.STOP, call))

    def _send_read(self, call: int, read: Reading) -> None:
        self._write(frames.call_frame(frames.READ, call, session.to_json(read.wanted())))

    def _write(self, data: bytes) -> None:
        if self._client.wire is not None:
            self._client.wire.write(data)

    def _on_records(self, content: bytes) -> None:
        call, entries = frames.read_records(content)
        read = self._reads.get(call)
        if read is None:
            return
        try:
            read.take([self._record(*entry) for entry in entries])
        except DecodeError as error:
            del self._reads[call]
            self._write(frames.call_frame(frames.STOP, call))
            read.fail(LogCorruptError(str(error), path=self._info.url))

    @staticmethod
    def _record(position: int, recorded_ns: int, document: bytes) -> Record:
        envelope = plugins.codec_of(document).decode(document)
        return Record(position=position, recorded_ns=recorded_ns, envelope=envelope)

    def _on_end(self, content: bytes) -> None:
        read = self._reads.pop(frames.read_u32(content), None)
        if read is not None:
            read.end()

    # -- durables ------------------------------------------------------------------------------

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[HubConsumer]:
        """Return the scope of a consumer; see `hms_bus.abc.ConsumingLog.consume`."""
        check_durable(durable)
        return self._durables.consume(durable)

    async def durables(self) -> list[DurableInfo]:
        """Return those durables, by name, whose records this client may read."""
        return await self._durables.infos()

    async def forget(self, name: str) -> None:
        """Remove a durable; see `hms_bus.abc.ConsumingLog.forget`."""
        await self._durables.forget(name)

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """Deliver dead letters again; see `hms_bus.abc.ConsumingLog.redrive`."""
        await self._durables.redrive(name, positions)

    # -- the rest ------------------------------------------------------------------------------

    async def head(self) -> Head:
        """Return the end of what is durable."""
        return _head(msgspec.convert(await self._client.ask("head"), HeadInfo))

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check everything, at the hub; see `hms_bus.abc.EventLog.verify`."""

        def tell(figures: Any) -> None:
            if progress is not None:
                progress(figures["done"], figures["total"])

        members: dict[str, Any] = {}
        if expected is not None:
            members["expected"] = HeadInfo(
                position=expected.position,
                hash=expected.hash.hex(),
                recorded_ns=expected.recorded_ns,
            )
        answer = await self._client.ask("verify", tell, **members)
        found = msgspec.convert(answer, _Verified)
        return Verification(
            records=found.records,
            head=_head(found.head),
            problem=found.problem,
            position=found.position,
        )

    # -- the line ------------------------------------------------------------------------------

    def _on_up(self, welcome: Welcome) -> None:
        """Go on with what was under way, unless the log is another one now."""
        self._max_frame = welcome.limits.max_frame
        info = welcome.log
        if info is None or not _goes_on(self._info, info):
            now = "none" if info is None else f"another one ({info.url})"
            lost = LogError(
                f"the hub's log {self._info.url} is gone: after the connection was lost the hub "
                f"keeps {now}",
                path=self._info.url,
            )
            self._fail_all(lost)
            if info is not None:
                self._info = info
            return
        self._info = info
        appends, self._appends = self._appends, {}
        self._held = 0
        for call, append in appends.items():
            self._append_again(call, append)
        for call, read in self._reads.items():
            self._send_read(call, read)
        self._durables.go_on()

    def _append_again(self, call: int, append: _Append) -> None:
        """Send what was never sent, or never answered, unless nobody waits for it any more."""
        if append.future.done():
            return
        append.flags = 0 if append.flags is None else frames.RETRY
        append.receipts.clear()
        data = frames.append(call, append.flags, append.expect, append.blocks)
        if len(data) - frames.LENGTH_BYTES > self._max_frame:
            append.future.set_exception(self._too_large(len(data)))
            return
        self._appends[call] = append
        self._write(data)

    def _on_down(self, error: Exception | None) -> None:
        """Keep what can go on: appends and reads do, wherever they were.

        Records that the client cannot take would come again with each connection.
        """
        self._durables.pause()
        if isinstance(error, FrameError) and error.reason == "frame-too-large":
            self._fail_reads(LogError(f"a record cannot be read: {error}", path=self._info.url))

    def _on_over(self, failure: BusError) -> None:
        self._fail_all(failure)

    def _fail_all(self, error: BusError) -> None:
        appends, self._appends = self._appends, {}
        self._held = 0
        for append in appends.values():
            was_sent = append.flags is not None
            append.flags = append.flags or 0
            if append.future.done():
                continue
            if was_sent and not isinstance(error, StateError):
                append.future.set_exception(DisconnectedError(f"{error}: the outcome is unknown"))
            else:
                append.future.set_exception(error)
        self._fail_reads(error)
        self._durables.fail(error)

    def _fail_reads(self, error: BusError) -> None:
        reads, self._reads = self._reads, {}
        for read in reads.values():
            read.fail(error)


def _max_frame(client: Client) -> int:
    return 2**24 if client.welcome is None else client.welcome.limits.max_frame


class _Verified(Struct, frozen=True, kw_only=True):
    records: int
    head: HeadInfo
    problem: str | None = None
    position: int | None = None


def _head(info: HeadInfo) -> Head:
    return Head(position=info.position, hash=bytes.fromhex(info.hash), recorded_ns=info.recorded_ns)


async def _flatten(batches: AsyncGenerator[list[Record]]) -> AsyncGenerator[Record]:
    try:
        async for batch in batches:
            for record in batch:
                yield record
    finally:
        await batches.aclose()


def _goes_on(before: LogInfo, now: LogInfo) -> bool:
    """Whether it is the same log; one that was empty has begun meanwhile, maybe."""
    if not before.identity:
        return before.url == now.url
    return before.identity == now.identity
