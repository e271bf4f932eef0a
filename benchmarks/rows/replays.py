"""Replay: a recorded log handled again by an agent that is rebuilt for it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.carried import new_envelope
from benchmarks.measuring import timed
from benchmarks.model import Contender, Race, Run, Target
from benchmarks.orders import ORDER, TOPIC, Order
from benchmarks.rows.logs import AIOSQLITE_READ, READERS, RECORDS
from benchmarks.servers import disk_folder
from benchmarks.tally import Tally
from hms_bus import Bus
from hms_bus.plugins import open_log
from hms_bus.replay import ReplaySettings, Rerun, open_rerun
from hms_bus.replay.settings import record_url

AT_ONCE = 1000
ORDER_OF_MAGNITUDE = 300_000


@asynccontextmanager
async def open_ours() -> AsyncGenerator[Run]:
    """Play the whole log to an agent that is built anew for each round."""
    tally = Tally()

    def build(url: str) -> Bus:
        bus = Bus(url, source="/agents/reader")

        @bus.subscribe(TOPIC)
        async def handle(order: Order) -> None:
            tally.add()

        return bus

    with disk_folder() as folder:
        path = folder / "ours.db"
        async with open_log(f"sqlite:{path}") as log:
            for _ in range(RECORDS // AT_ONCE):
                await log.append([new_envelope(ORDER) for _ in range(AT_ONCE)])

        async def run(operations: int) -> float:
            assert operations == RECORDS
            async with open_rerun(ReplaySettings(log=record_url(str(path))), build) as running:
                tally.expect(operations)
                seconds = await timed(lambda _: _play(running, tally))(operations)
                assert (running.stage.played, running.failed) == (operations, 0)
            return seconds

        yield run


async def _play(running: Rerun, tally: Tally) -> None:
    await running.play()
    await tally.complete()


ROWS = (
    Race(
        name="rerun",
        title="rerun the log into an agent's handler",
        unit="records",
        ours=Contender(name="hms-bus", open=open_ours),
        peers=READERS,
        targets=(Target(against=AIOSQLITE_READ, limit=1.5),),
        operations=RECORDS,
        order_of_magnitude=ORDER_OF_MAGNITUDE,
    ),
)
