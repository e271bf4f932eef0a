"""What a run of durable work kills: a process that publishes, consumes, or both.

It notes in a file of its own `kept POSITION N KEY` once the log has acknowledged a message, and in
one that all share `handled POSITION SOURCE N KEY` before its handler returns. Ends well on SIGTERM.
"""

import asyncio
import logging
import multiprocessing
import os
import random
import signal
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from msgspec import Struct

from hms_bus import Bus, Message
from hms_bus.bus import Backoff
from hms_bus.ipc.places import RUNTIME_DIR
from tests.support.fault_checks import lines_of
from tests.support.fault_programs import LONGEST_LIFE_S, Load, Notes

TOPIC = "work.item"
DURABLE = "work"
ACK_WAIT_S = 1.0
KEYS = 5
IN_FLIGHT = 8
FAILS = 0.05
"""The share of messages at which the handler raises."""

PATIENCE_S = 30.0


class WorkPart(Struct, frozen=True, kw_only=True):
    """What a program is told: who it is, where the bus is, and what it does."""

    source: str
    url: str
    log: str
    notes: Path
    handled: Path
    errors: Path
    runtime: str
    seed: int
    publishes: bool
    consumes: bool


class Worker:
    """One program, in a process of its own."""

    def __init__(self, part: WorkPart) -> None:
        self.part = part
        part.notes.touch()
        # Forked from a process that has imported everything: who is killed is replaced at once.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.__module__, "hms_bus.transports.ipc.opening"])
        self.process: ForkServerProcess = context.Process(target=work, args=(part,), daemon=True)
        self.process.start()

    @property
    def is_ready(self) -> bool:
        """Whether its bus is open."""
        return ["ready"] in lines_of(self.part.notes)

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self.part.errors.read_text() if self.part.errors.exists() else ""

    def check_lives(self) -> None:
        """Raise `AssertionError` if it has ended."""
        status = self.process.exitcode
        assert status is None, f"{self.part.source} has ended with {status}: {self.errors}"

    def kill(self) -> None:
        """End it violently."""
        self.process.kill()
        self.process.join()

    def end(self) -> None:
        """Let it end well."""
        self.check_lives()
        self.process.terminate()
        self.process.join(PATIENCE_S)
        status = self.process.exitcode
        assert status == 0, f"{self.part.source} has ended with {status}: {self.errors}"


def work(part: WorkPart) -> None:
    """Be the program of `part`, in a process of its own."""
    signal.alarm(LONGEST_LIFE_S)
    os.environ[RUNTIME_DIR] = part.runtime
    errors = os.open(part.errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)
    # Its handlers fail by intention.
    logging.getLogger("hms_bus").setLevel(logging.CRITICAL)
    asyncio.run(_work(part))


async def _work(part: WorkPart) -> None:
    bus = Bus(part.url, log=part.log, source=part.source, logged=("work.>",))
    notes, chance, stopped = Notes(part.notes), random.Random(part.seed), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    if part.consumes:
        _consume(bus, Notes(part.handled), chance)
    async with bus:
        notes.add("ready")
        if part.publishes:
            await _publish(bus, notes, stopped)
        await stopped.wait()


def _consume(bus: Bus, handled: Notes, chance: random.Random) -> None:
    @bus.subscribe(
        TOPIC,
        group="workers",
        durable=DURABLE,
        concurrency=4,
        ack_wait=ACK_WAIT_S,
        max_deliveries=None,
        backoff=Backoff(first_s=0.01, max_s=0.1),
    )
    async def handle(load: Load, msg: Message) -> None:
        await asyncio.sleep(chance.uniform(0, 0.002))
        if chance.random() < FAILS:
            raise RuntimeError("by chance")
        handled.add("handled", msg.position, msg.source, load.n, msg.envelope.partitionkey)
        if chance.random() < FAILS:
            raise RuntimeError("by chance, and too late")


async def _publish(bus: Bus, notes: Notes, stopped: asyncio.Event) -> None:
    """Publish several at a time, in the order of their numbers."""

    async def publish(n: int) -> None:
        key = str(n % KEYS)
        receipt = await bus.publish(TOPIC, Load(n), partitionkey=key)
        notes.add("kept", receipt.position, n, key)
        room.release()

    room = asyncio.Semaphore(IN_FLIGHT)
    async with asyncio.TaskGroup() as group:
        for n in count(1):
            await room.acquire()
            if stopped.is_set():
                return
            group.create_task(publish(n))
            await asyncio.sleep(0.002)
