"""The other process of a run in which publishers and subscribers live apart, and the line to it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from hms_bus.errors import StateError
from hms_bus.testing.conformance import calls
from hms_bus.testing.conformance.calls import Call, Frame

_PROGRAM = "hms_bus.testing.conformance.worker"
_START_S = 60.0
"""How long the process may take to start: it imports all that there is to prove."""
_GRACE_S = 5.0
"""How long it may take to close what a check has left open, and to end by itself."""
_CANCEL_S = 1.0
"""How long a call that was cancelled here may take to end there."""


class Worker:
    """The process in which publishers live: started when it is needed, ended with the scope.

        with Worker() as worker:                            # `async with` where a loop runs
            await case.prove(worker=worker)

    One serves any number of cases, one after another, each on the event loop that it is proven on.
    A process that dies fails the case that uses it, and the next case gets a new one. It finds the
    modules and plug-ins that this process finds.
    """

    def __init__(self) -> None:
        self.opened = 0
        """How many times a bus has been opened in the process so far."""
        self._numbers = count(calls.WORKER + 1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_lent = False
        self._gave_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self._end)

    @property
    def pid(self) -> int | None:
        """The process id; `None` as long as no process was needed."""
        return None if self._process is None else self._process.pid

    @asynccontextmanager
    async def line(self, timeout_s: float) -> AsyncGenerator["Line"]:
        """Lend the line to the process. When the scope ends, nothing is left open there.

        A process that is still needed after `timeout_s` is ended, so that nobody waits for it for
        ever. Raises `StateError` when the line is lent already, `AssertionError` when the process
        does not start, when it has ended, and when it cannot close what was left open.
        """
        if self._is_lent:
            raise StateError("a worker serves one case at a time")
        self._is_lent = True
        try:
            # A copy of the socket: when the line is closed, the process is still connected.
            copy = await asyncio.to_thread(self._connect)
            line = Line(self, *await asyncio.open_unix_connection(sock=copy))
            try:
                await self._clear(line, _START_S)
                with _alarm(timeout_s, self._give_up):
                    yield line
                await self._clear(line, _GRACE_S)
            except BaseException:
                with suppress(AssertionError):
                    await self._clear(line, _GRACE_S)
                raise
            finally:
                await line.close()
        finally:
            self._is_lent = False

    def next_number(self) -> int:
        """Return a number that no call and no object has had."""
        return next(self._numbers)

    async def ending(self) -> str:
        """Return how the process has ended, once it has."""
        process = self._process
        await asyncio.to_thread(self._end)
        if process is None or self._gave_up:
            return "the process of the publisher did not answer any more"
        status = process.returncode
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        name = f" ({signal.strsignal(-status)})" if status < 0 else ""
        return f"the process of the publisher has ended with {how}{name}: its stderr may say why"

    def _give_up(self) -> None:
        if self._process is not None:
            self._gave_up = True
            self._process.kill()

    async def _clear(self, line: "Line", timeout_s: float) -> None:
        """Close all that is open in the process; end the process where that cannot be done."""
        try:
            async with asyncio.timeout(timeout_s):
                await line.call(calls.WORKER, "clear")
        except BaseException as error:
            await asyncio.to_thread(self._end)  # the next line would begin in the middle of a frame
            if not isinstance(error, TimeoutError):
                raise
            raise AssertionError(
                f"the process of the publisher did not come to rest within {timeout_s:g} s"
            ) from None

    def _connect(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._socket is None:
            self._socket = self._start()
        return self._socket.dup()

    def _start(self) -> socket.socket:
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        self._gave_up = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", _PROGRAM, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what stands there is the report of the run
                start_new_session=True,  # Ctrl-C is for us: the process ends with our socket
            )
        return ours

    def _end(self) -> None:
        process, self._process = self._process, None
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):  # the other end may have gone
                connection.shutdown(socket.SHUT_RDWR)  # of its copies, too
            connection.close()
        if process is not None:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _alarm(timeout_s: float, ring: Callable[[], None]) -> Generator[None]:
    timer = asyncio.get_running_loop().call_later(timeout_s, ring)
    try:
        yield
    finally:
        timer.cancel()


class Line:
    """What one case has of the process: calls to the objects there. One event loop only."""

    def __init__(
        self, worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.worker = worker
        self._reader = reader
        self._writer = writer
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._lost: str | None = None
        self._receiving = asyncio.create_task(self._receive())

    async def call(
        self, target: int, method: str, /, *args: Any, keep: int | None = None, **options: Any
    ) -> Any:
        """Call a method of an object there and return, or raise, what it does.

        With `keep` the result stays there, as the object of that number. Cancelled here, the call
        is cancelled there, and has ended when this does. Raises `AssertionError` when the process
        has gone, `TypeError` for what cannot be sent.
        """
        number, answer = self._send(target, method, args, options, keep)
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            self._writer.write(calls.frame(calls.CANCEL, number))
            await asyncio.wait([answer], timeout=_CANCEL_S)
            raise
        return answer.result()

    def start(
        self, target: int, method: str, /, *args: Any, keep: int | None = None, **options: Any
    ) -> asyncio.Future[Any]:
        """Call a method of an object there, in the order of the calls, without waiting for it."""
        return self._send(target, method, args, options, keep)[1]

    def keep(self) -> int:
        """Return the number of an object that is to be kept."""
        return self.worker.next_number()

    async def close(self) -> None:
        """Give the line back."""
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        self._fail("the check is over")
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _send(
        self,
        target: int,
        method: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
        keep: int | None,
    ) -> tuple[int, asyncio.Future[Any]]:
        if self._lost is not None:
            raise AssertionError(self._lost)
        number = self.worker.next_number()
        call = Call(target=target, method=method, args=args, options=options, keep=keep)
        content = calls.dumps(call)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(calls.frame(calls.CALL, number, content))
        return number, answer

    async def _receive(self) -> None:
        while (frame := await calls.read_frame(self._reader)) is not None:
            answer = self._answers.pop(frame.call, None)
            if answer is not None and not answer.done():
                _settle(answer, frame)
        self._fail(await self.worker.ending())

    def _fail(self, problem: str) -> None:
        self._lost = problem
        for answer in self._answers.values():
            if not answer.done():
                _refuse(answer, AssertionError(problem))


def _settle(answer: asyncio.Future[Any], frame: Frame) -> None:
    try:
        result = calls.loads(frame.content)
    except Exception as error:  # noqa: BLE001 - a class may not be what it was there
        _refuse(answer, error)
        return
    if frame.kind == calls.DONE:
        answer.set_result(result)
    else:
        _refuse(answer, result)


def _refuse(answer: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
        return
    answer.set_exception(error)
    answer.exception()  # who was cancelled meanwhile does not ask for it
