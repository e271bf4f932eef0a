"""`hms-bus replay`: the options, and what becomes of them."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hms_bus.abc import Selector
from hms_bus.cli.commands import command
from hms_bus.cli.endings import DISCARDED, OK
from hms_bus.cli.log.opening import reading_url
from hms_bus.cli.options import LOG, MOMENT, RANGE, Bounds, Parsed
from hms_bus.cli.replay.breaking import parse_break
from hms_bus.cli.replay.building import load_build
from hms_bus.cli.replay.damage import left_out
from hms_bus.cli.replay.playing import Playing, Wishes
from hms_bus.cli.replay.sending import Sent, send
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.errors import LogCorruptError, LogError, UsageError
from hms_bus.replay.describing import amount
from hms_bus.replay.paths import parse_ignored
from hms_bus.replay.settings import ReplaySettings, parse_rate, parse_remap
from hms_bus.replay.writing import check_capture

_NEEDS = {
    **dict.fromkeys(
        ("effects", "wants_diff", "is_paused", "expression", "loops", "capture"), "--into"
    ),
    **dict.fromkeys(("ignored", "count"), "--diff"),
    "force": "--capture",
    "requests": "--to",
}
"""Which option is of use only with which other one."""


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
        2: "the command line is wrong, the log cannot be opened, or nothing was played or compared",
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
    "-n",
    "--count",
    type=click.IntRange(0),
    default=20,
    help="With --diff: list so many in each part; 0: all. [default: 20]",
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
@click.option("--force", is_flag=True, help="Replace the file of --capture if it exists.")
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
    force: bool,
    requests: bool,
    expression: str | None,
    **wishes: Any,
) -> int | None:
    """Let agents handle the log RUN again, and see what they say now.

    Nothing leaves the process: what they say is captured, their requests are answered from the
    record. On a terminal space pauses, → plays the next record, ↑ and ↓ change the speed, q ends;
    elsewhere a line is printed for each record (`in`) and each output (`out`), with --diff only
    what differs, with --capture none. EXPR is Python, of topic, type, source, id, position, corr,
    cause and data.

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
    _check_options(into=into, url=url)
    if url is not None:
        return _publish(settings, url, wants_requests=requests)
    if capture is not None:
        check_capture(capture, settings.log)
    if capture is not None and capture.exists() and not force:
        raise UsageError(f"{capture} exists: choose another name, or --force replaces it")
    parse_ignored(wishes["ignored"])
    asked = Wishes(
        run_log=run_log,
        into=str(into),
        build=load_build(str(into)),
        capture=capture,
        breaks=parse_break(expression),
        **wishes,
    )
    return run(Playing(settings, asked).run)


def _check_options(*, into: str | None, url: str | None) -> None:
    """Refuse what would have no effect."""
    if into is not None and url is not None:
        raise UsageError("not both --into and --to: agents replay the log, or a bus is given it")
    if into is None and url is None:
        raise UsageError("name the agents with --into module:function, or a bus with --to URL")
    context = click.get_current_context()
    given = {
        str(option.name): max(option.opts, key=len)
        for option in context.command.params
        if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    }
    for name, flag in given.items():
        needed = _NEEDS.get(name)
        if needed is not None and needed not in given.values():
            target = "--into" if url is None else "--to"
            instead = f", not with {target}" if needed in {"--into", "--to"} else ""
            raise UsageError(f"{flag} is of use with {needed}{instead}")


def _publish(settings: ReplaySettings, url: str, *, wants_requests: bool) -> int:
    try:
        sent = run(lambda: send(settings, url, wants_requests=wants_requests))
    except LogError as error:
        raise UsageError(str(error)) from error
    note(", ".join(_told(sent)))
    if isinstance(sent.failure, LogCorruptError):
        note(left_out(sent.failure))
        return DISCARDED
    if sent.failure is not None:
        raise sent.failure
    return OK


def _told(sent: Sent) -> Generator[str]:
    yield f"published {amount(sent.events, 'event')}"
    if sent.duplicates:
        yield f"{sent.duplicates} {'was' if sent.duplicates == 1 else 'were'} there already"
    if sent.requests:
        yield f"asked {amount(sent.requests, 'request')}"
    if sent.left_out:
        yield f"left out {amount(sent.left_out, 'request')} (--requests sends them, too)"
