"""Between processes: what is sent, what stands in the middle and what receives are one each.

Every contender is a `System`: a server, and a module whose sides (`benchmarks.sides`) run in
processes of their own. The peers carry the envelopes that ours carries.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from benchmarks import servers
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.pinning import ONE_CORE
from benchmarks.stage import System, cpu_seconds, staged

SIZES = (128, 1024)
IN_FLIGHT = 64
DURABLE_IN_FLIGHT = 1000
CROWD_MESSAGES = 200_000

HMS = System(server=servers.hub, module="benchmarks.peers.hms")
HMS_LOGGED = System(server=partial(servers.hub, logged=True), module=HMS.module)
HMS_CROWD = System(server=servers.hub, module="benchmarks.peers.crowd")
PYZMQ = System(server=servers.zmq_proxy, module="benchmarks.peers.pyzmq")
ZMQ_ASYNCIO = System(server=servers.zmq_proxy, module="benchmarks.peers.zmq_asyncio")
ZMQ_DIRECT = System(server=servers.nowhere, module=ZMQ_ASYNCIO.module)
REDIS = System(server=servers.redis_server, module="benchmarks.peers.redis_asyncio")
NATS = System(server=servers.nats_server, module="benchmarks.peers.nats_client")
JETSTREAM = System(server=partial(servers.nats_server, stored=True), module=NATS.module)
JETSTREAM_SYNCED = System(
    server=partial(servers.nats_server, stored=True, synced=True), module=NATS.module
)


@asynccontextmanager
async def open_one_way(system: System, size: int, **options: Any) -> AsyncGenerator[Run]:
    """One sender, one receiver: from the start of sending until the last message is handled."""
    sides = {"open": "receive"}, {"open": "send", "size": size, **options}
    async with staged(system, *sides) as stage:

        async def run(operations: int) -> float:
            received, sent = await stage.run(operations)
            return (received["ended"] - sent["started"]) / 1e9

        yield run


@asynccontextmanager
async def open_requests(
    system: System, size: int, in_flight: int, *, cores: int | None = None
) -> AsyncGenerator[Run]:
    """One who asks, one who answers; one at a time it is the median that counts."""
    sides = (
        {"open": "answer", "size": size},
        {"open": "ask", "size": size, "in_flight": in_flight},
    )
    async with staged(system, *sides, cores=cores) as stage:

        async def run(operations: int) -> float:
            _, asked = await stage.run(operations)
            return asked["median_s"] * operations if in_flight == 1 else asked["seconds"]

        yield run


@asynccontextmanager
async def open_durable(system: System, size: int) -> AsyncGenerator[Run]:
    """One publisher, until everything is acknowledged."""
    side = {"open": "append", "size": size, "in_flight": DURABLE_IN_FLIGHT}
    async with staged(system, side) as stage:

        async def run(operations: int) -> float:
            [appended] = await stage.run(operations)
            return appended["seconds"]

        yield run


@asynccontextmanager
async def open_crowd(clients: int) -> AsyncGenerator[Run]:
    """Clients in a ring, each publishing to the next one: the hub's CPU time."""
    side = {"open": "ring", "size": SIZES[0], "clients": clients}
    async with staged(HMS_CROWD, side) as stage:

        async def run(operations: int) -> float:
            before = cpu_seconds(stage.server.pid)
            await stage.run(operations)
            return cpu_seconds(stage.server.pid) - before

        yield run


PYZMQ_NAME = "pyzmq PUB → C proxy → SUB"
PYZMQ_NEW_NAME = f"{PYZMQ_NAME}, encoding each envelope"
ZMQ_NAME = "zmq.asyncio PUB → C proxy → SUB"
REDIS_NAME = "redis-py asyncio pub/sub"
NATS_NAME = "nats-py, nats-server"
ROUTER_NAME = "zmq.asyncio DEALER → ROUTER"
NATS_REQUEST_NAME = "nats-py request"
JETSTREAM_NAME = "JetStream file storage, nats-py publish_async"
JETSTREAM_SYNCED_NAME = f"{JETSTREAM_NAME}, sync_interval: always"


