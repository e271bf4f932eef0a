"""A run of durable work whose publishers, consumers and writer are killed by chance.

On `direct://` one process writes the log, publishes and consumes; on `ipc://` a hub writes it for
two who publish and three who consume. What is done follows from the seed; what it falls into, from
the machine.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Literal, Self

from msgspec import Struct

from hms_bus.abc import ConsumingLog, DurableInfo
from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.places import RUNTIME_DIR, find_place
from hms_bus.plugins import open_log
from hms_bus.transports.ipc.asking import ask
from tests.support.durable_programs import DURABLE, PATIENCE_S, TOPIC, Worker, WorkPart
from tests.support.fault_checks import Kept, check_words, lines_of, read_log
from tests.support.hub_process import is_failure

Where = Literal["direct", "ipc"]

_PAUSE_S = 0.02

_CAST: Mapping[Where, Sequence[tuple[bool, bool]]] = {
    "direct": [(True, True)],
    "ipc": [(True, False), (True, False), (False, True), (False, True), (False, True)],
}
"""Who publishes, and who consumes."""


class WorkDone(Struct, frozen=True):
    """What a run has come to: all was checked but these figures."""

    acknowledged: int
    handled: int
    done: Mapping[str, int]
    """How often what was done."""


def run_durable(folder: Path, seed: int, where: Where, *, seconds: float) -> WorkDone:
    """Kill for so long, and check what must hold. Raises `AssertionError`. Blocks."""
    with DurableRun(folder, seed, where) as run:
        run.break_things(seconds)
        run.end()
    return run.check()


class DurableRun:
    """The processes of a run, and what they have left."""

    def __init__(self, folder: Path, seed: int, where: Where) -> None:
        self._where: Where = where
        self._folder = folder
        self._chance = random.Random(seed)
        self._log = f"sqlite:{folder / 'events.db'}"
        self._place = find_place("work")
        self._url = (
            "direct://" if where == "direct" else f"{self._place.url}?idle=5s&timeout={PATIENCE_S}s"
        )
        self._handled = folder / "handled.notes"
        self._numbers = count(1)
        self._living: list[Worker] = []
        self._parts: list[WorkPart] = []
        self._killed_hub = 0
        self._done: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for publishes, consumes in _CAST[self._where]:
            self._start(publishes=publishes, consumes=consumes)
        self._until(self._has_begun, "the work begins")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for worker in self._living:
            worker.kill()

    # -- faults --------------------------------------------------------------------------------

    def break_things(self, seconds: float) -> None:
        """Kill somebody again and again."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(self._chance.uniform(0.1, 0.6))
            if self._where == "ipc" and self._chance.random() < 0.4:
                self._kill_hub()
            else:
                self._replace(self._chance.choice(self._living))

    def _replace(self, worker: Worker) -> None:
        worker.check_lives()
        worker.kill()
        self._living.remove(worker)
        part = worker.part
        deeds = ("publisher", "consumer") if self._where == "ipc" else ("writer", "writer")
        self._done[f"kill {deeds[part.consumes]}"] += 1
        self._start(publishes=part.publishes, consumes=part.consumes)

    def _kill_hub(self) -> None:
        try:
            pid: int = json.loads(self._place.lock.read_text())["pid"]
        except (OSError, ValueError):
            return  # there is none, or it is just beginning
        if pid != self._killed_hub:
            os.kill(pid, signal.SIGKILL)
            self._killed_hub = pid
            self._done["kill hub"] += 1

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """Let all that was published be handled; then let everybody end well."""
        self._until(lambda: all(worker.is_ready for worker in self._living), "all are there")
        for worker in [each for each in self._living if each.part.publishes]:
            worker.end()
            self._living.remove(worker)
        if self._where == "direct":
            self._start(publishes=False, consumes=True)
        self._until(self._is_through, "all is handled")
        for worker in self._living:
            worker.end()
        self._living.clear()
        if self._where == "ipc":
            asyncio.run(ask(self._url, "stop"))
            self._until(self._is_free, "the hub ends")

    def check(self) -> WorkDone:
        """Check what is left when all have ended. Raises `AssertionError`."""
        records = asyncio.run(read_log(self._log))
        there = {record.position: record for record in records}
        acknowledged = 0
        for part in self._parts:
            numbers = [record.n for record in records if record.source == part.source]
            assert numbers == list(range(1, len(numbers) + 1)), f"what {part.source} published"
            for position, n, key in _kept(part.notes):
                acknowledged += 1
                record = there[position]
                assert (record.source, record.n, record.key) == (part.source, n, key)
            words = part.errors.read_text() if part.errors.exists() else ""
            check_words(words)
        assert {record.topic for record in records} == {TOPIC}
        handled = check_handled(self._handled, records)
        if self._where == "ipc":
            words = self._place.hub_log.read_text()
            assert not is_failure(words), words
        return WorkDone(acknowledged, handled, self._done)

    # -- who is there --------------------------------------------------------------------------

    def _start(self, *, publishes: bool, consumes: bool) -> None:
        name = f"{'p' * publishes}{'c' * consumes}{next(self._numbers)}"
        part = WorkPart(
            source=f"/agents/{name}",
            url=self._url,
            log=self._log,
            notes=self._folder / f"{name}.notes",
            handled=self._handled,
            errors=self._folder / f"{name}.errors",
            runtime=os.environ[RUNTIME_DIR],
            seed=self._chance.randrange(2**32),
            publishes=publishes,
            consumes=consumes,
        )
        self._parts.append(part)
        self._living.append(Worker(part))

    def _has_begun(self) -> bool:
        return self._handled.exists() and self._handled.stat().st_size > 0

    def _is_through(self) -> bool:
        """Whether each record of the log is among what was handled, and settled."""
        info = asyncio.run(self._info())
        return info is not None and info.lag == 0 and info.floor == info.delivered

    async def _info(self) -> DurableInfo | None:
        """Return how the durable stands, as the file tells it."""
        async with open_log(f"{self._log}?readonly=true") as log:
            assert isinstance(log, ConsumingLog)
            found = await log.durables()
        return next((each for each in found if each.durable.name == DURABLE), None)

    def _is_free(self) -> bool:
        taken = try_lock(self._place.lock, mode=0o600)
        if isinstance(taken, FileLock):
            taken.release()
        return isinstance(taken, FileLock)

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + PATIENCE_S
        while not holds():
            for worker in self._living:
                worker.check_lives()
            assert time.monotonic() < ends, f"it never came so far that {what}"
            time.sleep(_PAUSE_S)


def check_handled(notes: Path, records: Sequence[Kept]) -> int:
    """All records were handled, those of a key for the first time in order, and nothing else.

    Returns how often something was.
    """
    there = {(each.position, each.source, each.n, each.key) for each in records}
    handled = [
        (int(position), source, int(n), key) for _, position, source, n, key in lines_of(notes)
    ]
    assert there.issuperset(handled), f"never published: {[*set(handled) - there][:5]}"
    missing = there.difference(handled)
    assert not missing, f"{len(missing)} of {len(there)} were not handled: {sorted(missing)[:5]}"
    of_key: dict[str, list[int]] = {}
    for position, _, _, key in dict.fromkeys(handled):
        of_key.setdefault(key, []).append(position)
    for key, positions in of_key.items():
        assert positions == sorted(positions), f"the order of key {key}"
    return len(handled)


def _kept(notes: Path) -> list[tuple[int, int, str]]:
    return [(int(line[1]), int(line[2]), line[3]) for line in lines_of(notes) if line[0] == "kept"]
