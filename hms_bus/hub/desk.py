"""The front of the hub: who comes in, what is asked beside messages, who has to go."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from itertools import count as counting
from typing import Any

import msgspec
from msgspec import to_builtins

from hms_bus.__about__ import __version__
from hms_bus.abc import EventLog, Head
from hms_bus.errors import Action, BusError, ConfigError, FrameError, RefusedError, UsageError
from hms_bus.hub.audit import Audit
from hms_bus.hub.journal import NO_LOG, Journal
from hms_bus.hub.listening import PeerInfo, is_welcome, peer_of
from hms_bus.hub.peer import Peer
from hms_bus.hub.reads import Reading, selector_of
from hms_bus.hub.refusals import Refusal, What
from hms_bus.hub.rights import EVERYTHING, authenticate
from hms_bus.hub.settings import HubSettings
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ids import stamp
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import (
    Ask,
    Failure,
    Farewell,
    HeadInfo,
    Hello,
    HubInfo,
    Limits,
    Read,
    Welcome,
    agree,
)
from hms_bus.logrules import check_selector

logger = logging.getLogger("hms_bus.hub")

_HELLO_WITHIN_S = 5.0
_PATIENCE = 3
"""Heartbeats in which nothing is heard until a client is given up."""

Handler = Callable[[Peer, bytes], None]
"""What takes the frames of a client."""

_CODECS = ["json", "cbor", "protobuf"]


class Desk:
    """Greets clients and answers what is not about messages.

    `secret` is what a client has to say where the system does not tell who it is (loopback TCP).
    `on_stop` is called when a client asks the hub to end.
    """

    def __init__(
        self,
        settings: HubSettings,
        *,
        name: str,
        secret: str | None,
        audit: Audit,
        on_stop: Callable[[], None],
        is_spawned: bool = False,
    ) -> None:
        limits = settings.limits
        self.loop = asyncio.get_running_loop()
        self.switchboard = Switchboard(max_window=limits.max_window, max_bytes=limits.max_bytes)
        self.journal = Journal(self.switchboard)
        self.limits = Limits(
            max_frame=limits.max_frame,
            max_subscriptions=limits.max_subscriptions,
            max_topics=limits.max_topics,
            max_reads=limits.max_reads,
            heartbeat_s=limits.heartbeat_s,
        )
        self.max_client_bytes = limits.max_client_bytes
        self.next_number = counting(1).__next__
        self.is_ending = False
        self.peers: dict[int, Peer] = {}
        """The clients that were welcomed, by number."""
        self.idle_since_s = self.loop.time()
        self.deserted = asyncio.Event()
        """Set while there is no client."""
        self.deserted.set()
        self._settings = settings
        self._secret = secret
        self._audit = audit
        self._on_stop = on_stop
        self._is_spawned = is_spawned
        self._info = HubInfo(
            name=name,
            pid=os.getpid(),
            version=__version__,
            started_ns=time.time_ns(),
            instance=stamp()[0],
        )
        self._strangers: dict[Peer, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- coming --------------------------------------------------------------------------------

    def welcome_later(self, peer: Peer) -> None:
        """Give who has connected the time to say HELLO, if it may be here at all."""
        info = peer_of(peer.transport) if peer.transport is not None else None
        if info is not None:
            peer.uid, peer.pid = info.uid, info.pid
        if not is_welcome(info, self._settings.allow_uids):
            self._turn_away(peer, info)
            return
        self._strangers[peer] = self.loop.call_later(_HELLO_WITHIN_S, self._give_up, peer)

    def _turn_away(self, peer: Peer, info: PeerInfo | None) -> None:
        uid = None if info is None else info.uid
        self.audit(peer, "peer", None, f"user {uid} is not allowed here")
        text = f"this hub belongs to another user than {uid}"
        peer.end(Failure(code="UNAUTHENTICATED", message=text, reason="unauthenticated"))

    @staticmethod
    def _give_up(peer: Peer) -> None:
        text = f"nothing was said within {_HELLO_WITHIN_S:g} s: send a HELLO"
        peer.end(Failure(code="FAILED_PRECONDITION", message=text, reason="no-hello"))

    def greet(self, peer: Peer, hello: Hello, then: Handler) -> None:
        """Answer a HELLO, once the log that it asks for is open; `then` takes what comes next."""
        if timer := self._strangers.pop(peer, None):
            timer.cancel()
        self._begin(self._greet(peer, hello, then))

    async def _greet(self, peer: Peer, hello: Hello, then: Handler) -> None:
        peer.hello = hello
        failure = self._check(peer, hello) or await self._provide_log(peer, hello)
        if failure is not None:
            what: What = "unauthenticated" if failure.reason == "unauthenticated" else "protocol"
            self.audit(peer, what, None, failure.message)
            peer.end(failure)
            return
        if not peer.is_open:
            return
        peer.connected_ns = time.time_ns()
        peer.handle = then
        self.peers[peer.number] = peer
        self.deserted.clear()
        welcome = Welcome(
            protocol=agree(*hello.protocol) or 0,
            envelope=session.SPECVERSION,
            codecs=_CODECS,
            hub=self._info,
            client=peer.number,
            limits=self.limits,
            log=self.journal.info(),
        )
        peer.send_frame(frames.frame(frames.WELCOME, session.to_json(welcome)))
        peer.flush()
        if self.is_ending:
            self._say_bye(peer)

    def refuse_version(self, peer: Peer, offered: tuple[int, int]) -> None:
        """Turn away a client that speaks other versions of the protocol."""
        lowest, highest = session.PROTOCOL
        text = (
            f"the hub ({self._info.version}) speaks the versions {lowest} to {highest} of the "
            f"protocol, the client {offered[0]} to {offered[1]}: update the older one"
        )
        self.audit(peer, "protocol", None, text)
        peer.end(
            Failure(
                code="FAILED_PRECONDITION",
                message=text,
                reason="protocol-version",
                details={"hub": [lowest, highest], "client": list(offered)},
            )
        )

    def _check(self, peer: Peer, hello: Hello) -> Failure | None:
        """Return why a client cannot come in; let it in otherwise."""
        if hello.envelope != session.SPECVERSION:
            text = f"the hub knows envelopes of the specversion 1.0, not {hello.envelope!r:.20}"
            return Failure(code="FAILED_PRECONDITION", message=text, reason="envelope-version")
        if not set(hello.codecs) & set(_CODECS):
            text = f"the hub knows the codecs {', '.join(_CODECS)}, the client none of them"
            return Failure(code="INVALID_ARGUMENT", message=text, reason="bad-frame")
        if len(self.peers) >= self._settings.limits.max_clients:
            text = f"the hub has {len(self.peers)} clients, and no more are allowed"
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit", retryable=True)
        return self._admit(peer, hello)

    def _admit(self, peer: Peer, hello: Hello) -> Failure | None:
        try:
            # Over TCP nothing but the file of the port tells that a client is this user's.
            rights = authenticate(self._settings.tokens, hello.token, secret=self._secret)
        except RefusedError as error:
            return to_failure(error)
        peer.admit(hello, rights, may_all=rights is EVERYTHING)
        return None

    async def _provide_log(self, peer: Peer, hello: Hello) -> Failure | None:
        """Open the log that a client asks for. Returns why it cannot have it."""
        if hello.log is None:
            return None
        if self.journal.url is None:
            if not self._may_choose_log(peer):
                text = "a client with a token opens no log here: start the hub with --log"
                return Failure(code="FAILED_PRECONDITION", message=text, reason="no-log")
            try:
                await self.journal.open(hello.log)
            except BusError as error:
                return to_failure(error)
        try:
            if await self.journal.keeps(hello.log):
                return None
        except ConfigError as error:
            return to_failure(error)
        return Failure(
            code="FAILED_PRECONDITION",
            message=(
                f"the hub keeps the log {self.journal.url}, not {hello.log}: open the bus with the "
                "same log or with none, or use another hub"
            ),
            reason="other-log",
            details={"hub": self.journal.url, "client": hello.log},
        )

    @staticmethod
    def _may_choose_log(peer: Peer) -> bool:
        """Whether it may name a file that the hub makes with its own user's rights."""
        is_own = peer.uid is None or peer.uid == os.getuid()
        return is_own and peer.rights is not None and peer.rights.is_admin

    # -- going ---------------------------------------------------------------------------------

    def forget(self, peer: Peer) -> None:
        """Let go of a client whose connection has ended."""
        if timer := self._strangers.pop(peer, None):
            timer.cancel()
        self.peers.pop(peer.number, None)
        self.switchboard.forget(peer, peer.subscriptions.values())
        if not self.peers:
            self.idle_since_s = self.loop.time()
            self.deserted.set()

    def part(self, peer: Peer) -> None:
        """Answer a BYE when all that the client appended before is answered."""
        self._begin(self._part(peer))

    async def _part(self, peer: Peer) -> None:
        await self.journal.settled()
        if peer.is_open:
            peer.send_frame(frames.frame(frames.BYE, session.to_json(Farewell())))
            peer.flush()
            peer.close()

    def say_bye(self, reason: str) -> None:
        """Tell every client that the hub ends."""
        self.is_ending = True
        for peer in list(self.peers.values()):
            self._say_bye(peer, reason)

    @staticmethod
    def _say_bye(peer: Peer, reason: str = "the hub ends") -> None:
        peer.send_frame(frames.frame(frames.BYE, session.to_json(Farewell(reason=reason))))
        peer.flush()

    def end_all(self) -> None:
        """Close what is still connected."""
        closing = Failure(
            code="UNAVAILABLE", message="the hub ends", reason="closing", retryable=True
        )
        for peer in (*self._strangers, *self.peers.values()):
            peer.end(closing)

    def check_heartbeats(self) -> None:
        """Ping who was not heard for a heartbeat, give up who was not for three."""
        now = self.loop.time()
        heartbeat_s = self.limits.heartbeat_s
        for peer in list(self.peers.values()):
            if peer.is_held_back:
                peer.heard_s = now  # it may be saying something all the time
            silent_s = now - peer.heard_s
            if silent_s > _PATIENCE * heartbeat_s:
                text = f"nothing was heard for {silent_s:.0f} s"
                peer.end(
                    Failure(code="DEADLINE_EXCEEDED", message=text, reason="idle", retryable=True)
                )
            elif silent_s > heartbeat_s:
                peer.send_frame(frames.frame(frames.PING, time.time_ns().to_bytes(8)))
                peer.flush()

    # -- questions -----------------------------------------------------------------------------

    def read(self, peer: Peer, call: int, wanted: Read) -> None:
        """Begin to send records."""
        failure = self._check_read(peer, call, wanted)
        if failure is not None or self.journal.log is None:
            peer.fail(call, failure or NO_LOG)
            return
        try:
            peer.begin_read(call, Reading(peer, call, self.journal.log, wanted))
        except ConfigError as error:
            peer.fail(call, to_failure(error))

    def _check_read(self, peer: Peer, call: int, wanted: Read) -> Failure | None:
        if call in peer.readings:
            raise FrameError(f"the call {call} is under way")
        if len(peer.readings) >= self.limits.max_reads:
            text = f"a client reads at most {self.limits.max_reads} times at once"
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit")
        try:
            pattern = check_selector(
                selector_of(wanted), follow=wanted.follow, where="the hub's log"
            )
        except UsageError as error:
            return to_failure(error)
        if peer.rights is None or not peer.rights.may_read(pattern):
            return self.deny(peer, "read", wanted.pattern)
        return None

    def deny(self, peer: Peer, action: Action, topic: str | None) -> Failure:
        """Record that a right is missing; return what the client is told."""
        error = (peer.rights or EVERYTHING).denied(action, topic)
        self.audit(peer, "denied", topic, str(error))
        return to_failure(error)

    def answer(self, peer: Peer, call: int, ask: Ask) -> None:
        """Answer an ASK."""
        match ask.op:
            case "status":
                self._begin(self._answer(peer, call, self._status()))
            case "head" | "verify":
                if (log := self.journal.log) is None:
                    peer.fail(call, NO_LOG)
                    return
                self._begin(self._answer(peer, call, self._of_log(log, peer, call, ask)))
            case "stop" if peer.rights is not None and peer.rights.is_admin:
                self._reply(peer, call, {})
                self._on_stop()
            case "stop":
                peer.fail(call, self.deny(peer, "stop", None))
            case other:
                text = f"this hub knows no {other!r:.40}"
                peer.fail(
                    call,
                    Failure(
                        code="UNIMPLEMENTED",
                        message=text,
                        reason="unsupported",
                        details={"what": other[:40], "where": "the hub"},
                    ),
                )

    async def _answer(self, peer: Peer, call: int, work: Coroutine[Any, Any, Any]) -> None:
        try:
            document = await work
        except BusError as error:
            peer.fail(call, to_failure(error))
        else:
            self._reply(peer, call, document)
        peer.flush()

    @staticmethod
    def _reply(peer: Peer, call: int, document: Any, *, more: bool = False) -> None:
        content = msgspec.json.encode(document)
        peer.send_frame(frames.call_frame(frames.ANSWER, call, bytes([more]), content))

    async def _of_log(self, log: EventLog, peer: Peer, call: int, ask: Ask) -> dict[str, Any]:
        if ask.op == "head":
            return to_builtins(_head_info(await log.head()))

        def progress(done: int, total: int) -> None:
            self._reply(peer, call, {"done": done, "total": total}, more=True)
            peer.flush()

        expected = None if ask.expected is None else _head(ask.expected)
        found = await log.verify(expected=expected, progress=progress)
        return {
            "records": found.records,
            "head": to_builtins(_head_info(found.head)),
            "problem": found.problem,
            "position": found.position,
        }

    async def _status(self) -> dict[str, Any]:
        """Return the hub's figures; the shape stands in docs/guide/ipc.md."""
        peers = list(self.peers.values())
        counts = self.switchboard.counts
        return {
            "hub": {
                "name": self._info.name,
                "url": self._settings.listen,
                "pid": self._info.pid,
                "version": self._info.version,
                "protocol": session.PROTOCOL[1],
                "started_ns": self._info.started_ns,
                "spawned": self._is_spawned,
                "idle_s": self._settings.idle_s if self._is_spawned else None,
            },
            "log": await self._log_status(),
            "limits": to_builtins(self._settings.limits),
            "totals": {
                "clients": len(peers),
                "subscriptions": sum(len(peer.subscriptions) for peer in peers),
                "received": counts.received,
                "delivered": counts.delivered + sum(peer.delivered for peer in peers),
                "bytes_in": counts.bytes_in,
                "bytes_out": counts.bytes_out,
                "dropped": counts.dropped + sum(peer.dropped for peer in peers),
                "returned": counts.returned,
                "refused": counts.refused,
                "appended": self.journal.appended,
                "queued": sum(peer.queued for peer in peers),
                "queued_bytes": self.switchboard.queued_bytes,
            },
            "clients": [peer.describe() for peer in peers],
        }

    async def _log_status(self) -> dict[str, Any] | None:
        info = self.journal.info()
        if info is None or self.journal.log is None:
            return None
        head = await self.journal.log.head()
        return {
            "url": info.url,
            "position": head.position,
            "capabilities": info.capabilities,
        }

    # -- what goes wrong -----------------------------------------------------------------------

    def audit(self, peer: Peer, what: What, topic: str | None, reason: str) -> None:
        """Record a refusal."""
        info = peer.hello.client if peer.hello else None
        refusal = Refusal(
            what=what,
            reason=reason,
            client=peer.number,
            name=info.name if info else None,
            pid=peer.pid,
            uid=peer.uid,
            token=peer.rights.name if peer.rights else None,
            topic=topic,
        )
        self._audit.refuse(refusal)

    @staticmethod
    def report_bug(peer: Peer, error: Exception) -> None:
        """Log what should not have happened; the client is told, and the hub goes on."""
        logger.error("a frame of client %s failed: %r", peer.number, error, exc_info=error)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the hub failed: %r", error, exc_info=error)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _head_info(head: Head) -> HeadInfo:
    return HeadInfo(position=head.position, hash=head.hash.hex(), recorded_ns=head.recorded_ns)


def _head(info: HeadInfo) -> Head:
    try:
        digest = bytes.fromhex(info.hash)
    except ValueError as error:
        raise FrameError(f"the hash of a head is hexadecimal: {error}") from error
    return Head(position=info.position, hash=digest, recorded_ns=info.recorded_ns)
