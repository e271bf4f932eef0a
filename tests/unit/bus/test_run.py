"""`Bus.run`: an agent's entry point."""

import asyncio
import os
import signal
import threading

import pytest

from hms_bus import Bus
from hms_bus.errors import StateError


def test_main_runs_inside_the_open_bus_and_what_it_published_is_handled() -> None:
    bus = Bus()
    handled: list[int] = []

    @bus.subscribe("numbers")
    async def note(number: int) -> None:
        handled.append(number)

    async def main() -> None:
        for number in range(3):
            await bus.publish("numbers", number)

    bus.run(main)
    assert handled == [0, 1, 2]
    assert not bus.is_open


def test_what_main_raises_is_raised_after_the_drain() -> None:
    bus = Bus()
    handled: list[int] = []

    @bus.subscribe("numbers")
    async def note(number: int) -> None:
        handled.append(number)

    async def main() -> None:
        await bus.publish("numbers", 1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        bus.run(main)
    assert handled == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_main_and_drains(number: signal.Signals) -> None:
    bus = Bus()
    handled: list[int] = []

    @bus.subscribe("numbers")
    async def note(number: int) -> None:
        handled.append(number)

    async def main() -> None:
        await bus.publish("numbers", 1)
        threading.Timer(0, os.kill, (os.getpid(), number)).start()
        await asyncio.get_running_loop().create_future()

    before = signal.getsignal(number)
    bus.run(main)
    assert handled == [1]
    assert signal.getsignal(number) == before


async def test_inside_a_running_loop_the_scope_is_named() -> None:
    with pytest.raises(StateError, match="async with"):
        Bus().run()
