"""A hub in a process of its own, and what a test wants to know about it."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from hms_bus.errors import ConnectError
from hms_bus.ipc.places import Place, find_place
from hms_bus.transports.ipc.asking import ask

PATIENCE_S = 30.0
"""How long a test waits for what must come."""

_PAUSE_S = 0.005


class HubProcess:
    """`python -m hms_bus.hub` at `place`; `url` is what its clients are told."""

    def __init__(self, place: Place, process: subprocess.Popen[bytes], words: Path) -> None:
        self.place = place
        self.url = f"{place.url}?spawn=false"
        self.process = process
        self._words = words

    @property
    def words(self) -> str:
        """What it has written so far."""
        return self._words.read_text()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    async def status(self) -> dict[str, Any]:
        """Return its figures."""
        return await ask(self.place.url, "status")

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return its figures, or those of its successor, once they are as `holds` wants them."""
        figures: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with suppress(ConnectError):
                        if holds(figures := await self.status()):
                            return figures
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise AssertionError(f"the hub never came so far; at last: {figures}") from None

    def kill(self) -> None:
        """End it violently."""
        self.process.kill()
        self.process.wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to end, and return its exit status."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Return its exit status once it has ended."""
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)

    def resident_bytes(self) -> int:
        """Return how much memory it has."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """Return how much memory it has had at most."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) * 1024


@contextmanager
def running_hub(
    *arguments: str, url: str = "ipc://test", config: str | None = None
) -> Generator[HubProcess]:
    """Run a hub in the runtime folder of the test, `config` being its hub.toml.

    A hub that is there at the end must end well on SIGTERM; in any case it must not have failed.
    Blocks meanwhile: for clients that are still there in an event loop, see `serving_hub`.
    """
    hub = _start(url, config, arguments)
    try:
        yield hub
        if hub.is_running:
            hub.process.terminate()
            _check_end(hub, hub.process.wait(PATIENCE_S))
        assert not is_failure(hub.words), hub.words
    finally:
        hub.kill()


@asynccontextmanager
async def serving_hub(
    *arguments: str, url: str = "ipc://test", config: str | None = None
) -> AsyncGenerator[HubProcess]:
    """Run a hub as `running_hub` does; its clients may go on until it has ended."""
    hub = _start(url, config, arguments)
    try:
        yield hub
        if hub.is_running:
            _check_end(hub, await hub.end())
        assert not is_failure(hub.words), hub.words
    finally:
        hub.kill()


def _start(url: str, config: str | None, arguments: tuple[str, ...]) -> HubProcess:
    place = find_place(url.removeprefix("ipc://"))
    place.folder.mkdir(mode=0o700, exist_ok=True)
    beside = place.folder.parent
    words = beside / f"{place.socket.stem}.words"
    if config is not None:
        settings = beside / f"{place.socket.stem}.toml"
        settings.write_text(config)
        settings.chmod(0o600)
        arguments = ("--config", str(settings), *arguments)
    with words.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hms_bus.hub", "--listen", place.url, *arguments],
            stdout=output,
            stderr=output,
            cwd=beside,
        )
    hub = HubProcess(place, process, words)
    try:
        _wait_until_ready(hub)
    except BaseException:
        hub.kill()
        raise
    return hub


def _check_end(hub: HubProcess, status: int) -> None:
    assert status == 0, f"the hub ended with status {status}:\n{hub.words}"


def there_are(clients: int, subscriptions: int | None = None) -> Callable[[dict[str, Any]], bool]:
    """Return whether so many clients, besides the one that asks, have so many subscriptions."""

    def holds(figures: dict[str, Any]) -> bool:
        totals = figures["totals"]
        is_right = subscriptions in {None, totals["subscriptions"]}
        return is_right and totals["clients"] == clients + 1

    return holds


def is_failure(words: str) -> bool:
    """Whether a hub has met with a bug of its own."""
    return " ERROR " in words or "Traceback" in words or "never retrieved" in words


def _wait_until_ready(hub: HubProcess) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(str(hub.place.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                assert hub.process.poll() is None, f"the hub did not begin:\n{hub.words}"
                assert time.monotonic() < ends, "the hub is not ready"
                time.sleep(_PAUSE_S)
            else:
                return
