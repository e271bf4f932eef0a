"""A log of millions of records: how soon a durable starts on it, what memory reading it takes."""

import atexit
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.model import Gauge
from benchmarks.servers import disk_folder
from benchmarks.worker import start_worker

RECORDS = 5_000_000
RECORDS_IN_SHORT = 200_000
START_MS = 1000.0
GROWTH_MIB = 16.0
ROUNDS = 3

MODULE = "benchmarks.peers.long_log"

_paths: dict[int, Path] = {}
"""The logs that were made in this run, by the number of their records."""

# Made once for all rows, since that takes a minute; they go when the program ends.
_folders = ExitStack()
atexit.register(_folders.close)


async def ask(task: str, operations: int, **options: Any) -> dict[str, Any]:
    """Return the answer of a process that does one task and ends."""
    async with start_worker(Path(sys.executable), MODULE) as worker:
        await worker.ask(open=task, **options)
        return await worker.ask(run=operations)


async def start_ms(path: Path) -> float:
    """Return the time that a new durable takes, at the end or the beginning: the longer one."""
    took = [await ask("start", 1, path=str(path), where=where) for where in ("beginning", "end")]
    return max(float(answer["seconds"]) for answer in took) * 1000


async def growth_mib(task: str, path: Path, records: int) -> float:
    """Return by how much a process has grown at most while it read so many records."""
    return float((await ask(task, records, path=str(path)))["mib"])


async def _log_of(records: int) -> Path:
    """Return the log of so many records, which is made when it is first asked for."""
    if records not in _paths:
        path = _folders.enter_context(disk_folder()) / "long.db"
        await ask("build", records, path=str(path))
        _paths[records] = path
    return _paths[records]


def _start(records: int, **options: Any) -> Gauge:
    async def measure() -> float:
        return await start_ms(await _log_of(records))

    return Gauge(
        name="durable-start",
        title=f"a new durable on a log of {records:,} records, until it has handled its first",
        unit="ms",
        measure=measure,
        rounds=ROUNDS,
        at_most=START_MS,
        **options,
    )


def _memory(task: str, what: str, records: int, **options: Any) -> Gauge:
    async def measure() -> float:
        return await growth_mib(task, await _log_of(records), records)

    return Gauge(
        name=f"{task}-memory",
        title=f"growth of the process's memory while {what} a log of {records:,} records",
        unit="MiB",
        measure=measure,
        at_most=GROWTH_MIB,
        **options,
    )


READING = "replay", "bus.replay reads"
RERUNNING = "rerun", "an agent is rerun on"

ROWS = (
    _start(RECORDS, in_short=_start(RECORDS_IN_SHORT)),
    _memory(*READING, RECORDS, in_short=_memory(*READING, RECORDS_IN_SHORT)),
    _memory(*RERUNNING, RECORDS, in_short=_memory(*RERUNNING, RECORDS_IN_SHORT)),
)
