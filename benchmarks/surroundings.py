"""What the figures depend on: the machine, and the versions of everybody who took part."""

import os
import platform
import re
import sqlite3
from importlib.metadata import version

from benchmarks.rows.autogen import MODULE, PYTHON
from benchmarks.servers import program_version
from benchmarks.worker import start_worker

PEERS = (
    "blinker",
    "faststream",
    "cloudevents",
    "eventsourcing",
    "aiosqlite",
    "pyzmq",
    "redis",
    "hiredis",
    "nats-py",
)
SERVERS = ("nats-server", "redis-server")
LIBRARIES = ("hms-bus", "msgspec", "cbor2", "protobuf", "uvloop")

_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def machine() -> dict[str, str]:
    """Return the kind of machine; nothing that tells which one it is."""
    return {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }


def load() -> str:
    """Return how many processes wanted to run during the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


async def versions() -> dict[str, str]:
    """Return the versions of ours, of the libraries below us and of the peers."""
    found = {name: version(name) for name in (*LIBRARIES, *PEERS)}
    if PYTHON.exists():
        async with start_worker(PYTHON, MODULE) as worker:
            found[worker.greeting["name"]] = worker.greeting["version"]
    for name in SERVERS:
        said = _NUMBER.search(await program_version(name) or "")
        if said is not None:
            found[name] = said[0]
    return found
