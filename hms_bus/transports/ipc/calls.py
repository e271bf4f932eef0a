"""What a client has asked its hub, until it is answered or the line is cut."""

import asyncio
from collections.abc import Callable, Mapping
from copy import copy
from itertools import count as counting
from typing import Any

import msgspec

from hms_bus.errors import BusError, FrameError
from hms_bus.ipc import frames
from hms_bus.ipc.failures import read_failure, to_error


class Call:
    """A call that is under way.

    `future` gets the answer. `on_window` is told what a DONE allows, `on_more` each answer but the
    last.
    """

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


class Calls:
    """The calls of one client by their numbers; takes DONE, FAILED and ANSWER."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._calls: dict[int, Call] = {}
        self._numbers = counting(1)

    def next_number(self) -> int:
        """Return the number of the next call, whoever waits for its answer."""
        return next(self._numbers) & 0xFFFF_FFFF

    def add(self, call: Call) -> int:
        """Return the number under which the answer will come."""
        number = self.next_number()
        self._calls[number] = call
        return number

    def fail(self, error: BusError) -> None:
        """Fail all that is under way. It is no fault when nobody waits for it."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.future.done():
                call.future.set_exception(copy(error))
                call.future.exception()

    def on_done(self, content: bytes) -> None:
        """Take a DONE. Raises `FrameError`."""
        number, window = frames.read_pair(content)
        call = self._calls.pop(number, None)
        if call is None:
            return
        if call.on_window is not None:
            call.on_window(window)
        if not call.future.done():
            call.future.set_result(None)

    def finish(self, number: int) -> None:
        """Take an answer that is not one of those below."""
        call = self._calls.pop(number, None)
        if call is not None and not call.future.done():
            call.future.set_result(None)

    def on_failed(self, content: bytes) -> None:
        """Take a FAILED. Raises `FrameError`."""
        call = self._calls.pop(frames.read_u32(content), None)
        if call is not None and not call.future.done():
            call.future.set_exception(to_error(read_failure(content[5:]), url=self._url))

    def on_answer(self, content: bytes) -> None:
        """Take an ANSWER. Raises `FrameError`."""
        number, more, document = frames.read_answer(content)
        call = self._calls.get(number)
        if call is None:
            return
        try:
            answer: Mapping[str, Any] = msgspec.json.decode(document)
        except msgspec.MsgspecError as error:
            raise FrameError(f"an answer is no JSON: {error}") from error
        if more:
            if call.on_more is not None:
                call.on_more(answer)
            return
        del self._calls[number]
        if not call.future.done():
            call.future.set_result(answer)
