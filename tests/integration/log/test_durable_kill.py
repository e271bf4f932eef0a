"""Who is killed between handling and ack gets it again; what was settled does not come again."""

import asyncio
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from hms_bus.abc import ConsumingLog, Durable, Settlement
from hms_bus.plugins import open_log
from tests.support.events import event

ACK_WAIT_S = 0.5
DURABLE = Durable(name="d", pattern=">", ack_wait_s=ACK_WAIT_S)
PATIENCE_S = 20


def handle_and_hang(url: str, answer: Connection) -> None:
    """Take all there is, settle the first, tell of it, and do nothing more."""

    async def run() -> None:
        async with open_log(url) as log:
            assert isinstance(log, ConsumingLog)
            async with log.consume(DURABLE) as consumer:
                taken = await consumer.fetch(9)
                first = taken[0]
                ack = Settlement(
                    position=first.record.position, attempt=first.attempt, outcome="ack"
                )
                await consumer.settle([ack])
                answer.send([(each.record.position, each.attempt) for each in taken])
                await asyncio.Event().wait()

    asyncio.run(run())


def killed_at_work(url: str) -> list[tuple[int, int]]:
    """Return position and attempt of what a process was given before it was killed. Blocks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([handle_and_hang.__module__, "hms_bus.log.sqlite"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=handle_and_hang, args=(url, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(PATIENCE_S)
        return ours.recv()
    finally:
        process.kill()
        process.join()


async def test_who_is_killed_before_the_ack_gets_it_again(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    async with open_log(url) as log:
        # The third waits behind the second.
        await log.append([event(partitionkey=key) for key in ("a", "b", "b", "c")])
    first = await asyncio.to_thread(killed_at_work, url)
    assert first == [(1, 1), (2, 1), (4, 1)]
    second = await asyncio.to_thread(killed_at_work, url)
    assert second[0] == (2, 2)
    async with open_log(url) as log, asyncio.timeout(PATIENCE_S):
        assert isinstance(log, ConsumingLog)
        async with log.consume(DURABLE) as consumer:
            got: list[tuple[int, int]] = []
            while len(got) < 2:
                for delivery in await consumer.fetch(9):
                    position, attempt = delivery.record.position, delivery.attempt
                    got.append((position, attempt))
                    ack = Settlement(position=position, attempt=attempt, outcome="ack")
                    await consumer.settle([ack])
            # What the second process had acked has let the third go.
            assert sorted(position for position, _ in got) == [3, 4]
            assert dict(got)[3] == 1
            assert dict(got)[4] == 1 + dict([*first, *second])[4]
        [info] = await log.durables()
        assert (info.floor, info.unacked) == (4, 0)
