"""Programs that a run of faults kills and stops: each notes in a file what it may rely on.

| program | notes, a line each |
|---|---|
| `publish` | `kept POSITION N ID` once the log has acknowledged it; `asked N` |
| `listen` | `SUBSCRIPTION SOURCE N KEY` for each message that it has handled |
| `follow` | `read POSITION SOURCE N` for each record of the log |
| `consume` | as `listen`, with one subscription |

Each notes `ready` when its bus is open. Publishers and consumers end well on SIGTERM, the others
when the log holds a message on `END`.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Struct

from hms_bus import Bus, Message
from hms_bus.abc import Overflow
from hms_bus.errors import DisconnectedError, EnvironmentFailure, RemoteError
from hms_bus.ipc.places import RUNTIME_DIR

LOGGED = "kept.>"
END = "kept.end"
"""The last topic of the log."""
LONGEST_LIFE_S = 600
IN_FLIGHT = 64
"""Messages for the log that a publisher has under way."""
KEYS = ("a", "b", "c")


class Load(Struct, frozen=True):
    """What is published: the number of its publisher, counted from 1, and some weight."""

    n: int
    weight: str = ""


class Part(Struct, frozen=True, kw_only=True):
    """What a program is told: who it is, where the hub is, and where its notes go.

    `pattern` and `overflow` are those of a consumer's subscription.
    """

    program: str
    source: str
    url: str
    log: str | None = None
    notes: Path
    errors: Path
    runtime: str
    seed: int = 0
    pattern: str = ""
    overflow: Overflow = "block"


def play(part: Part) -> None:
    """Be the program of `part`, in a process of its own."""
    signal.alarm(LONGEST_LIFE_S)
    os.environ[RUNTIME_DIR] = part.runtime
    errors = os.open(part.errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)
    asyncio.run(_PROGRAMS[part.program](part))


class Notes:
    """Lines in a file; each is there as a whole once `add` has returned, whatever comes then."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, *words: object) -> None:
        """Write a line of `words`."""
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


def _bus(part: Part) -> Bus:
    return Bus(part.url, log=part.log, source=part.source, logged=(LOGGED,), max_queue=100)


def _stopped() -> asyncio.Event:
    """Return what is set on SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    return stopped


# -- publishing --------------------------------------------------------------------------------


async def publish(part: Part) -> None:
    """Publish on logged topics and on others, and ask, as fast as the others allow."""
    stopped = _stopped()
    notes, chance = Notes(part.notes), random.Random(part.seed)
    async with _bus(part) as bus:
        notes.add("ready")
        async with asyncio.TaskGroup() as group:
            group.create_task(_keep(bus, notes, chance, stopped))
            group.create_task(_pass(bus, chance, stopped))
            group.create_task(_ask(bus, notes, stopped))


async def _keep(bus: Bus, notes: Notes, chance: random.Random, stopped: asyncio.Event) -> None:
    """Publish on logged topics, several at a time, in the order of their numbers."""

    async def keep(n: int) -> None:
        weight = "x" * chance.choice((0, 100, 1000))
        topic, key = f"kept.{chance.choice('xyz')}", chance.choice(KEYS)
        receipt = await bus.publish(topic, Load(n, weight), partitionkey=key)
        notes.add("kept", receipt.position, n, receipt.id)
        room.release()

    room = asyncio.Semaphore(IN_FLIGHT)
    async with asyncio.TaskGroup() as group:
        for n in count(1):
            await room.acquire()
            if stopped.is_set():
                return
            group.create_task(keep(n))


async def _pass(bus: Bus, chance: random.Random, stopped: asyncio.Event) -> None:
    """Publish on topics without a log; what becomes of it when the hub dies is not known."""
    for n in count(1):
        if stopped.is_set():
            return
        load = Load(n, "x" * chance.choice((0, 100, 10_000)))
        try:
            await bus.publish(
                f"plain.{chance.choice('xy')}", load, partitionkey=chance.choice(KEYS)
            )
        except DisconnectedError:
            await asyncio.sleep(0.001)
        if n % 20 == 0:
            await asyncio.sleep(0.001)


async def _ask(bus: Bus, notes: Notes, stopped: asyncio.Event) -> None:
    """Ask again and again; an answer is right, or it is an error of the world."""
    for n in count(1):
        if stopped.is_set():
            return
        try:
            answer = await bus.request("square.get", n, returns=int, timeout=1)
        except (EnvironmentFailure, RemoteError):
            await asyncio.sleep(0.005)
        else:
            assert answer == n * n
            notes.add("asked", n)


# -- listening ---------------------------------------------------------------------------------


async def listen(part: Part) -> None:
    """Listen in all ways, and serve, until the log holds a message on `END`."""
    bus, notes, ended = _bus(part), Notes(part.notes), asyncio.Event()

    def note(name: str, msg: Message) -> None:
        notes.add(name, msg.source, msg.decode(Load).n, msg.envelope.partitionkey)

    @bus.subscribe("kept.>")
    async def each(msg: Message) -> None:
        note("each", msg)
        if msg.topic == END:
            ended.set()

    @bus.subscribe("kept.>", concurrency=4)
    async def keyed(msg: Message) -> None:
        await asyncio.sleep(0)
        note("keyed", msg)

    @bus.subscribe("kept.>", group="workers")
    async def shared(msg: Message) -> None:
        note("shared", msg)

    @bus.subscribe("plain.>")
    async def plain(msg: Message) -> None:
        note("plain", msg)

    @bus.subscribe("plain.>", overflow="drop_oldest", max_queue=10)
    async def newest(msg: Message) -> None:
        await asyncio.sleep(0.0005)
        note("newest", msg)

    @bus.serve("square.get")
    async def square(n: int) -> int:
        return n * n

    async with bus:
        notes.add("ready")
        await ended.wait()


async def consume(part: Part) -> None:
    """Listen in one way, with a small queue, until SIGTERM."""
    bus, notes, stopped = _bus(part), Notes(part.notes), _stopped()

    @bus.subscribe(part.pattern, overflow=part.overflow, max_queue=10)
    async def note(msg: Message) -> None:
        notes.add("note", msg.source, msg.decode(Load).n, msg.envelope.partitionkey)

    async with bus:
        notes.add("ready")
        await stopped.wait()


async def follow(part: Part) -> None:
    """Read the log from its beginning, and go on with what comes, until `END`."""
    notes = Notes(part.notes)
    async with _bus(part) as bus:
        notes.add("ready")
        async for msg in bus.replay(follow=True):
            notes.add("read", msg.position, msg.source, msg.decode(Load).n)
            if msg.topic == END:
                return


_PROGRAMS: dict[str, Callable[[Part], Coroutine[Any, Any, None]]] = {
    "publish": publish,
    "listen": listen,
    "follow": follow,
    "consume": consume,
}
