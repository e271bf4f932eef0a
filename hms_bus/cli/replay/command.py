"""`hms-bus replay`: the options, and what becomes of them."""

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from hms_bus.abc import Selector
from hms_bus.cli.analysis.loading import load_function
from hms_bus.cli.colour import is_coloured
from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, NEGATIVE, OK
from hms_bus.cli.log.opening import reading_url
from hms_bus.cli.options import LOG, MOMENT, RANGE, Bounds, Parsed
from hms_bus.cli.replay.breaking import Break, parse_break
from hms_bus.cli.replay.plain import play_plain
from hms_bus.cli.replay.sending import send
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.envelope import Envelope
from hms_bus.errors import LogCorruptError, UsageError
from hms_bus.replay.comparing import compare
from hms_bus.replay.describing import describe
from hms_bus.replay.rerunning import Original, Rerun, open_rerun
from hms_bus.replay.settings import ReplaySettings, parse_rate, parse_remap
from hms_bus.replay.transport import capturing_to

_COLOURS = {"-": "red", "+": "green", "~": "yellow"}


class _Wishes(Struct, frozen=True, kw_only=True):
    """What was asked for besides the settings of the replay."""

    build: Callable[[str], Any]
    wants_diff: bool
    ignored: tuple[str, ...]
    is_paused: bool
    breaks: Break | None
    loops: bool


@command(
    "replay",
    examples="""
    hms-bus replay run.db --into shop:build
    hms-bus replay run.db --into shop:build --diff --ignore '$.ts'
    hms-bus replay run.db --into shop:build --only billing -p --break 'data["total"] > 100'
    hms-bus replay run.db --into shop:build --effects strict --capture now.jsonl
    hms-bus replay run.db --to ipc://staging -r 10
    """,
    endings={
        0: "it worked; with --diff: the agents say what they said",
        1: "with --diff: they say something else; with --effects strict: they asked for more",
        3: "a record could not be read; what lies behind it was left out",
    },
)
@click.argument("run_log", metavar="RUN", type=LOG)
@click.option(
    "--into",
    metavar="MODULE:FUNCTION",
    help="Makes the agents: it is given the URL of their bus, and returns a Bus or several.",
)
@click.option("--to", "url", metavar="URL", help="Publish the events on this bus instead.")
@click.option("--only", multiple=True, metavar="AGENT", help="Only these agents; repeatable.")
@click.option(
    "--effects",
    type=click.Choice(("recorded", "strict", "live")),
    default="recorded",
    help="Answers to requests and effects: those of the record, and what it lacks live; those of "
    "the record only; live ones. [default: recorded]",
)
@click.option("--diff", "wants_diff", is_flag=True, help="Compare with what was recorded.")
@click.option(
    "--ignore", "ignored", multiple=True, metavar="PATH", help="Leave this out: $.ts; repeatable."
)
@click.option(
    "-r",
    "--rate",
    type=Parsed("rate", parse_rate),
    default="max",
    help="Speed: 1 as recorded, 10, max. [default: max]",
)
@click.option("-p", "--pause", "is_paused", is_flag=True, help="Begin with a pause.")
@click.option("--break", "expression", metavar="EXPR", help="Pause before such a record.")
@click.option(
    "--remap", multiple=True, metavar="OLD:=NEW", help="Rename a topic or agent; repeatable."
)
@click.option("--since", type=MOMENT, help="Only what was recorded since: 1h, 2026-01-31T12:00Z.")
@click.option("--until", type=MOMENT, help="Only what was recorded until then.")
@click.option(
    "--seq", type=RANGE, default=(None, None), metavar="RANGE", help="Only these positions: 1..99."
)
@click.option("--corr", metavar="ID", help="Only one conversation (correlationid).")
@click.option("--loop", "loops", is_flag=True, help="Begin anew at the end, with new agents.")
@click.option(
    "--capture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what the agents say to this file, a CloudEvent in JSON per line.",
)
@click.option("--requests", is_flag=True, help="With --to: send requests, too.")
def replay(
    *,
    run_log: str,
    into: str | None,
    url: str | None,
    only: tuple[str, ...],
    effects: Any,
    rate: float | None,
    remap: tuple[str, ...],
    since: int | None,
    until: int | None,
    seq: Bounds,
    corr: str | None,
    capture: Path | None,
    requests: bool,
    expression: str | None,
    **wishes: Any,
) -> int | None:
    """Let agents handle the log RUN again, and see what they say now.

    Nothing leaves the process: what they say is captured, their requests are answered from the
    record. On a terminal space pauses, → plays the next record, ↑ and ↓ change the speed, q ends;
    elsewhere a line is printed for each record (`in`) and each output (`out`), with --diff only
    what differs. EXPR is Python, of topic, type, source, id, position, corr, cause and data.

    With --to the events go to a live bus, marked by the extension `replayed`.
    """
    settings = ReplaySettings(
        log=reading_url(run_log),
        selector=Selector(
            first=seq[0], last=seq[1], since_ns=since, until_ns=until, correlation=corr
        ),
        only=frozenset(only),
        effects=effects,
        rate=rate,
        remap=parse_remap(list(remap)),
    )
    if (into is None) == (url is None):
        raise UsageError("name the agents with --into module:function, or a bus with --to URL")
    if url is not None:
        return _publish(settings, url, wants_requests=requests)
    asked = _Wishes(build=load_function(str(into)), breaks=parse_break(expression), **wishes)
    return run(lambda: _rerun(settings, asked, capture))


