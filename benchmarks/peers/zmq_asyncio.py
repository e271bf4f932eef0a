"""zmq.asyncio: PUB → ZeroMQ's proxy → SUB, and DEALER → ROUTER without anything in between."""
# pyright: reportUnknownMemberType=false
# ... since pyzmq leaves the type of a frame open.

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import zmq
from zmq.asyncio import Context, Socket

from benchmarks.carried import document, reader
from benchmarks.orders import order_of
from benchmarks.peers.pyzmq import (
    HIGH_WATER_MARK,
    PREFIX,
    publishers_end,
    subscribers_end,
)
from benchmarks.sides import asking, nothing, now, uvloop_if_there
from benchmarks.worker import Work, serve

UNLIMITED = 0


@asynccontextmanager
async def send(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Publish with an XPUB, see `benchmarks.peers.pyzmq`."""
    with Context() as context, context.socket(zmq.XPUB) as socket:
        socket.set_hwm(UNLIMITED)  # one with a limit says that it has room and then refuses
        socket.connect(publishers_end(address))
        await socket.recv()
        message = PREFIX + document(order_of(size))

        async def work(operations: int) -> dict[str, int]:
            started = now()
            for _ in range(operations):
                await socket.send(message)
            return {"started": started}

        yield work


@asynccontextmanager
async def receive(*, address: str) -> AsyncGenerator[Work]:
    """Receive and read."""
    with Context() as context, context.socket(zmq.SUB) as socket:
        socket.set_hwm(HIGH_WATER_MARK)
        socket.subscribe(PREFIX)
        socket.connect(subscribers_end(address))
        read = reader()
        start = len(PREFIX)

        async def work(operations: int) -> dict[str, int]:
            for _ in range(operations):
                read((await socket.recv())[start:])
            return {"ended": now()}

        yield work


def _endpoint(folder: str) -> str:
    return f"ipc://{folder}/questions"


@asynccontextmanager
async def answer(*, address: str, size: int) -> AsyncGenerator[Work]:
    """Read each question and answer it, until the end."""
    with Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(_endpoint(address))
        task = asyncio.create_task(_answer(socket, document(order_of(size))))
        yield nothing
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _answer(socket: Socket, reply: bytes) -> None:
    read = reader()
    while True:
        asker, number, question = await socket.recv_multipart()
        read(question)
        await socket.send_multipart([asker, number, reply])


@asynccontextmanager
async def ask(*, address: str, size: int, in_flight: int) -> AsyncGenerator[Work]:
    """Ask; a number in front of each question tells whose the answer is."""
    with Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(_endpoint(address))
        waiting: dict[bytes, asyncio.Future[bytes]] = {}
        task = asyncio.create_task(_take_answers(socket, waiting))
        yield asking(partial(_ask, socket, waiting, count(), document(order_of(size))), in_flight)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _take_answers(socket: Socket, waiting: dict[bytes, "asyncio.Future[bytes]"]) -> None:
    while True:
        number, reply = await socket.recv_multipart()
        waiting.pop(number).set_result(reply)


READ = reader()


async def _ask(
    socket: Socket,
    waiting: dict[bytes, "asyncio.Future[bytes]"],
    numbers: "count[int]",
    question: bytes,
) -> None:
    number = next(numbers).to_bytes(8, "big")
    future = waiting[number] = asyncio.get_running_loop().create_future()
    await socket.send_multipart([number, question])
    READ(await future)


if __name__ == "__main__":
    serve(
        "zmq.asyncio",
        zmq.__version__,
        {"send": send, "receive": receive, "answer": answer, "ask": ask},
        loop_factory=uvloop_if_there(),
    )
