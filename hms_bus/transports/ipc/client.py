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
from itertools import count as counting
from typing import Any

import msgspec
from msgspec import Struct

from hms_bus.__about__ import __version__
from hms_bus.errors import (
    BusError,
    ConnectError,
    DisconnectedError,
    FrameError,
    LogError,
    StateError,
)
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import read_failure, to_error
from hms_bus.ipc.places import Place
from hms_bus.ipc.session import ClientInfo, Farewell, Hello, Welcome
from hms_bus.transports.ipc.reaching import Reached, SpawnOptions, reach
from hms_bus.transports.ipc.wire import Wire

logger = logging.getLogger("hms_bus")

_WELCOME_WITHIN_S = 10.0
_BYE_WITHIN_S = 2.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 2.0
_AFTER_BYE_S = 1.0
"""How long a client stays away from a hub that has said BYE: it was told to end."""

_PATIENCE = 3
"""Heartbeats in which nothing is heard until the line counts as cut."""

_BIGGEST_FRAME = 2**31
_PASSING = frozenset({"closing", "idle", "internal", "limit"})
"""Reasons of a refusal that may be over when it is tried again."""


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

    `up` callbacks run when a connection has been welcomed, before anything else is sent over it;
    `down` when it has ended. Both in the order in which they were added.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.wire: Wire | None = None
        """The connection, once it was welcomed; `None` while there is none."""
        self.welcome: Welcome | None = None
        self.handlers: dict[int, Callable[[bytes], None]] = {
            frames.DONE: self._on_done,
            frames.FAILED: self._on_failed,
            frames.ANSWER: self._on_answer,
            frames.ERROR: self._on_error,
            frames.PING: self._on_ping,
            frames.PONG: _ignore,
            frames.BYE: self._on_bye,
        }
        self.up: list[Callable[[Welcome], None]] = []
        self.down: list[Callable[[], None]] = []
        self.over: list[Callable[[BusError], None]] = []
        """Called with the reason when there will be no connection any more."""
        self.after_read: list[Callable[[], None]] = []
        """Called when the frames of one read have been handled."""
        self.failure: BusError | None = None
        """Why there will be no connection any more."""
        self.next_call = counting(1).__next__
        self.calls: dict[int, Call] = {}
        self._wire: Wire | None = None
        self._greeting: asyncio.Future[Welcome] | None = None
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._heard_bye = False
        self._bye: asyncio.Future[None] = self.loop.create_future()
        self._up_again: list[asyncio.Future[None]] = []

    # -- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, with patience for a hub that ends or starts at this moment.

        Raises `ConnectError` when there is no hub, or it refuses this client.
        """
        deadline = self.loop.time() + self.settings.connect_timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._connect()
                break
            except DisconnectedError as error:
                if self.loop.time() > deadline:
                    raise ConnectError(str(error), url=self.settings.url) from error
            await asyncio.sleep(_jittered(pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._keeping = self.loop.create_task(self._keep())

    async def close(self) -> None:
        """Say good-bye: when the hub has answered, all that was sent has been passed on."""
        self._is_closing = True
        try:
            if self.wire is not None:
                self.wire.write(frames.frame(frames.BYE, session.to_json(Farewell())))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_BYE_WITHIN_S):
                        await asyncio.wait({self._bye, self._lost}, return_when="FIRST_COMPLETED")
        finally:
            self._end(StateError(f"the connection to {self.settings.url} is closed"))

    def _end(self, failure: BusError) -> None:
        self.failure = self.failure or failure
        if self._keeping is not None:
            self._keeping.cancel()
        if self._beating is not None:
            self._beating.cancel()
        if self._wire is not None:
            self._wire.close()
        self.fail_calls(self.failure)
        for over in self.over:
            over(self.failure)
        self._wake_waiting()

    async def _connect(self) -> None:
        """Connect once.

        Raises `ConnectError`, or `DisconnectedError` when it may help to try again at once.
        """
        settings = self.settings
        reached = await reach(
            settings.place, spawn=settings.spawn, timeout_s=settings.connect_timeout_s
        )
        self._lost = self.loop.create_future()
        self._greeting = self.loop.create_future()
        self._heard_bye = False
        _, wire = await self.loop.create_connection(
            lambda: Wire(_BIGGEST_FRAME, self._on_frames, self._on_lost), sock=reached.socket
        )
        self._wire = wire
        try:
            wire.write(frames.frame(frames.HELLO, session.to_json(self._hello(reached))))
            async with asyncio.timeout(_WELCOME_WITHIN_S):
                welcome = await self._greeting
        except TimeoutError:
            wire.abort()
            raise DisconnectedError(f"the hub at {settings.url} does not say WELCOME") from None
        except BaseException:
            wire.abort()
            raise
        self._begin(wire, welcome)

    def _hello(self, reached: Reached) -> Hello:
        settings = self.settings
        known = self.welcome.log if self.welcome is not None else None
        return Hello(
            protocol=session.PROTOCOL,
            envelope=session.SPECVERSION,
            codecs=list(settings.codecs),
            client=ClientInfo(
                name=settings.name, pid=os.getpid(), sdk=f"hms-bus/{__version__} (Python)"
            ),
            token=settings.token or reached.token,
            log=settings.log or (None if known is None else known.url),
        )

    def _begin(self, wire: Wire, welcome: Welcome) -> None:
        wire.set_max_frame(max(welcome.limits.max_frame, 2**20) + 2**20)
        self.welcome = welcome
        self.wire = wire
        for up in self.up:
            up(welcome)
        self._wake_waiting()
        self._beat()

    def _wake_waiting(self) -> None:
        for waiter in self._up_again:
            if not waiter.done():
                waiter.set_result(None)
        self._up_again.clear()

    async def connected(self) -> Wire:
        """Return the connection, once there is one. Raises when there will be none."""
        while self.wire is None:
            self.check()
            waiter = self.loop.create_future()
            self._up_again.append(waiter)
            await waiter
        self.check()
        return self.wire

    def check(self) -> None:
        """Raise what ended this client, if it has ended."""
        if self.failure is not None:
            raise self.failure

    async def _keep(self) -> None:
        """Connect again, each time that the line was cut."""
        while True:
            await asyncio.wait({self._lost})
            if self._heard_bye:
                await asyncio.sleep(_jittered(_AFTER_BYE_S))
            await self._connect_again()

    async def _connect_again(self) -> None:
        started = self.loop.time()
        pause_s = _FIRST_PAUSE_S
        logger.warning("the connection to the hub at %s is lost", self.settings.url)
        while True:
            await asyncio.sleep(_jittered(pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                await self._connect()
            except ConnectError as error:
                if not error.refused:
                    logger.warning("no connection to %s yet: %s", self.settings.url, error)
                    continue
                logger.error("the hub at %s refuses: %s", self.settings.url, error)  # noqa: TRY400
                self._end(error)
                return
            except (DisconnectedError, LogError) as error:
                logger.info("no connection to %s yet: %s", self.settings.url, error)
                continue
            away_s = self.loop.time() - started
            logger.warning("connected to %s again after %.2f s", self.settings.url, away_s)
            return

    # -- the line ------------------------------------------------------------------------------

    def _on_frames(self, contents: list[bytes]) -> None:
        handlers = self.handlers
        for content in contents:
            if self.wire is None:
                self._on_greeting(content)
                continue
            kind = content[0]
            handle = handlers.get(kind)
            if handle is not None:
                handle(content)
            elif kind < frames.OPTIONAL:
                raise FrameError(f"a hub sends no frames of the kind 0x{kind:02x}")
        for after in self.after_read:
            after()

    def _on_greeting(self, content: bytes) -> None:
        greeting = self._greeting
        if greeting is None or greeting.done():
            if content[0] == frames.BYE:
                self._heard_bye = True
            return
        if content[0] == frames.WELCOME:
            greeting.set_result(session.from_json(content[1:], Welcome))
            return
        if content[0] != frames.ERROR:
            raise FrameError(f"a hub begins with a WELCOME, not with 0x{content[0]:02x}")
        failure = read_failure(content[1:])
        if failure.reason in _PASSING:
            greeting.set_exception(DisconnectedError(f"{self.settings.url}: {failure.message}"))
        else:
            error = to_error(failure, url=self.settings.url)
            if not isinstance(error, LogError):
                text = f"{self.settings.url}: {failure.message}"
                error = ConnectError(text, url=self.settings.url, refused=True)
            greeting.set_exception(error)

    def _on_lost(self, wire: Wire, error: Exception | None) -> None:
        if wire is not self._wire:
            return
        text = f"the hub at {self.settings.url} closed the connection"
        lost = DisconnectedError(text if error is None else f"{text}: {error}")
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(lost)
        if not self._lost.done():
            self._lost.set_result(None)
        if self.wire is None:
            return
        self.wire = None
        self.fail_calls(
            DisconnectedError("the connection to the hub was lost: the outcome is unknown")
        )
        for down in self.down:
            down()

    def _beat(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        if self.wire is None or self.welcome is None:
            return
        heartbeat_s = self.welcome.limits.heartbeat_s
        silent_s = self.loop.time() - self.wire.heard_s
        if silent_s > _PATIENCE * heartbeat_s:
            logger.warning("nothing was heard of the hub for %.0f s", silent_s)
            self.wire.abort()
            return
        if silent_s > heartbeat_s:
            self.wire.write(frames.frame(frames.PING, time.time_ns().to_bytes(8, "big")))
        self._beating = self.loop.call_later(heartbeat_s / 2, self._beat)

    def _on_ping(self, content: bytes) -> None:
        if self.wire is not None:
            self.wire.write(frames.frame(frames.PONG, content[1:]))

    def _on_bye(self, content: bytes) -> None:
        del content
        self._heard_bye = True
        if not self._bye.done() and self._is_closing:
            self._bye.set_result(None)
        elif self.wire is not None:
            # What was sent before this answer is passed on by the hub before it closes.
            self.wire.write(frames.frame(frames.BYE, session.to_json(Farewell())))

    def _on_error(self, content: bytes) -> None:
        failure = read_failure(content[1:])
        logger.warning("the hub at %s says: %s", self.settings.url, failure.message)

    # -- calls ---------------------------------------------------------------------------------

    def add_call(self, call: "Call") -> int:
        """Return the number under which the answer will come."""
        number = self.next_call() & 0xFFFF_FFFF
        self.calls[number] = call
        return number

    async def ask(
        self, op: str, on_more: Callable[[Any], None] | None = None, **members: Any
    ) -> Any:
        """Ask the hub, and return its answer.

        Raises what the hub answers, `DisconnectedError` when the line is cut meanwhile.
        """
        wire = await self.connected()
        call = Call(self.loop.create_future(), on_more=on_more)
        content = msgspec.json.encode({"op": op, **members})
        wire.write(frames.call_frame(frames.ASK, self.add_call(call), content))
        return await call.future

    def fail_calls(self, error: BusError) -> None:
        """Fail the calls that were under way."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            if not call.future.done():
                call.future.set_exception(error)
                call.future.exception()  # it is no fault when nobody waits for it

    def _on_done(self, content: bytes) -> None:
        number, window = frames.read_pair(content)
        call = self.calls.pop(number, None)
        if call is None:
            return
        if call.on_window is not None and window:
            call.on_window(window)
        if not call.future.done():
            call.future.set_result(None)

    def _on_failed(self, content: bytes) -> None:
        call = self.calls.pop(frames.read_u32(content), None)
        if call is not None and not call.future.done():
            failure = read_failure(content[5:])
            call.future.set_exception(to_error(failure, url=self.settings.url))

    def _on_answer(self, content: bytes) -> None:
        number, more, document = frames.read_answer(content)
        call = self.calls.get(number)
        if call is None:
            return
        answer = session.object_from_json(document)
        if more:
            if call.on_more is not None:
                call.on_more(answer)
            return
        del self.calls[number]
        if not call.future.done():
            call.future.set_result(answer)


class Call:
    """A call until it is answered, or the line is cut."""

    __slots__ = ("future", "on_more", "on_window")

    def __init__(
        self,
        future: asyncio.Future[Any],
        *,
        on_window: Callable[[int], None] | None = None,
        on_more: Callable[[Any], None] | None = None,
    ) -> None:
        self.future = future
        self.on_window = on_window
        self.on_more = on_more


def _jittered(pause_s: float) -> float:
    return pause_s * (0.5 + random.random())  # noqa: S311 - no secret


def _ignore(content: bytes) -> None:
    del content