def _publish(settings: ReplaySettings, url: str, *, wants_requests: bool) -> None:
    sent = run(lambda: send(settings, url, wants_requests=wants_requests))
    note(f"published {sent.events} events; {sent.duplicates} were there; {sent.requests} requests")


async def _rerun(settings: ReplaySettings, wishes: _Wishes, capture: Path | None) -> int:
    async with AsyncExitStack() as stack:
        write = None
        if capture is not None:
            write = await stack.enter_async_context(capturing_to(capture))
        while True:
            status = await _pass(settings, wishes, write)
            if status is not None:
                return status


async def _pass(
    settings: ReplaySettings, wishes: _Wishes, write: Callable[[Envelope], None] | None
) -> int | None:
    """Replay once; return the exit status, `None` when it is to be repeated."""
    said: list[Envelope] = []
    async with open_rerun(settings, wishes.build) as rerun:
        original = Original(rerun) if wishes.wants_diff else None

        def keep(envelope: Envelope) -> None:
            if original is not None:
                said.append(envelope)
            if write is not None:
                write(envelope)

        rerun.on_output = keep
        try:
            has_ended = await _play(rerun, wishes)
            await rerun.stage.pass_rest(settings.ahead if original is not None else 0)
        except LogCorruptError as error:
            note(f"{error}; what lies behind it was left out")
            return DISCARDED
        _sum_up(rerun)
        if wishes.loops and not has_ended:
            return None
        return OK if original is None else _show_diff(original.outputs, said, wishes.ignored)


async def _play(rerun: Rerun, wishes: _Wishes) -> bool:
    """Play the record where it can be seen; return whether the user has ended it."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from hms_bus.cli.replay.live import play_live  # noqa: PLC0415 - only a terminal needs it

        return await play_live(rerun, is_paused=wishes.is_paused, breaks=wishes.breaks)
    return await play_plain(rerun, breaks=wishes.breaks, shows=not wishes.wants_diff)


def _sum_up(rerun: Rerun) -> None:
    stage = rerun.stage
    facts = [f"{stage.played} records handled", f"{stage.capture.count} outputs"]
    if rerun.unrecorded:
        lacking, first = len(rerun.unrecorded), rerun.unrecorded[0]
        facts.append(f"{lacking} answers not in the record (first: {first.what} of {first.agent})")
    if rerun.failed:
        facts.append(f"{rerun.failed} handlers failed")
    note(", ".join(facts))


def _show_diff(recorded: list[Envelope], said: list[Envelope], ignored: tuple[str, ...]) -> int:
    comparison = compare(recorded, said, ignore=ignored)
    for line in describe(comparison, names=("recorded", "now"), limit=_SHOWN).splitlines():
        coloured = is_coloured(sys.stdout) and line[:1] in _COLOURS
        click.echo(click.style(line, fg=_COLOURS[line[0]]) if coloured else line)
    return OK if comparison.is_same else NEGATIVE


_SHOWN = 20
