"""`replay://RUN.db`: unchanged agents get what was recorded, and what they say is captured.

All buses of a process that name one URL share one replay. It begins when nobody new has come for a
tenth of a second. `hms_bus.replay.rerun` decides itself when to begin, and gives more to look at.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from hms_bus.abc import (
    Capability,
    Codec,
    Consumer,
    Durable,
    DurableInfo,
    EventLog,
    Expect,
    Head,
    Receipt,
    Record,
    Selector,
    Sink,
    Transport,
    Unsubscribe,
    Verification,
)
from hms_bus.bus import context
from hms_bus.envelope import Envelope
from hms_bus.errors import BusError, StateError, UnsupportedError, UsageError
from hms_bus.plugins import Address, open_log
from hms_bus.replay.consuming import consuming
from hms_bus.replay.reading import read_as_of_now
from hms_bus.replay.renaming import Renaming
from hms_bus.replay.settings import ReplaySettings, parse_settings
from hms_bus.replay.stage import REPLY_TO, Stage
from hms_bus.replay.writing import capturing_to

logger = logging.getLogger("hms_bus")

CAPABILITIES: frozenset[Capability] = frozenset({"groups", "no-responders", "publisher-order"})
LOG_CAPABILITIES: frozenset[Capability] = frozenset(
    {
        "log-batch",
        "log-durable",
        "log-expect",
        "log-read-backwards",
        "log-read-by-time",
        "log-schedules",
    }
)
_QUIET_S = 0.1


class ReplayTransport:
    """See the module's text; the contract is `hms_bus.abc.Transport`."""

    capabilities = CAPABILITIES

    def __init__(self, stage: Stage, agent: str) -> None:
        self.stage = stage
        self.agent = agent
        self.log: EventLog | None = ReplayLog(self)
        self.on_subscribed: Callable[[], None] | None = None
        self.over: asyncio.Future[None] | None = None
        """Done when a replay that drives itself is over; fails with why it ended before."""
        self._is_open = True

    def publish(
        self, envelope: Envelope, *, to: str | None = None, reply_to: str | None = None
    ) -> Awaitable[None] | None:
        """Capture the envelope; a request is answered from the record."""
        self._check_open(envelope)
        answering = self.stage.answering
        if to == REPLY_TO:
            answering.take_answer(envelope, reply_to)
        elif to is not None:
            answering.pass_on(envelope, to)
        elif reply_to is not None:
            return answering.ask(envelope, reply_to)
        else:
            self.stage.keep(envelope)
        return None

    def capture(self, envelope: Envelope) -> Envelope:
        """Capture an event, and return it as it is kept."""
        self._check_open(envelope)
        return self.stage.keep(envelope)

    def _check_open(self, envelope: Envelope) -> None:
        if not self._is_open:
            raise StateError(f"the replay is closed, nothing can be sent on {envelope.topic!r}")

    async def subscribe(self, pattern: str, sink: Sink, *, group: str | None = None) -> Unsubscribe:
        """Let the sink hear what is played from now on."""
        if not self._is_open:
            raise StateError("the replay is closed")
        unsubscribe = self.stage.add(self.agent, pattern, sink, group)
        if self.on_subscribed is not None:
            self.on_subscribed()
        return unsubscribe

    def close(self) -> None:
        """Refuse further use."""
        self._is_open = False


