"""A run of faults: programs on one bus, whose hub, publishers and listeners are killed by chance.

    with FaultRun(folder, seed=1) as run:
        run.break_things(turns=20)
        run.settle()
        run.end()
    run.check()

All of it blocks. What is done, and to whom, follows from the seed; what it falls into, from the
machine.
"""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

from hms_bus import Bus
from hms_bus.errors import BusError
from hms_bus.filelock import FileLock, try_lock
from hms_bus.ipc.places import RUNTIME_DIR, find_place
from hms_bus.transports.ipc.asking import ask
from tests.support import fault_checks as checks
from tests.support.fault_programs import END, LOGGED, Load, Part, play
from tests.support.hub_process import is_failure
from tests.support.programs import LOST_WORK

PATIENCE_S = 60.0
"""How long a run waits for what must come."""

MEMORY_MARGIN = 24 * 2**20
"""Bytes that a hub may have more after its load than when it was warm."""

_CAST = ("publish", "listen", "follow", "listen", "publish")
_CONDUCTOR = "/load/conductor"
_PAUSE_S = 0.01
_CALM_MESSAGES = 300
"""What is acknowledged while nothing is broken, before and after the faults that count."""


class Actor:
    """One program, in a process of its own."""

    def __init__(self, part: Part, process: ForkServerProcess) -> None:
        self.part = part
        self.process = process
        self.is_stopped = False

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_ready(self) -> bool:
        """Whether its bus is open."""
        self.check_lives()
        return self.part.notes.exists() and self.part.notes.stat().st_size > 0

    @property
    def acknowledged(self) -> int:
        """How many of its messages are in the log, as far as it knows."""
        return sum(line[0] == "kept" for line in checks.lines_of(self.part.notes))

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self.part.errors.read_text() if self.part.errors.exists() else ""

    def check_lives(self) -> None:
        """Raise `AssertionError` if it has ended, with its last words."""
        status = self.process.exitcode
        assert status is None, f"{self.part.source} has ended with {status}: {self.errors}"

    def stop(self) -> None:
        """Let it stand still."""
        self.is_stopped = True
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self.is_stopped = False
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it violently."""
        self.process.kill()
        self.process.join()

    def wait(self) -> None:
        """Return when it has ended, which must be by itself and well."""
        self.process.join(PATIENCE_S)
        status = self.process.exitcode
        assert status == 0, f"{self.part.source} has ended with {status}: {self.errors}"


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
        for actor in (*self._living, *self._dead):
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
            [deed] = self._chance.choices([deed for deed, _ in deeds], [often for _, often in deeds])
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
        with self._hub() as pid:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(0.02, 0.2))
            os.kill(pid, signal.SIGCONT)
            self.done["stop hub"] += 1

    def _kill_hub(self) -> None:
        with self._hub() as pid:
            os.kill(pid, signal.SIGKILL)
            self._killed_hub = pid
            self.done["kill hub"] += 1
