"""A client of a small hub: it reaches the hub when it is told to, and prints which one it was.

python -m tests.support.reach_program NAME
"""

import asyncio
import sys
from pathlib import Path

from hms_bus.ipc.places import find_place
from hms_bus.transports.ipc.dialing import Reached
from hms_bus.transports.ipc.reaching import reach
from hms_bus.transports.ipc.spawning import SpawnOptions

SMALL_HUB = SpawnOptions(program=(sys.executable, str(Path(__file__).with_name("small_hub.py"))))


async def ask_who(reached: Reached) -> int:
    """Return the process id of the hub that was reached; closes the connection."""
    reader, writer = await asyncio.open_connection(sock=reached.socket)
    try:
        if reached.token is not None:
            writer.write(f"{reached.token}\n".encode())
        return int(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()


async def main(name: str) -> None:
    """Wait for a line, reach the hub, print its process id."""
    print("ready", flush=True)  # noqa: T201 - it talks to the test
    await asyncio.to_thread(sys.stdin.readline)
    reached = await reach(find_place(name), spawn=SMALL_HUB, timeout_s=50)
    print(await ask_who(reached), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
