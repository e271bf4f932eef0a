"""A program that takes the place of a hub and does nothing else of what a hub does.

Who connects gets a line with the process id; over TCP only after saying the token in a line. It is
run by its path, since it has the working folder of a hub. Writes `hub PID` once it listens.
"""

import argparse
import asyncio
import os
import signal
import sys
from typing import cast

from hms_bus.errors import BusError, HubLockedError
from hms_bus.hub.listening import Listening, listen
from hms_bus.ipc.places import find_place
from hms_bus.plugins import parse_address

LONGEST_LIFE_S = 120


class Greeter(asyncio.Protocol):
    """The hub's end of one connection."""

    def __init__(self, listening: Listening) -> None:
        self._token = listening.token

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._token is None:
            self._say_who()

    def data_received(self, data: bytes) -> None:
        if data.decode() == f"{self._token}\n":
            self._say_who()
        else:
            self._transport.close()

    def _say_who(self) -> None:
        self._transport.write(f"{os.getpid()}\n".encode())


async def run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    place = find_place(parse_address(arguments.listen).path)
    holder: list[Listening] = []
    async with listen(
        place, tcp=arguments.tcp, protocol_factory=lambda: Greeter(holder[0])
    ) as listening:
        holder.append(listening)
        if not arguments.mute:
            await listening.start()
            say(f"hub {os.getpid()}")
        await stopped.wait()


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    signal.alarm(LONGEST_LIFE_S)
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--spawned", action="store_true")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--mute", action="store_true", help="take the place, and never listen")
    try:
        asyncio.run(run(parser.parse_args()))
    except HubLockedError:
        return 0
    except BusError as error:
        say(f"small hub: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
