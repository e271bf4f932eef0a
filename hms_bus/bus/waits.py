"""Who waits for whose queue: finds publishers that would wait for themselves.

With `overflow="block"` a handler that publishes waits until there is room. When the queue can only
be emptied by handlers that wait themselves, and in the end by the one that is about to, nobody
would ever go on. Only lanes are looked at: a task that a handler has started waits on its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from hms_bus.bus import context
from hms_bus.envelope import Envelope


class Worker(Protocol):
    """A subscription, as far as waiting is concerned."""

    @property
    def title(self) -> str:
        """What errors call it."""
        ...

    @property
    def lanes(self) -> Sequence[asyncio.Task[None]]:
        """The tasks that empty its queue."""
        ...

    @property
    def can_grow(self) -> bool:
        """Whether it can start another lane."""
        ...


lane_owner: dict[asyncio.Task[None], Worker] = {}
"""The subscription of each running lane."""

_waits_for: dict[asyncio.Task[Any], dict[asyncio.Future[None], Worker]] = {}
_may_wait: ContextVar[bool] = ContextVar("hms_bus.may_wait", default=True)


def enter(wanted: Worker, room: asyncio.Future[None]) -> list[str]:
    """Note that the current lane waits for `wanted` until `room` is done.

    When that closes a cycle, note nothing and name the subscriptions in it: every lane of `wanted`
    is the current one, or waits, itself or through others, for a full queue that the current lane
    has to empty.
    """
    current = asyncio.current_task() if _may_wait.get() else None
    owner = lane_owner.get(current) if current is not None else None
    if current is None or owner is None:
        return []
    if path := _stuck_path(wanted, current, []):
        return [worker.title for worker in (owner, *path)]
    _waits_for.setdefault(current, {})[room] = wanted
    room.add_done_callback(lambda done: _leave(current, done))
    return []


def _leave(task: asyncio.Task[Any], room: asyncio.Future[None]) -> None:
    waits = _waits_for.get(task, {})
    waits.pop(room, None)
    if not waits:
        _waits_for.pop(task, None)


def waiting_task() -> asyncio.Task[Any] | None:
    """Return the current task, if a message made it publish and it would wait for room itself."""
    may_wait = _may_wait.get() and context.cause.get() is not None
    return asyncio.current_task() if may_wait else None


def without_waiting(
    send: Callable[[Envelope], Awaitable[None] | None], envelope: Envelope
) -> Awaitable[None] | None:
    """Send for a caller that goes on at once: a full queue closes no cycle then."""
    if context.cause.get() is None:
        return send(envelope)  # no handler is running here, that could close one
    token = _may_wait.set(False)
    try:
        return send(envelope)
    finally:
        _may_wait.reset(token)


def _stuck_path(
    wanted: Worker, current: asyncio.Task[Any], seen: Sequence[Worker]
) -> Sequence[Worker]:
    """Return the subscriptions along which `wanted` waits for `current`, none if it can go on."""
    if wanted in seen:
        return seen
    if wanted.can_grow:
        return []
    path: Sequence[Worker] = [*seen, wanted]
    for lane in wanted.lanes:
        if lane is current:
            continue
        # A lane that waits for several is stuck when one of them is.
        further = [_stuck_path(each, current, path) for each in _waits_for.get(lane, {}).values()]
        if not any(further):
            return []
        path = next(found for found in further if found)
    return path
