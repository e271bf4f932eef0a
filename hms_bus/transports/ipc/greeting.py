"""From the HELLO of a client to the answer of the hub."""

import asyncio

from hms_bus.errors import BusError, ConnectError, DisconnectedError, FrameError, LogError
from hms_bus.ipc import frames, session
from hms_bus.ipc.failures import read_failure, to_error
from hms_bus.ipc.session import Failure, Welcome

PASSING = frozenset({"closing", "idle", "internal", "limit"})
"""Reasons of an ERROR that may be over when it is tried again."""


class Greeting:
    """Waits for the answer of the hub at `url`.

    `answer` gets the WELCOME, or fails: with `ConnectError` or `LogError` when the hub refuses,
    `DisconnectedError` when it may help to try again.
    """

    def __init__(self, url: str) -> None:
        self.answer: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self.early: list[bytes] = []
        """Frames that came in one read with the WELCOME, behind it."""
        self.reason: str | None = None
        """The reason of the ERROR, if it was one."""
        self._url = url

    def take(self, content: bytes) -> None:
        """Take a frame. Raises `FrameError` for what cannot come first."""
        if self.answer.done():
            self.early.append(content)
        elif content[0] == frames.WELCOME:
            self.answer.set_result(session.from_json(content[1:], Welcome))
        elif content[0] == frames.ERROR:
            self.fail(self._refusal(read_failure(content[1:])))
        else:
            raise FrameError(f"a hub begins with a WELCOME, not with 0x{content[0]:02x}")

    def fail(self, error: BusError) -> None:
        """Note why there will be no WELCOME."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # whoever connects may have given up

    def _refusal(self, failure: Failure) -> BusError:
        self.reason = failure.reason
        text = f"{self._url}: {failure.message}"
        if failure.reason in PASSING:
            return DisconnectedError(text)
        error = to_error(failure, url=self._url)
        if isinstance(error, LogError):
            return error
        return ConnectError(text, url=self._url, refused=True)
