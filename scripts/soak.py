"""Kills, stops and pesters hubs and buses, as the tests do, for as long as it is told to.

    make soak SECONDS=600
    python -m scripts.soak --seconds 600 --seed 7 --durable

Each round has a number, from which all that happens by chance follows: a run of faults under load,
durable work whose consumers, writer and hub are killed, a storm of garbage on a hub, and a bus at a
hub that talks nonsense. With --durable there is only the durable work. The first round that fails
ends it with status 1.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from hms_bus.ipc.places import find_place
from tests.support.busy_bus import outlive_nonsense
from tests.support.durable_run import Where, run_durable
from tests.support.fault_run import run_faults
from tests.support.hub_places import runtime_folder
from tests.support.hub_process import HubProcess, running_hub
from tests.support.troublemakers import storm
from tests.support.witness import witness_at

TURNS = 60
TROUBLEMAKERS = 2000
CONNECTIONS = 20
WORK_S = 10


def main() -> int:
    """Run rounds until the time is up; return the exit code."""
    # Who is killed and pestered has much to say.
    logging.disable(logging.CRITICAL)
    arguments = _parser().parse_args()
    ends = time.monotonic() + arguments.seconds
    for number in count(arguments.seed):
        try:
            _run_durable(number)
            if not arguments.durable:
                _run_round(number)
        except Exception:  # noqa: BLE001 - it is told, and ends the program
            traceback.print_exc()
            which = " --durable" if arguments.durable else ""
            print(f"round {number} has failed: python -m scripts.soak --seed {number}{which}")
            return 1
        if time.monotonic() > ends:
            return 0
    return 0


def _run_durable(seed: int) -> None:
    places: tuple[Where, ...] = ("direct", "ipc")
    for where in places:
        with runtime_folder(), tempfile.TemporaryDirectory() as folder:
            outcome = run_durable(Path(folder), seed, where, seconds=WORK_S)
        print(
            f"round {seed}: durable on {where}: {outcome.acknowledged} acknowledged, "
            f"{outcome.handled} handled ({_told(outcome.done)})",
            flush=True,
        )


def _run_round(seed: int) -> None:
    began = time.monotonic()
    with runtime_folder(), tempfile.TemporaryDirectory() as folder:
        outcome = run_faults(Path(folder), seed, turns=TURNS)
    with runtime_folder() as runtime, running_hub("--log", f"sqlite:{runtime}/events.db") as hub:
        answered = asyncio.run(_make_trouble(hub, seed))
    with runtime_folder() as runtime:
        runtime.mkdir(mode=0o700)
        asyncio.run(outlive_nonsense(find_place("test"), seed, CONNECTIONS, None))
    print(
        f"round {seed}: {outcome.acknowledged} acknowledged ({_told(outcome.done)}; "
        f"{outcome.hub_growth / 2**20:+.1f} MiB), {answered} answered among {TROUBLEMAKERS} "
        f"troublemakers, {CONNECTIONS} times nonsense; {time.monotonic() - began:.1f} s",
        flush=True,
    )


def _told(done: Mapping[str, int]) -> str:
    return ", ".join(f"{deed} {often}" for deed, often in sorted(done.items()))


async def _make_trouble(hub: HubProcess, seed: int) -> int:
    async with witness_at(hub.url) as witness:
        await storm(hub.place.socket, str(seed), TROUBLEMAKERS)
    return witness.count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long, at least one round")
    parser.add_argument("--seed", type=int, default=1, help="the number of the first round")
    parser.add_argument("--durable", action="store_true", help="durable work only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
