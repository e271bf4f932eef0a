"""The process in which publishers live when the suite runs apart.

`python -m hms_bus.testing.conformance.worker FD` serves the suite at the other end of the socket FD
and ends with it.
"""

import asyncio
import inspect
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from operator import attrgetter
from typing import Any

from hms_bus.bus import Bus
from hms_bus.config import BusConfig
from hms_bus.testing.conformance import calls
from hms_bus.testing.conformance.calls import Call

_GRACE_S = 2.0
"""How long what is still open may take to close when the suite has gone."""


class Objects:
    """The buses, scopes and iterators that calls are made on, by number. It is one of them."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {calls.WORKER: self}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def make(self, config: BusConfig) -> Bus:
        """Return a bus that is not open yet."""
        return Bus(config=config)

    def look(self, number: int, path: str) -> Any:
        """Return an attribute of an object; raise what its property raises."""
        return attrgetter(path)(self._objects[number])

    async def clear(self) -> None:
        """End every call but this one, close every bus that is open, and let all objects go."""
        others = [task for task in self._tasks.values() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        left, self._objects = self._objects, {calls.WORKER: self}
        for each in left.values():
            if isinstance(each, AsyncGenerator):  # a replay that was left early
                await each.aclose()
        for each in left.values():
            if isinstance(each, Bus) and each.is_open:
                await each.__aexit__(None, None, None)

    def call(self, number: int, call: Call, writer: asyncio.StreamWriter) -> None:
        """Do what does not wait at once, in the order of the calls; the rest in a task."""
        try:
            method = attrgetter(call.method)(self._objects[call.target])
            result = method(*call.args, **call.options)
        except Exception as error:  # noqa: BLE001 - it is the caller's, whatever it is
            writer.write(calls.frame(calls.FAILED, number, calls.dump_error(error)))
            return
        if inspect.isawaitable(result):
            task = asyncio.create_task(self._finish(number, call, result, writer))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number))
        else:
            self._answer(number, call, result, writer)

    def cancel(self, number: int) -> None:
        """Cancel a call that has not ended."""
        if task := self._tasks.get(number):
            task.cancel()

    async def _finish(
        self, number: int, call: Call, result: Awaitable[Any], writer: asyncio.StreamWriter
    ) -> None:
        try:
            self._answer(number, call, await result, writer)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            writer.write(calls.frame(calls.FAILED, number, calls.dump_error(error)))

    def _answer(self, number: int, call: Call, result: Any, writer: asyncio.StreamWriter) -> None:
        if call.keep is not None:
            self._objects[call.keep] = result
            result = None
        try:
            content = calls.dumps(result)
        except TypeError as error:
            writer.write(calls.frame(calls.FAILED, number, calls.dump_error(error)))
        else:
            writer.write(calls.frame(calls.DONE, number, content))


async def serve(connection: socket.socket) -> None:
    """Do what the suite at the other end asks for, until it has gone."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    objects = Objects()
    while (frame := await calls.read_frame(reader)) is not None:
        if frame.kind == calls.CANCEL:
            objects.cancel(frame.call)
            continue
        try:
            call: Call = calls.loads(frame.content)
        except Exception as error:  # noqa: BLE001 - a class may not be found here
            writer.write(calls.frame(calls.FAILED, frame.call, calls.dump_error(error)))
        else:
            objects.call(frame.call, call, writer)
    _end_soon()
    with suppress(Exception):
        await objects.clear()


def _end_soon() -> None:
    """End the process in a while, whatever the bus that was tested still waits for."""
    timer = threading.Timer(_GRACE_S, os._exit, [1])
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
