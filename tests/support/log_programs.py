"""Programs around a log that tests run in processes of their own, in order to break them.

python -m tests.support.log_programs COMMAND ARGUMENTS
"""

import asyncio
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection

from hms_bus.abc import EventLog
from hms_bus.errors import BusError, LogReadOnlyError
from hms_bus.plugins import open_log
from tests.support.events import event
from tests.support.failing_disk import fail_every_sync

NOBODY = 65534


async def write_under_load(url: str, tasks: int, acknowledgements: Connection) -> None:
    """Append from many tasks for ever; write `position id` once an event is acknowledged."""

    async def append(log: EventLog) -> None:
        while True:
            envelopes = [event(f"load.{n % 3}", {"n": n}) for n in range(next(sizes) % 3 + 1)]
            receipts = await log.append(envelopes)
            lines = "".join(f"{receipt.position} {receipt.id}\n" for receipt in receipts)
            os.write(acknowledgements.fileno(), lines.encode())

    sizes = count()
    async with open_log(url) as log, asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(append(log))


def write_until_killed(url: str, acknowledgements: Connection) -> None:
    """Run `write_under_load` with 20 tasks; the process ends by a signal only."""
    asyncio.run(write_under_load(url, 20, acknowledgements))


def open_unprivileged(url: str, answer: Connection) -> None:
    """Open the log as a user whom permissions bind; answer with its length, or the error's text."""

    async def open_it(url: str) -> str:
        async with open_log(url) as log:
            return f"{(await log.verify()).records} records"

    with tempfile.TemporaryDirectory() as folder:
        # Imports all it takes: the user that comes next may not read where Python is installed.
        asyncio.run(open_it(f"sqlite:{folder}/events.db"))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        answer.send(asyncio.run(open_it(url)))
    except BusError as error:
        answer.send(error.message)


async def hold(url: str) -> None:
    """Open the log for writing, say so, and keep it until standard input ends."""
    async with open_log(url):
        say("open")
        await asyncio.to_thread(sys.stdin.read)


async def append_some(url: str, count_text: str) -> None:
    """Append that many events one by one, printing the position of each."""
    async with open_log(url) as log:
        for n in range(int(count_text)):
            [receipt] = await log.append([event("other.process", {"n": n})])
            say(receipt.position)


async def fill(url: str, limit_bytes: str) -> None:
    """Append until the system refuses to let any file grow beyond `limit_bytes`."""
    # Without this the kernel would end the process instead of refusing the write.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), int(limit_bytes)))
    async with open_log(url) as log:
        await _append_until_refused(log)


async def lose_sync(url: str) -> None:
    """Append, let every sync of the disk fail from then on, append until refused."""
    async with open_log(url) as log:
        for _ in range(5):
            await _append_one(log)
        fail_every_sync()
        await _append_until_refused(log)


async def _append_until_refused(log: EventLog) -> None:
    with suppress(LogReadOnlyError):
        while True:
            await _append_one(log)
    head = await log.head()
    verification = await log.verify(expected=head)
    try:
        await _append_one(log)
    except BusError as error:
        say("refused", type(error).__name__, error)
    say("readable", verification.is_sound, head.position)


async def _append_one(log: EventLog) -> None:
    [receipt] = await log.append([event("load.one", "x" * 2000)])
    say("acknowledged", receipt.position)


def say(*words: object) -> None:
    """Write a line to whoever reads our standard output, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    commands = {f.__name__: f for f in (hold, append_some, fill, lose_sync)}
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))
