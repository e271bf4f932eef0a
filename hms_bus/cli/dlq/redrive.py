"""`hms-bus dlq redrive`."""

from collections.abc import Sequence

import click
from msgspec import Struct

from hms_bus.abc import ConsumingLog, DurableInfo
from hms_bus.cli.commands import command
from hms_bus.cli.dlq.letters import open_letters
from hms_bus.cli.durable.confirming import is_confirmed, yes_option
from hms_bus.cli.durable.place import Place, open_place, place_options, read_info
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.running import run
from hms_bus.cli.screen import note, progress
from hms_bus.errors import UsageError

_AT_ONCE = 100_000
"""Positions in one question to a hub, which takes frames up to a limit: 2 MB, the default is 16."""


class _Choice(Struct, frozen=True, kw_only=True):
    """Which dead letters: all, those of some codes, or those at some positions."""

    everything: bool
    codes: frozenset[str]
    positions: frozenset[int]

    @property
    def kinds(self) -> int:
        """How many ways of choosing were used."""
        return self.everything + bool(self.codes) + bool(self.positions)


@command(
    "redrive",
    examples="""
    hms-bus dlq redrive billing run.db --position 4 --position 9
    hms-bus dlq redrive billing --bus ipc://agents --code UNAVAILABLE
    hms-bus dlq redrive billing run.db --all --yes
    """,
    endings={1: "another process is writing the log, or the answer was no"},
)
@click.argument("name")
@place_options
@click.option(
    "--position",
    "positions",
    type=click.IntRange(1),
    multiple=True,
    help="The record at this position, not the letter's; repeatable.",
)
@click.option("--code", "codes", multiple=True, help="What died with this code; repeatable.")
@click.option("--all", "everything", is_flag=True, help="All that is dead.")
@yes_option
def redrive(
    *,
    name: str,
    place: Place,
    positions: tuple[int, ...],
    codes: tuple[str, ...],
    everything: bool,
    yes: bool,
) -> int:
    """Let dead letters be delivered to the durable NAME again, as if for the first time.

    It is asked for confirmation, with their number. The letters stay in the log.
    """
    choice = _Choice(
        everything=everything,
        codes=frozenset(code.upper() for code in codes),
        positions=frozenset(positions),
    )
    if choice.kinds != 1:
        raise UsageError("which dead letters? write one of --position N, --code CODE, --all")

    async def look() -> tuple[list[int], int | None]:
        async with open_place(place) as log:
            info, consumers = await read_info(place, log, name)
            return await _chosen(log, info, choice), consumers

    chosen, consumers = run(look)
    if not chosen:
        note(f"no open dead letters of {name}{' with that code' if codes else ''}: nothing to do")
        return OK
    if not is_confirmed(f"deliver {_many(len(chosen))} of {name} again", yes=yes):
        note("nothing was redriven")
        return NEGATIVE
    run(lambda: _redrive(place, name, chosen))
    click.echo(f"redriven {_many(len(chosen))} of {name}")
    if consumers == 0:
        note(f"{name} has no consumer now: they are delivered to the next one")
    return OK


async def _chosen(log: ConsumingLog, info: DurableInfo, choice: _Choice) -> list[int]:
    """Return the positions that are chosen, in order. Raises `UsageError` for one not dead."""
    if choice.everything:
        return list(info.dead)
    if choice.codes:
        opened = await open_letters(log, [info])
        return sorted(
            each.position
            for each in opened
            if each.letter and each.letter.dead.code in choice.codes
        )
    alive = choice.positions.difference(info.dead)
    if alive:
        raise UsageError(
            f"position {min(alive)} is no open dead letter of {info.durable.name}: write that of "
            "an original, the third column of `hms-bus dlq ls`"
        )
    return sorted(choice.positions)


async def _redrive(place: Place, name: str, positions: Sequence[int]) -> None:
    total = len(positions)
    async with open_place(place, writes=True) as log:
        with progress("redriving", "dead letters") as advance:
            for start in range(0, total, _AT_ONCE):
                await log.redrive(name, positions[start : start + _AT_ONCE])
                advance(min(start + _AT_ONCE, total), total)


def _many(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"