class ReplayLog:
    """The log of each bus of a replay: holds what is recorded up to now; appending captures.

    What a handler has published stands behind that until it has returned; from then on what it
    said in the record does. `expect` is taken for granted. Receipts have the positions behind the
    message that is handled.
    """

    capabilities = LOG_CAPABILITIES

    def __init__(self, transport: ReplayTransport) -> None:
        self._transport = transport
        self._stage = transport.stage
        self._renaming = Renaming(transport.stage.settings.remap)
        self._cause: str | None = None
        self._own: list[Record] = []
        """What was appended while the message `_cause` is handled."""

    async def append(
        self, envelopes: Sequence[Envelope], *, expect: Expect = "any"
    ) -> list[Receipt]:
        """Capture all; see `hms_bus.abc.EventLog.append`."""
        return [await self.send(envelope, expect=expect) for envelope in envelopes]

    async def send(
        self,
        envelope: Envelope,
        *,
        expect: Expect = "any",
        to: str | None = None,
        reply_to: str | None = None,
    ) -> Receipt:
        """Capture one, and answer a request; see `hms_bus.abc.DeliveringLog.send`."""
        del expect
        position = self._stage.next_position(envelope.causationid)
        if to is None and reply_to is None:
            self._note(position, self._transport.capture(envelope))
        else:
            room = self._transport.publish(envelope, to=to, reply_to=reply_to)
            if room is not None:
                await room
        return Receipt(envelope.id, position)

    def read(self, selector: Selector, *, follow: bool = False) -> AsyncIterator[Record]:
        """Yield what the record holds up to the message that is handled, then what is appended.

        That is what its handler has appended itself, so far.
        """
        if follow:
            raise UnsupportedError("following the log", "replay://", "subscribe to the topics")
        cause = context.cause.get()
        return read_as_of_now(
            self._stage.log,
            selector,
            last=self._now().position,
            own=self._own if cause is not None and cause.id == self._cause else (),
            renaming=self._renaming,
        )

    async def head(self) -> Head:
        """Return the position and time of the message that is being handled, without a hash."""
        now = self._now()
        return Head(position=now.position, hash=b"", recorded_ns=now.recorded_ns)

    async def verify(
        self, *, expected: Head | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Verification:
        """Check the record; see `hms_bus.abc.EventLog.verify`."""
        return await self._stage.log.verify(expected=expected, progress=progress)

    def consume(self, durable: Durable) -> AbstractAsyncContextManager[Consumer]:
        """Return the scope of a consumer of what is played; `start` is that of the replay."""
        return consuming(self._stage, self._transport.agent, durable)

    async def durables(self) -> list[DurableInfo]:
        """Return `[]`: a replay keeps no cursor."""
        return []

    async def forget(self, name: str) -> None:
        """Raise `UsageError`: a replay keeps no durable."""
        raise UsageError(f"the replay keeps no durable {name!r}")

    async def redrive(self, name: str, positions: Sequence[int]) -> None:
        """Raise `UsageError`: a replay keeps no durable."""
        del positions
        await self.forget(name)

    def _note(self, position: int, kept: Envelope) -> None:
        cause = kept.causationid
        if cause is None:
            return
        if cause != self._cause:
            self._cause, self._own = cause, []
        recorded_ns = self._stage.now(cause).recorded_ns
        self._own.append(Record(position=position, recorded_ns=recorded_ns, envelope=kept))

    def _now(self) -> Record:
        cause = context.cause.get()
        return self._stage.now(None if cause is None else cause.id)


class ReplayOpener:
    """Opens replays. Contract: `TransportOpener` and `KeepsLogs` of `hms_bus.plugins`."""

    def __call__(self, address: Address, *, codec: Codec) -> AbstractAsyncContextManager[Transport]:
        """Return the scope of the transport at `replay://RUN.db?…`; `codec` is not used.

        Raises `ConfigError` for an option that is wrong. Entering it raises what opening the record
        does.
        """
        del codec
        if "stage" not in address.options:
            parse_settings(address)
        return _scope(address)

    def with_log(self, address: Address, log: Address) -> Address:
        """Return the address: each bus has the log of the replay, in place of `log`."""
        del log
        return address


open_replay = ReplayOpener()

_stages: dict[str, Stage] = {}
"""Those that somebody else drives, by the name in `?stage=`."""


@asynccontextmanager
async def _scope(address: Address) -> AsyncGenerator[ReplayTransport]:
    async with AsyncExitStack() as stack:
        name = address.options.get("stage")
        shared: _Shared | None = None
        if name is None:
            shared = await stack.enter_async_context(_shared(address))
            stage = shared.stage
        elif (found := _stages.get(name)) is None:
            raise StateError(f"the replay {address.bare_url!r} is over")
        else:
            stage = found
        transport = ReplayTransport(stage, context.opener.get())
        stack.callback(transport.close)
        if shared is not None:
            transport.on_subscribed = shared.wait_anew
            transport.over = shared.over
        yield transport


@asynccontextmanager
async def registered(name: str, stage: Stage) -> AsyncGenerator[str]:
    """Give the URL at which buses take part in `stage`, until the scope ends."""
    _stages[name] = stage
    try:
        yield f"replay://run?stage={name}"
    finally:
        del _stages[name]


# -- a replay that drives itself -----------------------------------------------------------------


class _Shared:
    """A replay of which only the URL is known; it begins by itself."""

    def __init__(self, stage: Stage, loop: asyncio.AbstractEventLoop) -> None:
        self.stage = stage
        self.users = 0
        self.over: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._begin: asyncio.TimerHandle | None = None
        self._playing: asyncio.Task[None] | None = None

    def wait_anew(self) -> None:
        """Begin when nobody else has come for a while."""
        if self._playing is not None:
            return
        if self._begin is not None:
            self._begin.cancel()
        self._begin = self._loop.call_later(_QUIET_S, self._play)

    def _play(self) -> None:
        self._playing = self._loop.create_task(self._run())

    async def _run(self) -> None:
        stage = self.stage
        try:
            await stage.play()
            stage.answering.check()
            if not stage.played:
                raise UsageError(
                    "no record reached an agent: check what is selected (since, until, first, "
                    "last, corr, only), and to what the program subscribes"
                )
        except BusError as error:
            logger.error(  # noqa: TRY400 - the error says it all
                "the replay ended at position %d: %s", stage.position, error
            )
            self.over.set_exception(error)
            self.over.exception()  # nobody need ask for it
            return
        # A program that waits for more would else wait in silence.
        logger.warning(
            "the replay is over: %d records handled, %d outputs, %d answers not in the record",
            stage.played,
            stage.capture.count,
            len(stage.answering.unrecorded),
        )
        self.over.set_result(None)

    async def close(self) -> None:
        """Stop playing."""
        if self._begin is not None:
            self._begin.cancel()
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)


_running: dict[tuple[asyncio.AbstractEventLoop, str], tuple[_Shared, AsyncExitStack]] = {}


@asynccontextmanager
async def _shared(address: Address) -> AsyncGenerator[_Shared]:
    settings = parse_settings(address)
    key = (asyncio.get_running_loop(), address.url)
    spare = None if key in _running else await _opened(settings, key[0])
    if spare is not None and key not in _running:
        _running[key], spare = spare, None
    shared, scope = _running[key]
    shared.users += 1  # before anything is awaited: it is not closed from now on
    try:
        if spare is not None:  # somebody else was faster
            await spare[1].aclose()
        yield shared
    finally:
        shared.users -= 1
        if shared.users == 0:
            _running.pop(key, None)
            await shared.close()
            await scope.aclose()


async def _opened(
    settings: ReplaySettings, loop: asyncio.AbstractEventLoop
) -> tuple[_Shared, AsyncExitStack]:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings.log))
        stage = Stage(settings, log)
        stack.push_async_callback(stage.close)
        await stack.enter_async_context(stage.watched())
        if settings.capture is not None:
            stage.capture.on_output = await stack.enter_async_context(
                capturing_to(Path(settings.capture), settings.log)
            )
        return _Shared(stage, loop), stack.pop_all()
