"""A run of faults: programs on one bus, whose hub, publishers and listeners are killed by chance.

What is done, and to whom, follows from the seed; what it falls into, from the
machine.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from hms_bus import Bus
from hms_bus.errors import BusError
from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.places import RUNTIME_DIR, find_place
from hms_bus.transports.ipc.asking import ask
from tests.support import fault_checks as checks
from tests.support.fault_actors import PATIENCE_S, PAUSE_S, Actor
from tests.support.fault_programs import END, LOGGED, Load, Part
from tests.support.hub_process import is_failure

MEMORY_MARGIN = 16 * 2**20
"""Bytes that a hub may have more after its load than when it was warm."""

_CAST = ("publish", "listen", "follow", "listen", "publish")
_CONDUCTOR = "/load/conductor"
_CALM_MESSAGES = 300
"""What is acknowledged while nothing is broken, before and after the faults that count."""


class Outcome(Struct, frozen=True):
    """What a run has come to: all was checked but these figures."""

    acknowledged: int
    """How many messages were acknowledged, and are in the log."""
    hub_growth: int
    """How many bytes more the hub has after its load than when it was warm."""
    done: Mapping[str, int]
    """How often what was done."""


def run_faults(folder: Path, seed: int, *, turns: int = 25) -> Outcome:
    """Run with so many faults, and check what must hold. Raises `AssertionError`. Blocks."""
    with FaultRun(folder, seed) as run:
        run.break_things(turns - turns // 3)
        run.settle()
        run.calm()
        warm = run.hub_memory()
        run.break_things(turns // 3, kill_hub=False)
        run.settle()
        run.expect_all_from_here()
        run.calm()
        run.end_load()
        growth = run.hub_memory() - warm
        assert growth < MEMORY_MARGIN, f"the hub has grown by {growth} bytes"
        run.end()
    return Outcome(run.check(), growth, run.done)


class FaultRun:
    """Two publishers, two listeners, one who follows the log, and the hub that they start.

    `done` counts what was done to them.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._folder = folder
        self._log = f"sqlite:{folder / 'events.db'}"
        self._chance = random.Random(seed)
        self._place = find_place("load")
        self._url = f"{self._place.url}?idle=5s&timeout=30s"
        self._numbers = count(1)
        self._living: list[Actor] = []
        self._dead: list[Actor] = []
        self._ended: list[Actor] = []
        self._subscriptions: dict[str, int] = {}
        self._killed_hub = 0
        self._sound_from = 0

    def __enter__(self) -> Self:
        for program in _CAST:
            self._start(program)
        self._until(lambda: all(actor.is_ready for actor in self._living))
        for client in self._status()["clients"]:
            for actor in self._living:
                if actor.pid == client["pid"]:
                    self._subscriptions[actor.part.program] = len(client["subscriptions"])
        return self

    def __exit__(self, *exc_info: object) -> None:
        for actor in (*self._living, *self._dead, *self._ended):
            actor.kill()

    # -- faults --------------------------------------------------------------------------------

    def break_things(self, turns: int, *, kill_hub: bool = True) -> None:
        """Kill and stop, `turns` times. Nobody stands still for ever."""
        deeds: list[tuple[Callable[[], None], int]] = [
            (self._kill_publisher, 2),
            (self._kill_listener, 2),
            (self._stop_reader, 4),
            (self._stop_hub, 1),
            (self._kill_hub, 4 if kill_hub else 0),
        ]
        for _ in range(turns):
            time.sleep(self._chance.uniform(0.02, 0.25))
            for actor in self._living:
                if actor.is_stopped and self._chance.random() < 0.5:
                    actor.go_on()
            [deed] = self._chance.choices(
                [deed for deed, _ in deeds], [often for _, often in deeds]
            )
            deed()

    def _kill_publisher(self) -> None:
        self._replace("publish")

    def _kill_listener(self) -> None:
        self._replace("listen")

    def _replace(self, program: str) -> None:
        actor = self._chance.choice(self._of(program))
        actor.kill()
        self._living.remove(actor)
        self._dead.append(actor)
        self._start(program)
        self.done[f"kill {program}"] += 1

    def _stop_reader(self) -> None:
        actor = self._chance.choice(self._of("listen", "follow"))
        if not actor.is_stopped:
            actor.stop()
            self.done["stop reader"] += 1

    def _stop_hub(self) -> None:
        if pid := self._hub_pid():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(0.02, 0.2))
            os.kill(pid, signal.SIGCONT)
            self.done["stop hub"] += 1

    def _kill_hub(self) -> None:
        if pid := self._hub_pid():
            os.kill(pid, signal.SIGKILL)
            self._killed_hub = pid
            self.done["kill hub"] += 1

    def _hub_pid(self) -> int | None:
        """Return the process that has the hub's place, if one has it since the last was killed."""
        try:
            pid = json.loads(self._place.lock.read_text())["pid"]
        except (OSError, ValueError):
            return None  # nobody has, or it is just being written
        return None if pid == self._killed_hub else pid

    # -- quiet ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everybody go on; return when all who live are back at the hub, and nobody else."""
        for actor in self._living:
            if actor.is_stopped:
                actor.go_on()
        self._until(lambda: self._is_complete(self._try_status()))

    def calm(self) -> None:
        """Return when the log has taken in some more of each publisher, undisturbed."""
        before = {actor: actor.acknowledged for actor in self._of("publish")}
        self._until(
            lambda: all(
                actor.acknowledged >= count + _CALM_MESSAGES for actor, count in before.items()
            )
        )

    def hub_memory(self) -> int:
        """Return how many bytes of memory the hub has."""
        text = Path(f"/proc/{self._hub_pid()}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def expect_all_from_here(self) -> None:
        """From now on listeners must miss nothing: nobody is disturbed any more."""
        self._sound_from = self._status()["log"]["position"]

    def end_load(self) -> dict[str, Any]:
        """Let the publishers end; return the hub's figures when it has nothing left to do."""
        for actor in self._of("publish"):
            actor.process.terminate()
        self._let_end("publish")
        self._until(
            lambda: (
                self._is_complete(status := self._try_status())
                and status["totals"]["queued_bytes"] == 0
            )
        )
        return self._status()

    def end(self) -> None:
        """Let a new bus work at once; then let all end, the hub last."""
        asyncio.run(self._publish_the_last())
        self._let_end("listen", "follow")
        asyncio.run(ask(self._url, "stop"))
        self._until(self._is_free)

    async def _publish_the_last(self) -> None:
        async with Bus(self._url, log=self._log, source=_CONDUCTOR, logged=(LOGGED,)) as bus:
            assert await bus.request("square.get", 12, returns=int) == 144
            async with bus.subscribe("plain.conductor") as heard:
                await bus.publish("plain.conductor", Load(1), partitionkey="a")
                assert (await anext(heard)).decode(Load) == Load(1)
            await bus.publish(END, Load(1), partitionkey="a")

    def check(self) -> int:
        """Check what is left when all have ended; return how much was acknowledged."""
        records = asyncio.run(checks.read_log(self._log))
        checks.check_log(records)
        acknowledged = 0
        for actor in (*self._ended, *self._dead):
            notes, source = actor.part.notes, actor.part.source
            acknowledged += checks.check_acknowledged(notes, source, records)
            checks.check_words(actor.errors)
        checks.check_followed(self._ended_of("follow"), records)
        checks.check_listeners(
            self._ended_of("listen"),
            [actor.part.notes for actor in self._dead if actor.part.program == "listen"],
            records,
            sound_from=self._sound_from,
        )
        words = self._place.hub_log.read_text()
        assert not is_failure(words), words
        return acknowledged

    def _ended_of(self, program: str) -> list[Path]:
        """Return the notes of those who were never killed."""
        return [actor.part.notes for actor in self._ended if actor.part.program == program]

    # -- who is there --------------------------------------------------------------------------

    def _start(self, program: str) -> None:
        name = f"{program}-{next(self._numbers)}"
        part = Part(
            program=program,
            source=f"/load/{name}",
            url=self._url,
            log=self._log,
            notes=self._folder / f"{name}.notes",
            errors=self._folder / f"{name}.errors",
            runtime=os.environ[RUNTIME_DIR],
            seed=self._chance.randrange(2**32),
        )
        self._living.append(Actor(part))

    def _of(self, *programs: str) -> list[Actor]:
        return [actor for actor in self._living if actor.part.program in programs]

    def _let_end(self, *programs: str) -> None:
        for actor in self._of(*programs):
            actor.wait()
            self._living.remove(actor)
            self._ended.append(actor)

    def _is_complete(self, status: dict[str, Any]) -> bool:
        """Whether all who live are at the hub, as they were at the beginning, and nobody else."""
        there = {
            client["pid"]: len(client["subscriptions"])
            for client in status["clients"]
            if client["pid"] != os.getpid()
        }
        return there == {
            actor.pid: self._subscriptions[actor.part.program] for actor in self._living
        }

    def _status(self) -> dict[str, Any]:
        return asyncio.run(ask(self._url, "status"))

    def _try_status(self) -> dict[str, Any]:
        try:
            return self._status()
        except BusError:
            return {"clients": []}

    def _is_free(self) -> bool:
        taken = try_lock(self._place.lock, mode=0o600)
        if isinstance(taken, FileLock):
            taken.release()
        return isinstance(taken, FileLock)

    def _until(self, holds: Callable[[], bool]) -> None:
        """Wait for what others do. Raises `AssertionError` when one of them ends meanwhile."""
        ends = time.monotonic() + PATIENCE_S
        while not holds():
            for actor in self._living:
                actor.check_lives()
            assert time.monotonic() < ends, f"after {self.done} it never came so far"
            time.sleep(PAUSE_S)
