"""A writer that is killed under load loses nothing that it has acknowledged."""

import multiprocessing
import os
import random
from pathlib import Path

import pytest

from hms_bus.abc import Head, Selector
from hms_bus.plugins import open_log
from tests.support.log_programs import write_until_killed

ROUNDS = 50
# Many checkpoints, so that kills fall into them too.
OPTIONS = "?checkpoint=8"


def kill_under_load(url: str, acknowledgements: int) -> dict[int, str]:
    """Let a process write, kill it after so many acknowledgements, return all that arrived."""
    # Forked from a process that has imported everything: 50 rounds take seconds, not minutes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([write_until_killed.__module__, "hms_bus.log.sqlite"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(url, theirs))
    process.start()
    theirs.close()
    received = b""
    with ours:
        while chunk := os.read(ours.fileno(), 65536):
            received += chunk
            if received.count(b"\n") >= acknowledgements:
                process.kill()
    process.join()
    assert process.exitcode == -9
    whole_lines = received.decode().split("\n")[:-1]
    return {int(position): id_ for position, id_ in map(str.split, whole_lines)}


@pytest.mark.timeout(240)
async def test_nothing_acknowledged_is_lost_by_50_kills_under_load(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'events.db'}"
    kept_head = Head(position=0, hash=bytes(32), recorded_ns=0)
    acknowledged: dict[int, str] = {}
    for _ in range(ROUNDS):
        new = kill_under_load(url + OPTIONS, random.randint(1, 120))
        acknowledged |= new
        async with open_log(url) as log:
            verification = await log.verify(expected=kept_head)
            found = {
                record.position: record.envelope.id
                async for record in log.read(Selector(first=kept_head.position + 1))
            }
            kept_head = await log.head()
        assert verification.problem is None
        assert new.items() <= found.items()
        assert list(found) == list(
            range(kept_head.position - len(found) + 1, kept_head.position + 1)
        )
    assert kept_head.position >= len(acknowledged) > ROUNDS
