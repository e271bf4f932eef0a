"""The programs of a run of faults, as the processes that they are."""

import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkServerProcess

from tests.support.fault_checks import lines_of
from tests.support.fault_programs import Part, play

PATIENCE_S = 20.0
"""How long a run waits for what must come."""

PAUSE_S = 0.01


class Actor:
    """One program, in a process of its own."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.is_stopped = False
        part.notes.touch()
        part.errors.touch()
        # Forked from a process that has imported everything: who is killed is replaced at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([play.__module__, "hms_bus.transports.ipc.opening"])
        self.process: ForkServerProcess = context.Process(target=play, args=(part,), daemon=True)
        self.process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_ready(self) -> bool:
        """Whether its bus is open."""
        self.check_lives()
        # Its handlers may have something to note before.
        return ["ready"] in lines_of(self.part.notes)

    @property
    def acknowledged(self) -> int:
        """How many of its messages are in the log, as far as it knows."""
        return sum(line[0] == "kept" for line in lines_of(self.part.notes))

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self.part.errors.read_text()

    def wait_until_ready(self) -> None:
        """Return when its bus is open. Raises `AssertionError` when it never is."""
        ends = time.monotonic() + PATIENCE_S
        while not self.is_ready:
            assert time.monotonic() < ends, f"{self.part.source} is not ready: {self.errors}"
            time.sleep(PAUSE_S)

    def check_lives(self) -> None:
        """Raise `AssertionError` if it has ended, with its last words."""
        status = self.process.exitcode
        assert status is None, f"{self.part.source} has ended with {status}: {self.errors}"

    def stop(self) -> None:
        """Let it stand still."""
        self.check_lives()
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
