"""One client at the hub: its connection, what it may do, and what waits for it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

from hms_bus.errors import Action, FrameError
from hms_bus.hub.consuming import Consuming
from hms_bus.hub.reads import Reading
from hms_bus.hub.refusals import What
from hms_bus.hub.rights import Rights
from hms_bus.hub.seams import Pumped
from hms_bus.hub.subscriptions import Subscription
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ipc import frames, session
from hms_bus.ipc.buffers import widen
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Failure, Hello, Limits

_MAX_HELLO_BYTES = 64 * 2**10
"""Who has not said who it is has no business with larger frames."""

_MAX_ANSWER_BYTES = 8 * 2**20
"""Answers that a client does not read; beyond it nothing more is read of it either."""

_INBOXES = "$inbox."


class Host(Protocol):
    """The hub as its peers need it; `Desk` is the real one."""

    loop: asyncio.AbstractEventLoop
    switchboard: Switchboard
    limits: Limits
    max_client_bytes: int
    buffer: memoryview
    """What all connections are read into, one after the other."""

    def next_number(self) -> int:
        """Return a number that no client has had."""
        ...

    def welcome_later(self, peer: "Peer") -> None:
        """A connection was made."""
        ...

    def forget(self, peer: "Peer") -> None:
        """A connection has ended."""
        ...

    def audit(self, peer: "Peer", what: What, topic: str | None, reason: str) -> None:
        """Record a refusal."""
        ...

    def deny(self, peer: "Peer", action: Action, topic: str | None) -> Failure:
        """Record that a right is missing; return what the client is told."""
        ...

    def report_bug(self, peer: "Peer", error: Exception) -> None:
        """Log what should not have happened."""
        ...


class Peer(asyncio.BufferedProtocol):
    """The hub's end of one connection.

    Messages are sent while the client reads (`is_congested` is false), answers always: there is at
    most one for each call, and a client that leaves too many unread is not heard any more.

    Hot path: the bytes of a read are copied once, into the `bytes` that frames are slices of;
    asyncio's own `Protocol` would make a buffer of 256 KiB for each read (11.5 µs against 1.1).
    They are copied at once, so all peers lend the same buffer.
    """

    def __init__(self, desk: Host, handle: Callable[["Peer", bytes], None]) -> None:
        self.desk = desk
        self.switchboard = desk.switchboard
        self._view = desk.buffer
        self._reader = frames.FrameReader(_MAX_HELLO_BYTES)
        self._out: list[bytes] = []
        self._receipts: list[tuple[int, int, int]] = []
        self._is_dirty = False
        self._held_back_by: set[object] = set()
        self.handle = handle
        """What takes the frames of this client: it depends on what was said before."""
        self._uncongested: list[asyncio.Future[None]] = []
        self._reads: dict[int, Reading] = {}
        self.consumers: dict[int, Consuming] = {}
        self.answering: set[asyncio.Task[None]] = set()
        """The questions of this client that are being answered."""
        self._denied: set[bytes] = set()
        self._allowed: set[bytes] = set()
        self.may_all = True
        self.transport: asyncio.Transport | None = None
        self.limits: Limits = desk.limits
        self.max_queued_bytes = desk.max_client_bytes
        self.number = desk.next_number()
        self.rights: Rights | None = None
        self.hello: Hello | None = None
        self.codecs: list[str] = []
        self.windows: dict[bytes, int] = {}
        self.subscriptions: dict[int, Subscription] = {}
        self.given: set[bytes] = set()
        """The reply addresses that this client was given."""
        self.held: dict[Pumped, None] = {}
        """The subscriptions that have something in their queue, in the order of its coming."""
        self.is_congested = False
        self.is_open = False
        self.said_bye = False
        self.connected_ns = 0
        self.heard_s = 0.0
        self.uid: int | None = None
        self.pid: int | None = None
        self.received = 0
        self.delivered = 0
        self.dropped = 0
        self.queued = 0
        self.queued_bytes = 0

    # -- asyncio's side ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask who it is; the hub greets only who may be here."""
        self.transport = cast("asyncio.Transport", transport)
        widen(self.transport)
        self.is_open = True
        self.desk.welcome_later(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer that is read into."""
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Deal with what was read, then write what came of it."""
        self.heard_s = self.desk.loop.time()
        self.switchboard.counts.bytes_in += nbytes
        try:
            for content in self._reader.feed(bytes(self._view[:nbytes])):
                if not self.is_open:
                    break
                self.handle(self, content)
        except FrameError as error:
            self.audit("protocol", None, str(error))
            self.end(to_failure(error, reason=error.reason))
        except Exception as error:  # noqa: BLE001 - a bug in here ends one client, not the hub
            self.fail_with(error)
        self.switchboard.flush()

    def fail_with(self, error: Exception) -> None:
        """End it for a bug of the hub, which is logged."""
        self.desk.report_bug(self, error)
        try:
            self.end(Failure(code="INTERNAL", message=f"{type(error).__name__}: {error}"))
        except Exception:  # noqa: BLE001 - not even that can be said
            self.close()

    def pause_writing(self) -> None:
        """Hold messages back: the client does not read."""
        self.is_congested = True

    def resume_writing(self) -> None:
        """Send what was held back."""
        self.is_congested = False
        for waiter in self._uncongested:
            if not waiter.done():
                waiter.set_result(None)
        self._uncongested.clear()
        self._go_on_reading()
        for subscription in list(self.held):
            subscription.pump()
            if self.is_congested:
                break
        self.switchboard.flush()

    def eof_received(self) -> bool:
        """Close: who sends no more is not listening either."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all that belonged to the client."""
        del exc
        self.is_open = False
        self._out.clear()
        for reading in list(self._reads.values()):
            reading.stop()
        for consuming in list(self.consumers.values()):
            consuming.leave()
        self.is_congested = False
        for waiter in self._uncongested:
            if not waiter.done():
                waiter.set_result(None)
        self._unsubscribe_all()
        self.desk.forget(self)

    # -- sending -------------------------------------------------------------------------------

    def send(self, head: bytes, block: bytes) -> None:
        """Write one frame whose length is not counted yet, soon."""
        self._out += (frames.U32.pack(len(head) + len(block)), head, block)
        if not self._is_dirty:
            self._is_dirty = True
            self.switchboard.note_dirty(self)

    def send_frame(self, whole: bytes) -> None:
        """Write one frame, soon."""
        self._out.append(whole)
        if not self._is_dirty:
            self._is_dirty = True
            self.switchboard.note_dirty(self)

    def add_receipt(self, call: int, position: int, flags: int) -> None:
        """Write a receipt, soon and together with others."""
        self._receipts.append((call, position, flags))
        if not self._is_dirty:
            self._is_dirty = True
            self.switchboard.note_dirty(self)

    def flush(self) -> None:
        """Write all that has come together, in one piece; nothing behind an ERROR or BYE."""
        self._is_dirty = False
        if not self.is_open or self.transport is None:
            self._out.clear()
            self._receipts.clear()
            return
        if self._receipts:
            self._out.append(frames.receipts(self._receipts))
            self._receipts.clear()
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self.switchboard.counts.bytes_out += len(data)
        self.transport.write(data)
        if self.is_congested and self.transport.get_write_buffer_size() > _MAX_ANSWER_BYTES:
            with suppress(RuntimeError):
                self.transport.pause_reading()

    def fail(self, call: int, failure: Failure) -> None:
        """Answer a call with FAILED."""
        self.send_frame(frames.call_frame(frames.FAILED, call, session.to_json(failure)))

    def end(self, failure: Failure) -> None:
        """Say why, and close the connection."""
        if not self.is_open or self.transport is None:
            return
        self.send_frame(frames.frame(frames.ERROR, session.to_json(failure)))
        self.flush()
        self.close()

    def close(self) -> None:
        """Close behind what was written; at once when the client does not read it.

        It gets nothing any more, so that what would be for it goes to others of its groups.
        """
        self.is_open = False
        self._unsubscribe_all()
        if self.transport is not None:
            self.transport.close()
            self.desk.loop.call_later(1.0, self.transport.abort)

    def _unsubscribe_all(self) -> None:
        subscriptions, self.subscriptions = self.subscriptions, {}
        for subscription in subscriptions.values():
            self.switchboard.unsubscribe(subscription)
        self.switchboard.flush()

    # -- flow ----------------------------------------------------------------------------------

    def note_held(self, subscription: Pumped, size: int, count: int) -> None:
        """Count what waits for this client."""
        self.held[subscription] = None
        self.queued += count
        self.queued_bytes += size
        self.switchboard.queued_bytes += size

    def note_released(self, subscription: Pumped, size: int, count: int) -> None:
        """Count what waits no more."""
        if not subscription.queued:
            self.held.pop(subscription, None)
        self.queued -= count
        self.queued_bytes -= size
        self.switchboard.note_released(self, size)

    @property
    def is_held_back(self) -> bool:
        """Whether nothing is read of it at the moment."""
        return bool(self._held_back_by)

    def hold_back(self, by: object) -> None:
        """Read nothing more of this client until whoever holds it back lets it go on."""
        self._held_back_by.add(by)
        if self.transport is not None:
            with suppress(RuntimeError):
                self.transport.pause_reading()

    def go_on(self, by: object) -> None:
        """Read again, unless another one holds it back."""
        if by in self._held_back_by:
            self._held_back_by.remove(by)
            self._go_on_reading()

    def _go_on_reading(self) -> None:
        if self.transport is None or self._held_back_by or self.transport.is_closing():
            return
        with suppress(RuntimeError):
            self.transport.resume_reading()

    async def readable(self) -> None:
        """Return when the client reads again, or has gone."""
        if self.is_congested:
            waiter = self.desk.loop.create_future()
            self._uncongested.append(waiter)
            await waiter

    # -- rights --------------------------------------------------------------------------------

    def may_publish(self, address: bytes) -> bool:
        """Whether this client may send to an address that is a valid topic."""
        if self.may_all or address in self._allowed:
            return True
        if address in self._denied or self.rights is None:
            return False
        may = self.rights.may_publish(address.decode())
        known = self._allowed if may else self._denied
        if len(known) >= self.limits.max_topics:
            known.clear()
        known.add(address)
        return may

    def may_append(self, address: str, topic: str) -> bool:
        """Whether this client may append an envelope with `topic` that goes to `address`."""
        return self.may_all or (self.rights is not None and self.rights.may_append(address, topic))

    def deny_publish(self, topic: str) -> Failure:
        """Record that the right to publish is missing; return what the client is told."""
        return self.desk.deny(self, "publish", topic)

    def deny_append(self, topic: str) -> Failure:
        """Record that the right to append is missing; return what the client is told."""
        self.switchboard.counts.refused += 1
        return self.desk.deny(self, "append", topic)

    def audit(self, what: What, topic: str | None, reason: str) -> None:
        """Record a refusal."""
        self.desk.audit(self, what, topic, reason)

    # -- what it is and does ---------------------------------------------------------------------

    def admit(self, hello: Hello, rights: Rights, *, may_all: bool) -> None:
        """Note who it is and what it may do."""
        self.hello = hello
        self._reader.max_frame = self.limits.max_frame
        self.rights = rights
        self.codecs = hello.codecs
        self.may_all = may_all

    def begin_read(self, call: int, reading: Reading) -> None:
        """Keep a reading until it ends."""
        self._reads[call] = reading

    def end_read(self, call: int, last: bytes) -> None:
        """Let go of a reading, and send its last frame."""
        self._reads.pop(call, None)
        if self.is_open:
            self.send_frame(last)
            self.switchboard.flush()

    @property
    def readings(self) -> Mapping[int, Reading]:
        """What it reads at the moment, by call."""
        return self._reads

    def describe(self) -> dict[str, Any]:
        """Return the client's figures, as `status` shows them."""
        info = self.hello.client if self.hello else None
        return {
            "number": self.number,
            "name": info.name if info else "",
            "pid": self.pid or (info.pid if info else None),
            "uid": self.uid,
            "sdk": info.sdk if info else None,
            "token": self.rights.name if self.rights else None,
            "connected_ns": self.connected_ns,
            "received": self.received,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "queued": self.queued,
            "queued_bytes": self.queued_bytes,
            "congested": self.is_congested,
            "waiting": sum(sub.waiting for sub in self.subscriptions.values()),
            "subscriptions": [
                {
                    "pattern": _shown(sub.pattern.text),
                    "group": sub.group,
                    "overflow": sub.overflow,
                    "credit": sub.credit if sub.is_limited else None,
                    "load": sub.load,
                    "queued": sub.queued,
                    "delivered": sub.delivered,
                    "dropped": sub.dropped,
                }
                for sub in self.subscriptions.values()
            ],
            "consumers": [consuming.describe() for consuming in self.consumers.values()],
        }


def _shown(pattern: str) -> str:
    """Return a pattern as everybody may see it: who knows an inbox can read and answer there."""
    return f"{_INBOXES}…" if pattern.startswith(_INBOXES) else pattern
