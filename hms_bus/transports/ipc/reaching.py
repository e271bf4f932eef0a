"""How a client gets to a hub: it connects, and starts a hub when there is none.

Of many clients that find none at once, one starts the hub: the one that holds the spawn lock. The
others go on trying to connect. Of two hubs that come about all the same, one holds the hub's lock
and the other ends with status 0, which says: look again, there is one.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from hms_bus.errors import ConnectError
from hms_bus.filelock import FileLock, read_holder, try_lock
from hms_bus.ipc.places import Place, prepare_folder
from hms_bus.threads import opened_in_thread, run_to_end
from hms_bus.transports.ipc.dialing import Reached, dial
from hms_bus.transports.ipc.spawning import Child, SpawnOptions, start_hub

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05
_SECOND_HUB_PAUSE_S = 0.1
"""Until another hub is started after one that found its place taken, by one that may just end."""

_MAX_TRIES = 6
"""Without a spawn: within 0.1 s. A hub that just starts has a socket, but does not listen yet."""

_LOOK_AGAIN = frozenset({0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT})
"""The ends of a hub that was started which are no failure: there is another one, or it was told."""


async def reach(place: Place, *, spawn: SpawnOptions | None, timeout_s: float) -> Reached:
    """Return a connection to the hub at `place`, started as `spawn` says if there is none.

    A hub that is just ending is waited for, and then replaced. Whether the hub that was reached
    goes on shows only in its WELCOME.

    Cancelled, it leaves no lock and no socket behind; a hub that it has started goes on.

    Raises `ConnectError`: nobody is there and `spawn` is `None`, the hub that was started has
    failed (with the last of what it has said), none is ready within `timeout_s`; `ConfigError` for
    a runtime folder that is not private.
    """
    search = _Search(place, spawn)
    try:
        async with asyncio.timeout(timeout_s):
            return await search.run()
    except TimeoutError:
        why = await run_to_end(search.explain)
        raise ConnectError(
            f"no hub at {place.url} let us in within {timeout_s:g} s: {why}", url=place.url
        ) from None


class _Search:
    """One search for a hub, and what is known when it takes too long."""

    def __init__(self, place: Place, spawn: SpawnOptions | None) -> None:
        self._place = place
        self._spawn = spawn
        self._child: Child | None = None

    async def run(self) -> Reached:
        """Return a connection; see `reach`."""
        for tries, pause_s in enumerate(_pauses(), start=1):
            if reached := await dial(self._place):
                return reached
            if self._spawn is not None:
                if reached := await self._start_alone(self._spawn):
                    return reached
            elif tries == _MAX_TRIES:
                break
            await asyncio.sleep(pause_s)
        raise ConnectError(
            f"no hub runs at {self._place.url}: start one with `hms-bus hub --listen "
            f"{self._place.url}`",
            url=self._place.url,
        )

    def explain(self) -> str:
        """Return why it may have taken too long, and the next step. Blocks."""
        log = self._place.hub_log
        if self._child is not None and self._child.status is None:
            return f"the one that was started, process {self._child.pid}, is not ready; see {log}"
        if holder := read_holder(self._place.lock):
            return f"{holder} has taken the place; if it hangs, stop it"
        return f"others tried to start one; see {log}"

    async def _start_alone(self, spawn: SpawnOptions) -> Reached | None:
        """Start a hub unless somebody does already; `None`: look again."""
        reached = None
        try:
            async with opened_in_thread(partial(_try_spawn_lock, self._place)) as is_ours:
                if is_ours:
                    # Whoever held the lock until now may have started one.
                    reached = await dial(self._place) or await self._start(spawn)
        except BaseException:
            if reached is not None:
                reached.socket.close()
            raise
        return reached

    async def _start(self, spawn: SpawnOptions) -> Reached | None:
        self._child = child = await run_to_end(partial(start_hub, self._place, spawn))
        for pause_s in _pauses():
            if reached := await dial(self._place):
                return reached
            if child.status is not None:
                break
            await asyncio.sleep(pause_s)
        if child.status not in _LOOK_AGAIN:
            raise await run_to_end(partial(_failed, self._place, child))
        await asyncio.sleep(_SECOND_HUB_PAUSE_S)
        return None


def _pauses() -> Iterator[float]:
    """Yield how long to wait between tries, in seconds, for ever."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _try_spawn_lock(place: Place, undo: ExitStack) -> bool:
    """Whether we are the one who starts a hub, as long as `undo` is not closed."""
    prepare_folder(place)
    try:
        taken = try_lock(place.spawn, mode=0o600)
    except OSError as error:
        raise ConnectError(
            f"no hub runs at {place.url}, and none can be started: {place.spawn}: {error.strerror}",
            url=place.url,
        ) from error
    if not isinstance(taken, FileLock):
        return False
    undo.callback(taken.release)
    return True


def _failed(place: Place, child: Child) -> ConnectError:
    words = child.read_last_words() or "it has said nothing"
    return ConnectError(
        f"the hub that was started at {place.url} ended with {_describe(child.status)}: {words}",
        url=place.url,
    )


def _describe(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"status {status}"
