"""pyzmq, its blocking API: PUB → ZeroMQ's proxy → SUB over Unix sockets.

A message is one frame, topic first, as subscriptions by prefix want it. Where a queue is full, its
sender waits, as ours does; ZeroMQ's own way would be to drop. It is no slower than queues without
an end.
"""

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import zmq

from benchmarks.carried import document, new_document, reader
from benchmarks.orders import TOPIC, order_of
from benchmarks.sides import nothing, now
from benchmarks.worker import Work, serve

PREFIX = TOPIC.encode() + b" "
HIGH_WATER_MARK = 1000
"""Messages in each queue; ZeroMQ's default."""


def publishers_end(folder: str) -> str:
    """Return where publishers connect."""
    return f"ipc://{folder}/publishers"


def subscribers_end(folder: str) -> str:
    """Return where subscribers connect."""
    return f"ipc://{folder}/subscribers"


@asynccontextmanager
async def proxy(*, folder: str) -> AsyncGenerator[Work]:
    """Forward between the two ends, in C."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    wait_when_full(back)
    front.set_hwm(HIGH_WATER_MARK)
    front.bind(publishers_end(folder))
    back.bind(subscribers_end(folder))
    # It never returns; the process ends without it.
    threading.Thread(target=zmq.proxy, args=(front, back), daemon=True).start()
    yield nothing


def wait_when_full(socket: "zmq.Socket[bytes]") -> None:
    """Let an XPUB wait where it would drop."""
    socket.set_hwm(HIGH_WATER_MARK)
    socket.setsockopt(zmq.XPUB_NODROP, 1)


@asynccontextmanager
async def send(*, address: str, size: int, ready: bool = True) -> AsyncGenerator[Work]:
    """Publish; without `ready` each message is an envelope that is built and encoded by itself.

    An XPUB is a PUB that can be asked for subscriptions: what is sent before them goes nowhere.
    """
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        wait_when_full(socket)
        socket.connect(publishers_end(address))
        socket.recv()
        order = order_of(size)
        message = PREFIX + document(order)

        async def work(operations: int) -> dict[str, int]:
            started = now()
            if ready:
                for _ in range(operations):
                    socket.send(message)
            else:
                for _ in range(operations):
                    socket.send(PREFIX + new_document(order))
            return {"started": started}

        yield work


@asynccontextmanager
async def receive(*, address: str) -> AsyncGenerator[Work]:
    """Receive and read."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set_hwm(HIGH_WATER_MARK)
        socket.subscribe(PREFIX)
        socket.connect(subscribers_end(address))
        read = reader()
        start = len(PREFIX)

        async def work(operations: int) -> dict[str, int]:
            for _ in range(operations):
                read(socket.recv()[start:])
            return {"ended": now()}

        yield work


if __name__ == "__main__":
    serve("pyzmq", zmq.__version__, {"proxy": proxy, "send": send, "receive": receive})
