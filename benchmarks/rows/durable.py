"""Durable subscriptions: what a log holds is handled, and each record settled after its handler."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks import servers
from benchmarks.model import Contender, Race, Run
from benchmarks.rows.ipc import HMS, HMS_LOGGED, JETSTREAM, SIZES
from benchmarks.stage import System, staged

STEP = 1000
AT_LEAST = 50_000

HMS_FILE = System(server=servers.log_file, module=HMS.module)

PEER = "JetStream file storage, nats-py fetch(100), ack each"


@asynccontextmanager
async def open_consume(system: System) -> AsyncGenerator[Run]:
    """One consumer: from the start of a new durable until all that there is is settled."""
    async with staged(system, {"open": "consume", "size": SIZES[0]}) as stage:

        async def run(operations: int) -> float:
            [consumed] = await stage.run(operations)
            return consumed["seconds"]

        yield run


def _consume(name: str, title: str, system: System) -> Race:
    def side(name: str, system: System) -> Contender:
        return Contender(name=name, open=partial(open_consume, system), step=STEP)

    return Race(
        name=name,
        title=f"{title}, a typed handler, acknowledged after it, 128 B",
        unit="messages",
        ours=side("hms-bus", system),
        peers=(side(PEER, JETSTREAM),),
        at_least=AT_LEAST,
    )


ROWS = (
    _consume("durable-consume", "direct, durable consume of a log file", HMS_FILE),
    _consume("durable-consume-ipc", "ipc, durable consume of the hub's log", HMS_LOGGED),
)