def _size_name(size: int) -> str:
    return "1k" if size == 1024 else str(size)


def _size_title(size: int) -> str:
    return "1 KiB" if size == 1024 else f"{size} B"


def _one_way(size: int) -> Race:
    def side(name: str, system: System, **options: Any) -> Contender:
        return Contender(name=name, open=partial(open_one_way, system, size, **options))

    return Race(
        name=f"ipc-publish-{_size_name(size)}",
        title=f"ipc, publish → hub → subscriber, {_size_title(size)}",
        unit="messages",
        ours=side("hms-bus", HMS),
        peers=(
            side(PYZMQ_NAME, PYZMQ),
            side(PYZMQ_NEW_NAME, PYZMQ, ready=False),
            side(ZMQ_NAME, ZMQ_ASYNCIO),
            side(REDIS_NAME, REDIS),
            side(NATS_NAME, NATS),
        ),
        targets=(
            Target(against=PYZMQ_NAME, limit=1.0),
            Target(against=ZMQ_NAME, limit=5.0),
            Target(against=REDIS_NAME, limit=5.0),
            Target(against=NATS_NAME, limit=2.0),
        ),
    )


def _requests(size: int) -> Race:
    def side(name: str, system: System) -> Contender:
        opened = partial(open_requests, system, size, IN_FLIGHT)
        return Contender(name=name, open=opened, step=IN_FLIGHT)

    return Race(
        name=f"ipc-request-{IN_FLIGHT}-{_size_name(size)}",
        title=f"ipc request/reply, {IN_FLIGHT} in flight, {_size_title(size)}",
        unit="requests",
        ours=side("hms-bus", HMS),
        peers=(side(ROUTER_NAME, ZMQ_DIRECT), side(NATS_REQUEST_NAME, NATS)),
        targets=(
            Target(against=ROUTER_NAME, limit=5.0),
            Target(against=NATS_REQUEST_NAME, limit=3.0),
        ),
    )


def _one_at_a_time(size: int) -> Race:
    def side(name: str, system: System) -> Contender:
        return Contender(name=name, open=partial(open_requests, system, size, 1, cores=ONE_CORE))

    return Race(
        name=f"ipc-request-1-{_size_name(size)}",
        title=f"ipc request/reply, one at a time, all on one core, {_size_title(size)}",
        unit="requests",
        ours=side("hms-bus", HMS),
        peers=(side(NATS_REQUEST_NAME, NATS),),
        targets=(Target(against=NATS_REQUEST_NAME, limit=0.7, direction="at most"),),
        each="median",
    )


def _durable(size: int) -> Race:
    def side(name: str, system: System) -> Contender:
        opened = partial(open_durable, system, size)
        return Contender(name=name, open=opened, step=DURABLE_IN_FLIGHT)

    return Race(
        name=f"ipc-durable-{_size_name(size)}",
        title=(
            f"ipc durable publish (FULL) through the hub, {DURABLE_IN_FLIGHT:,} in flight, "
            f"{_size_title(size)}"
        ),
        unit="messages",
        ours=side("hms-bus", HMS_LOGGED),
        peers=(side(JETSTREAM_NAME, JETSTREAM), side(JETSTREAM_SYNCED_NAME, JETSTREAM_SYNCED)),
        targets=(Target(against=JETSTREAM_NAME, limit=1.5),),
    )


def _crowd(clients: int) -> Race:
    alone = "hms-bus, 1 client process"
    return Race(
        name=f"ipc-clients-{clients}",
        title=f"ipc, the hub's CPU time for a message among {clients} client processes",
        unit="messages",
        ours=Contender(name="hms-bus", open=partial(open_crowd, clients)),
        peers=(Contender(name=alone, open=partial(open_crowd, 1)),),
        targets=(Target(against=alone, limit=1.3, direction="at most"),),
        operations=CROWD_MESSAGES,
        each="of CPU",
    )


ROWS = (
    *map(_one_way, SIZES),
    *map(_requests, SIZES),
    *map(_one_at_a_time, SIZES),
    *map(_durable, SIZES),
    *map(_crowd, (10, 50)),
)
