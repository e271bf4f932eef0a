"""What stands between the processes of a contender: hub, broker or proxy, in a process of its own.

Each is a scope; what it yields is the address that clients are given. Brokers are told to lose
nothing, whatever a client leaves unread.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from benchmarks.model import PeerMissingError
from benchmarks.worker import ROOT, STOP_S, WorkerError, start_worker

READY_S = 10.0
PROXY = "benchmarks.peers.pyzmq"
DISK = ROOT / "benchmarks" / "results"
"""Next to the sources, since the system's temporary folder may be memory, which syncs for free."""


class Server(Struct, frozen=True, kw_only=True):
    """A running server: where clients find it, and its process."""

    address: str
    pid: int


@contextmanager
def disk_folder() -> Generator[Path]:
    """A folder on a disk that syncs, for as long as the scope."""
    DISK.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=DISK, prefix="run-") as folder:
        yield Path(folder)


@contextmanager
def _short_folder() -> Generator[Path]:
    # The path of a Unix socket has at most about 107 bytes.
    with TemporaryDirectory(prefix="hmb-") as folder:
        yield Path(folder)


@asynccontextmanager
async def hub(*, logged: bool = False) -> AsyncGenerator[Server]:
    """Run our hub, with a log on disk if `logged`."""
    with _short_folder() as folder, disk_folder() as disk:
        path = folder / "hub.sock"
        log = ["--log", f"sqlite:{disk / 'hub.db'}"] if logged else []
        command = [sys.executable, "-m", "hms_bus.hub", "--listen", f"ipc://{path}", *log]
        environment = {"HMS_BUS_RUNTIME_DIR": str(folder)}
        async with _running(command, lambda: _connects_to(path), folder, environment) as pid:
            yield Server(address=f"ipc://{path}?spawn=false", pid=pid)


@asynccontextmanager
async def zmq_proxy() -> AsyncGenerator[Server]:
    """Run ZeroMQ's own proxy, in C, between an XSUB and an XPUB socket."""
    with _short_folder() as folder:
        async with start_worker(Path(sys.executable), PROXY) as worker:
            await worker.ask(open="proxy", folder=str(folder))
            yield Server(address=str(folder), pid=worker.pid)


@asynccontextmanager
async def nowhere() -> AsyncGenerator[Server]:
    """Run nothing: the clients connect to each other, in this folder."""
    with _short_folder() as folder:
        yield Server(address=str(folder), pid=0)


@asynccontextmanager
async def log_file() -> AsyncGenerator[Server]:
    """Run nothing: the side opens the log at this address, a new file on disk, by itself."""
    with disk_folder() as disk:
        yield Server(address=f"sqlite:{disk / 'ours.db'}", pid=0)


@asynccontextmanager
async def redis_server() -> AsyncGenerator[Server]:
    """Run redis-server on a Unix socket, without persistence and without a limit for readers."""
    program = _program("redis-server")
    with _short_folder() as folder:
        path = folder / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        unlimited = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]
        command = [program, *options, *unlimited]
        async with _running(command, lambda: _connects_to(path), folder) as pid:
            yield Server(address=f"unix://{path}", pid=pid)


@asynccontextmanager
async def nats_server(*, stored: bool = False, synced: bool = False) -> AsyncGenerator[Server]:
    """Run nats-server on the loopback; `stored` with JetStream, `synced` at every message."""
    program = _program("nats-server")
    with _short_folder() as folder, disk_folder() as disk:
        port = _free_port()
        lines = [f"listen: 127.0.0.1:{port}", "max_pending: 4GB", 'write_deadline: "60s"']
        if stored:
            sync = "always" if synced else '"2m"'
            lines.append(f'jetstream {{ store_dir: "{disk}", sync_interval: {sync} }}')
        configuration = folder / "nats.conf"
        configuration.write_text("\n".join(lines) + "\n")
        command = [program, "--config", str(configuration)]
        async with _running(command, lambda: _listens_at(port), folder) as pid:
            yield Server(address=f"nats://127.0.0.1:{port}", pid=pid)


def _program(name: str) -> str:
    """The program of that name: the one that a package brought, or else an installed one."""
    brought = Path(sys.executable).parent
    found = shutil.which(name, path=f"{brought}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise PeerMissingError(f"no {name} in {brought.name}/ or on the path")
    return found


async def program_version(name: str) -> str | None:
    """Return what a server's `--version` says, `None` where there is none."""
    try:
        program = _program(name)
    except PeerMissingError:
        return None
    process = await asyncio.create_subprocess_exec(
        program, "--version", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


@asynccontextmanager
async def _running(
    command: Sequence[str],
    is_ready: Callable[[], Awaitable[bool]],
    folder: Path,
    environment: dict[str, str] | None = None,
) -> AsyncGenerator[int]:
    """Run a program until the scope ends, and wait until it takes connections; yields its pid."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        await _wait_until(is_ready, process, output)
        yield process.pid
    finally:
        await _end(process)


async def _wait_until(
    is_ready: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process, output: Path
) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while process.returncode is None:
                if await is_ready():
                    return
                await asyncio.sleep(0.005)
    raise WorkerError(f"a server did not start, and said: {output.read_text()[-500:]}")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _connects_to(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def _listens_at(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
