"""The front of the hub: who comes in, what is asked beside messages, who has to go."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from itertools import count as counting
from typing import Any

from hms_bus.__about__ import __version__
from hms_bus.errors import Action, BusError, ConfigError, RefusedError
from hms_bus.hub.audit import Audit
from hms_bus.hub.journal import Journal
from hms_bus.hub.peer import Peer
from hms_bus.hub.reads import CODECS
from hms_bus.hub.refusals import Refusal, What
from hms_bus.hub.rights import EVERYTHING, authenticate
from hms_bus.hub.schedules import Schedules
from hms_bus.hub.settings import HubSettings
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ids import stamp
from hms_bus.ipc import frames, session
from hms_bus.ipc.buffers import READ_BYTES
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.peers import PeerInfo, is_welcome, peer_of
from hms_bus.ipc.session import (
    Failure,
    Farewell,
    Hello,
    HubInfo,
    Limits,
    Welcome,
    agree,
)
from hms_bus.logrules import keeps_durables

logger = logging.getLogger("hms_bus.hub")

_HELLO_WITHIN_S = 5.0
_PATIENCE = 3
"""Heartbeats in which nothing is heard until a client is given up."""

Handler = Callable[[Peer, bytes], None]
"""What takes the frames of a client."""


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
        self._schedules = Schedules(self.journal)
        self._runs_schedules = False
        self.limits = Limits(
            max_frame=limits.max_frame,
            max_subscriptions=limits.max_subscriptions,
            max_topics=limits.max_topics,
            max_reads=limits.max_reads,
            max_consumers=limits.max_consumers,
            heartbeat_s=limits.heartbeat_s,
        )
        self.max_client_bytes = limits.max_client_bytes
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.next_number = counting(1).__next__
        self.is_ending = False
        self.peers: dict[int, Peer] = {}
        """The clients that were welcomed, by number."""
        self.idle_since_s = self.loop.time()
        self.deserted = asyncio.Event()
        """Set while there is no client."""
        self.parted = asyncio.Event()
        """Set when the hub ends and no client has anything more to say."""
        self.deserted.set()
        self.settling: set[asyncio.Task[None]] = set()
        """The settlements that are under way."""
        self.settings = settings
        self._secret = secret
        self._audit = audit
        self.on_stop = on_stop
        self.is_spawned = is_spawned
        self.info = HubInfo(
            name=name,
            pid=os.getpid(),
            version=__version__,
            started_ns=time.time_ns(),
            instance=stamp()[0],
            tokens=bool(settings.tokens),
        )
        self._strangers: dict[Peer, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- coming --------------------------------------------------------------------------------

    def welcome_later(self, peer: Peer) -> None:
        """Give who has connected the time to say HELLO, if it may be here at all."""
        info = peer_of(peer.transport) if peer.transport is not None else None
        if info is not None:
            peer.uid, peer.pid = info.uid, info.pid
        if not is_welcome(info, self.settings.allow_uids):
            self._turn_away(peer, info)
            return
        self._strangers[peer] = self.loop.call_later(_HELLO_WITHIN_S, self._give_up, peer)

    def _turn_away(self, peer: Peer, info: PeerInfo | None) -> None:
        uid = None if info is None else info.uid
        self.audit(peer, "peer", None, f"user {uid} is not allowed here")
        text = f"this hub belongs to another user than {uid}, and its allow_uids does not name that"
        peer.end(Failure(code="UNAUTHENTICATED", message=text, reason="unauthenticated"))

    @staticmethod
    def _give_up(peer: Peer) -> None:
        text = f"nothing was said within {_HELLO_WITHIN_S:g} s: send a HELLO"
        peer.end(Failure(code="FAILED_PRECONDITION", message=text, reason="no-hello"))

    def greet(self, peer: Peer, hello: Hello, then: Handler) -> None:
        """Answer a HELLO, once the log that it asks for is open; `then` takes what comes next."""
        if timer := self._strangers.pop(peer, None):
            timer.cancel()
        self.begin(self._greet(peer, hello, then))

    async def _greet(self, peer: Peer, hello: Hello, then: Handler) -> None:
        peer.hello = hello
        failure = self._check(peer, hello) or await self._provide_log(peer, hello)
        if failure is not None:
            what: What = "unauthenticated" if failure.reason == "unauthenticated" else "protocol"
            self.audit(peer, what, None, failure.message)
            peer.end(failure)
            return
        await self.journal.identify()
        if not peer.is_open:
            return
        peer.connected_ns = time.time_ns()
        peer.handle = then
        self.peers[peer.number] = peer
        self.deserted.clear()
        welcome = Welcome(
            protocol=agree(*hello.protocol) or 0,
            envelope=session.SPECVERSION,
            codecs=[*CODECS],
            hub=self.info,
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
            f"the hub ({self.info.version}) speaks the versions {lowest} to {highest} of the "
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
        if not set(hello.codecs) & set(CODECS):
            text = (
                f"the hub knows the codecs {', '.join(CODECS)}, and the client reads none of "
                "them: add one to the codecs of its HELLO"
            )
            return Failure(code="INVALID_ARGUMENT", message=text, reason="bad-frame")
        if len(self.peers) >= self.settings.limits.max_clients:
            text = (
                f"the hub has {len(self.peers)} clients, and no more are allowed: raise "
                "max_clients in its [limits]"
            )
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit", retryable=True)
        return self._admit(peer, hello)

    def _admit(self, peer: Peer, hello: Hello) -> Failure | None:
        try:
            # Over TCP nothing but the file of the port tells that a client is this user's.
            rights = authenticate(self.settings.tokens, hello.token, secret=self._secret)
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
                await self.open_log(hello.log)
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

    async def open_log(self, url: str) -> None:
        """Open the log at `url`, unless there is one, and run its schedules.

        Raises what its opener raises.
        """
        await self.journal.open(url)
        log = self.journal.log
        if keeps_durables(log) and not self._runs_schedules:
            self._runs_schedules = True
            self.begin(self._schedules.run(log))

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
        for task in tuple(peer.answering):
            task.cancel()
        self.switchboard.forget(peer)
        if not self.peers:
            self.idle_since_s = self.loop.time()
            self.deserted.set()
        self._note_parted()

    def part(self, peer: Peer) -> None:
        """Answer a BYE when all that the client appended before is answered.

        While the hub ends nobody is let go before all have said theirs: who has nothing more to
        say may still have something to hear.
        """
        if self.is_ending:
            self._note_parted()
        else:
            self.begin(self._part(peer))

    def _note_parted(self) -> None:
        if self.is_ending and all(peer.said_bye for peer in self.peers.values()):
            self.parted.set()

    async def _part(self, peer: Peer) -> None:
        await self.settled()
        self._let_go(peer)

    async def settled(self) -> None:
        """Return when all that was appended or settled before has been answered."""
        await self.journal.settled()
        if self.settling:
            await asyncio.wait(set(self.settling))

    @staticmethod
    def _let_go(peer: Peer) -> None:
        if peer.is_open:
            peer.send_frame(frames.frame(frames.BYE, session.to_json(Farewell())))
            peer.flush()
            peer.close()

    def say_bye(self, reason: str) -> None:
        """Tell every client that the hub ends."""
        self.is_ending = True
        for peer in list(self.peers.values()):
            self._say_bye(peer, reason)
        self._note_parted()

    @staticmethod
    def _say_bye(peer: Peer, reason: str = "the hub ends") -> None:
        peer.send_frame(frames.frame(frames.BYE, session.to_json(Farewell(reason=reason))))
        peer.flush()

    def end_all(self) -> None:
        """Answer the last BYEs, and close what is still connected."""
        closing = Failure(
            code="UNAVAILABLE", message="the hub ends", reason="closing", retryable=True
        )
        for peer in (*self._strangers, *self.peers.values()):
            if peer.said_bye:
                self._let_go(peer)
            else:
                peer.end(closing)

    def check_heartbeats(self) -> None:
        """Ping who was not heard for a heartbeat, give up who was not for three."""
        now = self.loop.time()
        heartbeat_s = self.limits.heartbeat_s
        for peer in list(self.peers.values()):
            if peer.is_held_back:
                # It may be saying something all the time, and should hear that the hub lives.
                peer.heard_s = now
                self._ping(peer)
            silent_s = now - peer.heard_s
            if silent_s > _PATIENCE * heartbeat_s:
                text = f"nothing was heard for {silent_s:.0f} s"
                peer.end(
                    Failure(code="DEADLINE_EXCEEDED", message=text, reason="idle", retryable=True)
                )
            elif silent_s > heartbeat_s:
                self._ping(peer)

    @staticmethod
    def _ping(peer: Peer) -> None:
        peer.send_frame(frames.frame(frames.PING, time.time_ns().to_bytes(8)))
        peer.flush()

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

    def deny(self, peer: Peer, action: Action, topic: str | None) -> Failure:
        """Record that a right is missing; return what the client is told."""
        error = (peer.rights or EVERYTHING).denied(action, topic)
        self.audit(peer, "denied", topic, str(error))
        return to_failure(error)

    @staticmethod
    def report_bug(peer: Peer, error: Exception) -> None:
        """Log what should not have happened; the client is told, and the hub goes on."""
        logger.error("a frame of client %s failed: %r", peer.number, error, exc_info=error)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background, for as long as the hub lives."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the hub failed: %r", error, exc_info=error)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
