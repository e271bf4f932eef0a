"""A consumer in a process of its own, to be killed.

python -m tests.support.consuming_program URL DURABLE ack|hold

DURABLE is a `Durable` in JSON. Writes `consuming`, then `position attempt` of each delivery; with
`ack` it is settled first. Ends with its standard input, and hands back.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from hms_bus import Bus
from hms_bus.abc import Consumer, ConsumingLog, Durable, Settlement

PATIENCE_S = 30.0


class ConsumingProcess:
    """The program at work, as a test sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return the next line that it writes."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self._process.stdout.readline()).decode().strip()

    async def delivery(self) -> tuple[int, int]:
        """Return position and attempt of the next delivery."""
        position, attempt = (await self.line()).split()
        return int(position), int(attempt)

    async def kill(self) -> None:
        """End it violently."""
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        """Let it end well."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            assert await self._process.wait() == 0


@asynccontextmanager
async def consuming_process(
    url: str, durable: Durable, mode: str
) -> AsyncGenerator[ConsumingProcess]:
    """Run the program; it consumes already, and is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.consuming_program"),
        *(url, msgspec.json.encode(durable).decode(), mode),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    program = ConsumingProcess(process)
    try:
        assert await program.line() == "consuming"
        yield program
    finally:
        if process.returncode is None:
            await program.kill()


async def run(url: str, durable: Durable, mode: str) -> None:
    async with Bus(url) as bus:
        assert isinstance(bus.log, ConsumingLog)
        async with bus.log.consume(durable) as consumer:
            say("consuming")
            consuming = asyncio.create_task(consume(consumer, mode))
            await asyncio.to_thread(sys.stdin.read)
            consuming.cancel()
            await asyncio.wait([consuming])


async def consume(consumer: Consumer, mode: str) -> None:
    while True:
        for delivery in await consumer.fetch(4):
            position, attempt = delivery.record.position, delivery.attempt
            if mode == "ack":
                settled = Settlement(position=position, attempt=attempt, outcome="ack")
                await consumer.settle([settled])
            say(f"{position} {attempt}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Durable), sys.argv[3]))
