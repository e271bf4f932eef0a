"""The life of a hub: it takes its place, opens its log, serves, and drains."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from hms_bus.hub.audit import Audit
from hms_bus.hub.conversation import Conversation
from hms_bus.hub.desk import Desk
from hms_bus.hub.listening import listen
from hms_bus.hub.peer import Peer
from hms_bus.hub.settings import HubSettings
from hms_bus.ipc.places import Place, find_place
from hms_bus.plugins import parse_address

logger = logging.getLogger("hms_bus.hub")

_DRAIN_S = 5.0
"""How long the end waits for clients to send what they have begun."""

_LAST_WORDS_S = 1.0
"""How long it waits for them to read what is theirs."""


async def serve(
    settings: HubSettings,
    *,
    spawned: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Be the hub at `settings.listen` until SIGINT, SIGTERM or a client's `stop`, then drain.

    A hub that was `spawned` also ends when it had no client for `settings.idle_s`, unless its log
    would be lost with it. `ready` is called with the URL once clients can connect. Raises
    `HubLockedError` when another hub is there, `ConfigError`, `LogError`.
    """
    stopped = asyncio.Event()
    with _signals(stopped):
        async with open_hub(settings, spawned=spawned, on_stop=stopped.set) as desk:
            if ready is not None:
                ready(settings.listen)
            await _until_stopped(desk, settings, stopped, spawned=spawned)


@asynccontextmanager
async def open_hub(
    settings: HubSettings, *, spawned: bool = False, on_stop: Callable[[], None]
) -> AsyncGenerator[Desk]:
    """Be the hub for as long as the scope lasts; leaving it drains."""
    place = find_place(parse_address(settings.listen).path)
    talks: list[Conversation] = []  # there is one before anybody is let in

    async with AsyncExitStack() as stack:
        listening = await stack.enter_async_context(
            listen(
                place,
                tcp=settings.tcp,
                shared=bool(settings.allow_uids),
                asks_for_tokens=bool(settings.tokens),
                protocol_factory=lambda: Peer(talks[0].desk, talks[0].greet),
            )
        )
        audit = _open_audit(settings, place, stack)
        desk = Desk(
            settings,
            name=place.name,
            secret=listening.token,
            audit=audit,
            on_stop=on_stop,
            is_spawned=spawned,
        )
        talks.append(Conversation(desk))
        stack.push_async_callback(desk.journal.close)
        stack.push_async_callback(desk.close)
        if settings.log is not None:
            await desk.open_log(settings.log)
        await listening.start()
        try:
            yield desk
        finally:
            await listening.stop()
            await _drain(desk)


async def _until_stopped(
    desk: Desk, settings: HubSettings, stopped: asyncio.Event, *, spawned: bool
) -> None:
    """Return when the hub shall end; watch over its clients meanwhile."""
    turn_s = min(desk.limits.heartbeat_s, settings.idle_s or desk.limits.heartbeat_s) / 2
    while not stopped.is_set():
        try:
            async with asyncio.timeout(max(turn_s, 0.01)):
                await stopped.wait()
        except TimeoutError:
            desk.check_heartbeats()
        idle_s = desk.loop.time() - desk.idle_since_s
        if (
            spawned
            and not desk.peers
            and idle_s >= settings.idle_s
            and not desk.journal.holds_what_would_be_lost
        ):
            logger.info("no client for %g s: the hub ends", idle_s)
            return


async def _drain(desk: Desk) -> None:
    """Let clients finish their sentences; then commit and close."""
    desk.say_bye("the hub ends")
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            await desk.parted.wait()
    await desk.settled()
    desk.end_all()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await desk.deserted.wait()


def _open_audit(settings: HubSettings, place: Place, stack: AsyncExitStack) -> Audit:
    """Open the record of refusals: where it is asked for, and where there are tokens."""
    path = settings.audit or (
        str(place.socket.with_suffix(".audit.jsonl")) if settings.tokens else None
    )
    audit = Audit(path, hub=place.name)
    stack.push_async_callback(asyncio.to_thread, audit.close)
    return audit


class _signals:  # noqa: N801 - used as a function
    """Set an event on SIGINT and SIGTERM; a second one ends the process as usual."""

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped
        self._loop = asyncio.get_running_loop()
        self._usual: dict[signal.Signals, Any] = {}
        """What a signal did before, where the loop cannot listen to it."""

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._loop.add_signal_handler(number, self._stop)
            except NotImplementedError:  # Windows
                self._usual[number] = signal.signal(number, self._stop_soon)

    def _stop_soon(self, number: int, frame: object) -> None:
        del frame
        signal.signal(number, self._usual.pop(signal.Signals(number)))
        self._loop.call_soon_threadsafe(self._stopped.set)

    def _stop(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)
        self._stopped.set()

    def __exit__(self, *exc_info: object) -> None:
        for number, usual in self._usual.items():
            signal.signal(number, usual)
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):
                self._loop.remove_signal_handler(number)
