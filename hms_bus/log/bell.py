"""Waking those who wait for a log to grow."""

import asyncio
import threading
from contextlib import suppress


class Bell:
    """Rings when a log has grown, or was closed. Waiters may sit on different event loops."""

    def __init__(self, position: int = 0) -> None:
        self._position = position
        self._lock = threading.Lock()
        self._waiters: dict[asyncio.Future[None], int] = {}

    def ring(self, position: int) -> None:
        """Say that the log reaches to `position`. Any thread may call it."""
        with self._lock:
            # Two who have appended at the same time may ring in either order.
            self._position = max(self._position, position)
            woken = [waiter for waiter, awaited in self._waiters.items() if position > awaited]
        for waiter in woken:
            _wake(waiter)

    def wake(self) -> None:
        """Let everybody look again, since something else has changed than the position."""
        with self._lock:
            woken = list(self._waiters)
        for waiter in woken:
            _wake(waiter)

    async def wait_beyond(self, position: int, timeout_s: float | None = None) -> None:
        """Wait until the log reaches past `position`, `wake` is called, or `timeout_s` is over.

        Cancelling leaves nothing behind.
        """
        waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._position > position:
                return
            self._waiters[waiter] = position
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter
        finally:
            with self._lock:
                del self._waiters[waiter]


def _wake(waiter: asyncio.Future[None]) -> None:
    # Its loop may have been closed with the waiter on it.
    with suppress(RuntimeError):
        waiter.get_loop().call_soon_threadsafe(_complete, waiter)


def _complete(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
