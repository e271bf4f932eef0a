"""Ctrl-C and SIGTERM in a real process under load: what was accepted is durable and handled."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from hms_bus import Bus, Selector

ROOT = Path(__file__).parents[3]


async def run_and_stop(mode: str, log: Path, number: signal.Signals) -> list[str]:
    """Start the program, send it `number` under load and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.bus_under_load", mode, f"sqlite:{log}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdout is not None
    lines: list[str] = []
    async for line in process.stdout:
        lines.append(line.decode().rstrip())
        if len(lines) == 500:
            process.send_signal(number)
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return lines


def names(lines: list[str], what: str) -> list[str]:
    return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]


@pytest.mark.parametrize(
    ("mode", "number"),
    [("main", signal.SIGINT), ("run", signal.SIGINT), ("run", signal.SIGTERM)],
    ids=["main-SIGINT", "run-SIGINT", "run-SIGTERM"],
)
async def test_nothing_that_was_accepted_is_lost(
    tmp_path: Path, mode: str, number: signal.Signals
) -> None:
    lines = await run_and_stop(mode, tmp_path / "run.db", number)
    accepted, handled = names(lines, "accepted"), names(lines, "handled")
    assert lines[0] == "ready"
    assert lines[-1] == "closed"
    assert len(accepted) > 100
    assert set(accepted) <= set(handled)
    assert max(Counter(handled).values()) == 1
    async with Bus(log=f"sqlite:{tmp_path / 'run.db'}") as bus:
        recorded = [record.envelope.decode(str) async for record in bus.log.read(Selector())]
        assert (await bus.log.verify()).is_sound
    assert set(recorded) == set(handled), "what is durable was handled, and nothing else was"
    for producer in range(8):
        of_one = [name for name in recorded if name.startswith(f"{producer}.")]
        assert of_one == [f"{producer}.{n}" for n in range(len(of_one))]
