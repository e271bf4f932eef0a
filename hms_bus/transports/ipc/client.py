"""A client of a hub: it connects, says who it is, and connects again when the line was cut.

The parts of the transport (sending, receiving, the log) hang themselves in: they handle the kinds
of frames that are theirs, and are told when the line is up and down.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import msgspec
from msgspec import Struct

from hms_bus.__about__ import __version__
from hms_bus.errors import BusError, ConnectError, DisconnectedError, FrameError, StateError
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import read_failure
from hms_bus.ipc.places import Place
from hms_bus.ipc.session import ClientInfo, Farewell, Hello, LogInfo, Welcome
from hms_bus.transports.ipc.calls import Call, Calls
from hms_bus.transports.ipc.dialing import Reached
from hms_bus.transports.ipc.greeting import PASSING, Greeting
from hms_bus.transports.ipc.reaching import reach
from hms_bus.transports.ipc.spawning import SpawnOptions
from hms_bus.transports.ipc.wire import Wire

logger = logging.getLogger("hms_bus")

_WELCOME_WITHIN_S = 10.0
_LEAST_TRY_S = 0.5
"""Else the last try would have no time to hear why it is not let in."""

_BYE_WITHIN_S = 5.0
"""As long as a hub that ends waits for its clients."""

_LAST_WORDS_S = 1.0

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0
_STABLE_S = 5.0
"""A connection that has lasted so long was a good one: the next pause is the first one again."""

_AFTER_BYE_S = 1.0
"""How long a client stays away from a hub that has said BYE: it was told to end."""

_PATIENCE = 3
"""Heartbeats in which nothing is heard until the line counts as cut."""

_PARTED_WITHIN_S = 10.0
"""How long a hub that has said BYE may take to close when the client has answered."""

_OTHER_LOG = frozenset({"other-log", "no-log", "denied"})
"""Reasons of a refusal that may be due to the log that the HELLO asks for."""

_BIGGEST_FRAME = 2**31
_ROOM_AROUND = 2**20
"""What a hub may put around messages that fill a frame of the greatest size."""

_BYE = frames.frame(frames.BYE, session.to_json(Farewell()))


class Settings(Struct, frozen=True, kw_only=True):
    """What a client is told by its URL and its bus."""

    url: str
    place: Place
    codecs: tuple[str, ...]
    name: str
    token: str | None = None
    log: str | None = None
    spawn: SpawnOptions | None = None
    connect_timeout_s: float = 10.0
    max_buffer_bytes: int = 8 * 2**20


class Client:
    """One client and its current connection.

    What hangs itself in is called in the order in which it was added: `up` when a connection has
    been welcomed, before anything else is sent over it; `parting` when the hub has said good-bye,
    for the last words; `down` when the connection has ended, with what broke it, if it was not just
    closed; `over`, once and with the reason, when there will be none any more; `after_read` when
    the frames of one read have been handled.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.wire: Wire | None = None
        """The connection while there is something to be said over it; else `None`."""
        self.welcome: Welcome | None = None
        self.calls = Calls(settings.url)
        self.handlers: dict[int, Callable[[bytes], None]] = {
            frames.DONE: self.calls.on_done,
            frames.FAILED: self.calls.on_failed,
            frames.ANSWER: self.calls.on_answer,
            frames.ERROR: self._on_error,
            frames.PING: self._on_ping,
            frames.PONG: _check_pong,
            frames.BYE: self._on_bye,
        }
        self.up: list[Callable[[Welcome], None]] = []
        self.parting: list[Callable[[], None]] = []
        self.down: list[Callable[[Exception | None], None]] = []
        self.over: list[Callable[[BusError], None]] = []
        self.after_read: list[Callable[[], None]] = []
        self.failure: BusError | None = None
        """Why there will be no connection any more."""
        self._wire: Wire | None = None
        self._greeting: Greeting | None = None
        self._is_welcomed = False
        self._asks_for_known_log = True
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._unanswered = 0
        """How many PINGs in a row nothing has come after."""
        self._pauses = _Pauses()
        self.is_closing = False
        """Whether it was this side that left."""
        self._heard_bye = False
        self._waiting: list[asyncio.Future[None]] = []

    # -- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, with patience for a hub that ends or starts at this moment.

        Raises `ConnectError` when there is no hub, or it refuses this client; `LogError` when it
        cannot open the log; `ConfigError` for a runtime folder that is not private.
        """
        deadline = self.loop.time() + self.settings.connect_timeout_s
        while True:
            try:
                await self._connect(max(deadline - self.loop.time(), _LEAST_TRY_S))
                break
            except DisconnectedError as error:
                pause_s = self._pauses.next()
                if self.loop.time() + pause_s > deadline:
                    raise ConnectError(str(error), url=self.settings.url) from error
            await asyncio.sleep(pause_s)
        self._keeping = self.loop.create_task(self._keep())
        self._keeping.add_done_callback(self._on_kept)

    async def close(self, *, politely: bool = True) -> None:
        """Part. With `politely`, all that was said has been passed on when this returns."""
        self.is_closing = True
        try:
            if self._keeping is not None:
                self._keeping.cancel()
                await asyncio.wait({self._keeping})
            if self.wire is not None and politely:
                await self._say_bye(self.wire)
        finally:
            self._end(StateError(f"the connection to {self.settings.url} is closed"))
            if self._wire is not None and not await _is_done(self._lost, _LAST_WORDS_S):
                self._wire.abort()  # the hub does not read them

    async def _say_bye(self, wire: Wire) -> None:
        """Return when the hub has dealt with everything: it closes then."""
        wire.write(_BYE)
        self.wire = None
        if not await _is_done(self._lost, _BYE_WITHIN_S):
            logger.warning(
                "the hub at %s has not said good-bye within %g s: what was sent last may be lost",
                self.settings.url,
                _BYE_WITHIN_S,
            )

    def _end(self, failure: BusError) -> None:
        is_first = self.failure is None
        self.failure = self.failure or failure
        if self._keeping is not None:
            self._keeping.cancel()
        if self._beating is not None:
            self._beating.cancel()
        if self._wire is not None:
            self._wire.close()
        self.wire = None
        self.calls.fail(self.failure)
        for over in self.over if is_first else ():
            over(self.failure)
        self._wake_waiting()

    async def connected(self) -> Wire:
        """Return the connection, once there is one. Raises when there will be none."""
        while self.wire is None:
            self.check()
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.append(waiter)
            await waiter
        return self.wire

    async def is_connected(self, within_s: float) -> bool:
        """Whether there is a connection, or comes to be one in time."""
        with suppress(TimeoutError, BusError):
            async with asyncio.timeout(within_s):
                await self.connected()
        return self.wire is not None

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def check(self) -> None:
        """Raise what ended this client, if it has ended."""
        if self.failure is not None:
            raise copy(self.failure)

    # -- connecting ----------------------------------------------------------------------------

    async def _connect(self, within_s: float) -> None:
        """Connect once.

        Raises `ConnectError`, or `DisconnectedError` when it may help to try again at once.
        """
        reached = await reach(self.settings.place, spawn=self._spawn, timeout_s=within_s)
        self._lost = self.loop.create_future()
        self._greeting = greeting = Greeting(self.settings.url)
        self._heard_bye = False
        wire = self._wire = Wire(_BIGGEST_FRAME, self._on_frames, self._on_lost)
        await self.loop.create_connection(lambda: wire, sock=reached.socket)
        try:
            wire.write(frames.frame(frames.HELLO, session.to_json(self._hello(reached))))
            if not await _is_done(greeting.answer, min(max(within_s, 0.0), _WELCOME_WITHIN_S)):
                text = f"the hub at {self.settings.url} does not say WELCOME"
                raise DisconnectedError(text)
            self._begin(wire, greeting)
        except BaseException:
            wire.abort()
            raise

    @property
    def _spawn(self) -> SpawnOptions | None:
        """How to start a hub, unless the one before asked for tokens: ours would let in anybody."""
        asked = self.welcome is not None and self.welcome.hub.tokens
        return None if asked else self.settings.spawn

    def _hello(self, reached: Reached) -> Hello:
        settings = self.settings
        known = self._known_log
        return Hello(
            protocol=session.PROTOCOL,
            envelope=session.SPECVERSION,
            codecs=list(settings.codecs),
            client=ClientInfo(
                name=settings.name, pid=os.getpid(), sdk=f"hms-bus/{__version__} (Python)"
            ),
            token=reached.token or settings.token,
            log=settings.log or (None if known is None else known.url),
        )

    @property
    def _known_log(self) -> LogInfo | None:
        """The log of the hub before: the next one, which we may start, is to keep it, too."""
        if self.welcome is None or not self._asks_for_known_log:
            return None
        return self.welcome.log

    def _begin(self, wire: Wire, greeting: Greeting) -> None:
        welcome = greeting.answer.result()
        if self._lost.done():
            raise DisconnectedError(f"the hub at {self.settings.url} closed the connection")
        wire.set_max_frame(max(welcome.limits.max_frame, 2**20) + _ROOM_AROUND)
        self.welcome = welcome
        self.wire = wire
        self._greeting = None
        self._is_welcomed = True
        self._asks_for_known_log = True
        for up in self.up:
            up(welcome)
        self._pauses.begin(self.loop.time())
        self._wake_waiting()
        self._beat()
        wire.hand_on(greeting.early)

    async def _keep(self) -> None:
        """Connect again, each time that the line was cut, until a hub refuses."""
        while self.failure is None:
            await asyncio.wait({self._lost})
            self._pauses.end(self.loop.time())
            if self._heard_bye:
                await asyncio.sleep(_AFTER_BYE_S * random.uniform(1.0, 1.5))  # noqa: S311 - no secret
            await self._connect_again()

    def _on_kept(self, keeping: asyncio.Task[None]) -> None:
        """End when connecting again has failed in a way that nobody has thought of."""
        if keeping.cancelled() or (error := keeping.exception()) is None:
            return
        text = f"connecting to {self.settings.url} again failed: {type(error).__name__}: {error}"
        logger.error(text, exc_info=error)
        self._end(ConnectError(text, url=self.settings.url))

    async def _connect_again(self) -> None:
        started = self.loop.time()
        url = self.settings.url
        logger.warning("the connection to the hub at %s is lost", url)
        level = logging.WARNING
        while True:
            await asyncio.sleep(self._pauses.next())
            try:
                await self._connect(self.settings.connect_timeout_s)
            except (BusError, OSError) as error:
                if isinstance(error, ConnectError) and error.refused:
                    if self._can_do_without_log:
                        self._asks_for_known_log = False
                        continue
                    logger.error("the hub at %s refuses: %s", url, error)  # noqa: TRY400 - no bug of ours
                    self._end(error)
                    return
                logger.log(level, "no connection to %s yet: %s", url, error)
                level = logging.DEBUG  # the same over and over tells nothing new
            else:
                logger.warning(
                    "connected to %s again after %.2f s", url, self.loop.time() - started
                )
                return

    @property
    def _can_do_without_log(self) -> bool:
        """Whether we were refused for a log that nobody here has asked for, only the hub before."""
        reason = None if self._greeting is None else self._greeting.reason
        is_asked_for = self.settings.log is not None
        return reason in _OTHER_LOG and not is_asked_for and self._known_log is not None

    # -- the line ------------------------------------------------------------------------------

    def _on_frames(self, contents: list[bytes]) -> None:
        handlers = self.handlers
        try:
            for content in contents:
                if self._greeting is not None:
                    self._greeting.take(content)
                elif (handle := handlers.get(content[0])) is not None:
                    handle(content)
                elif content[0] < frames.OPTIONAL:
                    raise FrameError(f"a hub sends no frames of the kind 0x{content[0]:02x}")
        except UnicodeDecodeError as error:
            raise FrameError(f"a text is no UTF-8: {error}") from error
        for after in self.after_read:
            after()

    def _on_lost(self, wire: Wire, error: Exception | None) -> None:
        if wire is not self._wire:
            return
        text = f"the hub at {self.settings.url} closed the connection"
        if self._greeting is not None:
            self._greeting.fail(DisconnectedError(text if error is None else f"{text}: {error}"))
        if not self._lost.done():
            self._lost.set_result(None)
        if self._is_welcomed:
            self._is_welcomed = False
            self.wire = None
            text = "the connection to the hub was lost: the outcome is unknown"
            self.calls.fail(DisconnectedError(text))
            for down in self.down:
                down(error)

    def _beat(self) -> None:
        wire = self._wire
        if self._beating is not None:
            self._beating.cancel()
        if not self._is_welcomed or wire is None or self.welcome is None:
            return
        heartbeat_s = self.welcome.limits.heartbeat_s
        silent_s = self.loop.time() - wire.heard_s
        if silent_s <= heartbeat_s:
            self._unanswered = 0
        elif silent_s > _PATIENCE * heartbeat_s and self._unanswered >= _PATIENCE:
            logger.warning("nothing was heard of the hub for %.0f s", silent_s)
            wire.abort()
            return
        elif self.wire is not None:
            # Asked several times in any case: the silence may be that of our own event loop.
            self._unanswered += 1
            wire.write(frames.frame(frames.PING, time.time_ns().to_bytes(8, "big")))
        self._beating = self.loop.call_later(heartbeat_s / 2, self._beat)

    def answer(self, data: bytes) -> None:
        """Send what answers the hub: that may be said until the connection ends."""
        if self._wire is not None and self._is_welcomed:
            self._wire.write(data)

    def _on_ping(self, content: bytes) -> None:
        self.answer(frames.frame(frames.PONG, frames.read_ping(content)))

    def _on_bye(self, content: bytes) -> None:
        session.from_json(content[1:], Farewell)
        self._heard_bye = True
        if self.wire is not None:
            # Not before those who were waiting for what came in this read have gone on.
            self.loop.call_soon(self._part, self.wire)
        elif self._wire is not None:
            self._wire.close()  # both have said it

    def _part(self, wire: Wire) -> None:
        """Say what is still to be said, and then only answer: the hub closes behind its answers."""
        if self.wire is not wire:
            return
        for part in self.parting:
            part()
        wire.write(_BYE)
        self.wire = None
        self.loop.call_later(_PARTED_WITHIN_S, wire.abort)

    def _on_error(self, content: bytes) -> None:
        failure = read_failure(content[1:])
        url = self.settings.url
        if failure.reason in PASSING or self.is_closing:
            logger.warning("the hub at %s says: %s", url, failure.message)
            return
        # It would be the same with the next connection (spec/ipc.md, "Errors").
        logger.error("the hub at %s has ended the connection: %s", url, failure.message)
        text = f"the hub has ended the connection ({failure.message}): the outcome is unknown"
        self.calls.fail(DisconnectedError(text))
        self._end(ConnectError(f"{url}: {failure.message}", url=url, refused=True))

    # -- questions -----------------------------------------------------------------------------

    async def ask(
        self, op: str, on_more: Callable[[Any], None] | None = None, **members: Any
    ) -> Any:
        """Ask the hub, and return its answer.

        Raises what the hub answers, `DisconnectedError` when the line is cut meanwhile.
        """
        wire = await self.connected()
        call = Call(self.loop.create_future(), on_more=on_more)
        content = msgspec.json.encode({"op": op, **members})
        wire.write(frames.call_frame(frames.ASK, self.calls.add(call), content))
        return await call.future


class _Pauses:
    """How long to wait before connecting again: ever longer, and not the same for all clients."""

    def __init__(self) -> None:
        self._pause_s = _FIRST_PAUSE_S
        self._began_s = 0.0

    def next(self) -> float:
        """Return the next pause."""
        pause_s = self._pause_s * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return pause_s

    def begin(self, now: float) -> None:
        """Note that there is a connection."""
        self._began_s = now

    def end(self, now: float) -> None:
        """Note that it was lost."""
        if now - self._began_s > _STABLE_S:
            self._pause_s = _FIRST_PAUSE_S


def _check_pong(content: bytes) -> None:
    frames.read_ping(content)


async def _is_done(future: asyncio.Future[Any], within_s: float) -> bool:
    """Wait for `future`, which is not cancelled; return whether it is done in time."""
    done, _ = await asyncio.wait({future}, timeout=within_s)
    return bool(done)
