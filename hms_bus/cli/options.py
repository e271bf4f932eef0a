"""Options that several commands have, and the types of their values."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from click.shell_completion import CompletionItem

from hms_bus.abc import Selector
from hms_bus.cli.bodies import KINDS
from hms_bus.durations import parse_duration, parse_moment
from hms_bus.errors import BusError, ConfigError
from hms_bus.topics import check_topic, parse_pattern

AnyFunction = Callable[..., Any]
Bounds = tuple[int | None, int | None]

_RANGE = re.compile(r"(\d*)\.\.(\d*)|(\d+)")


class Parsed(click.ParamType[Any]):
    """A value that one of the bus's own functions parses; what it raises is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the function makes of the text."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except BusError as error:
            self.fail(error.message, param, ctx)


def parse_range(text: str) -> Bounds:
    """Return the inclusive bounds of `100..200`, `100..`, `..200` or `100`."""
    match = _RANGE.fullmatch(text)
    if match is None or text == "..":
        raise click.BadParameter(f"{text!r} is no range: write 100..200, 100.., ..200 or 100")
    first, last = (
        int(part) if part else None for part in (match[1] or match[3], match[2] or match[3])
    )
    if 0 in (first, last):
        raise click.BadParameter(f"{text!r} names a position before the first one, 1")
    if first is not None and last is not None and first > last:
        raise click.BadParameter(f"{text!r} ends before it begins: write the smaller one first")
    return first, last


class LogName(click.ParamType[str]):
    """A log: the path of a file (completed by the shell), or a URL."""

    name = "log"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete a path."""
        del ctx, param
        return [CompletionItem(incomplete, type="file")]


def parse_time_or_age(text: str) -> int:
    """Return nanoseconds since 1970 of a time, or of a duration before now."""
    try:
        return parse_moment(text)
    except ConfigError as error:
        raise ConfigError(f"{error.message}; or a time, 2026-01-31T12:00:00Z") from error


DURATION = Parsed("duration", parse_duration)
MOMENT = Parsed("time", parse_time_or_age)
RANGE = Parsed("range", parse_range)
TOPIC = Parsed("topic", check_topic)
PATTERN = Parsed("pattern", lambda text: parse_pattern(text).text)
LOG = LogName()

kind_option = click.option(
    "--as",
    "kind",
    type=click.Choice(KINDS),
    default="auto",
    help="What BODY is; `auto` looks at it. [default: auto]",
)
template_option = click.option(
    "-t", "--template", is_flag=True, help="Fill {{count}} {{time}} {{unix}} {{id}} {{random}}."
)
header_option = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute or extension; NAME:=VALUE for a number, true or false. Repeatable.",
)
log_argument = click.argument("log", type=LOG, required=False)


def format_option(*forms: str) -> Callable[[AnyFunction], AnyFunction]:
    """Add `--format`, the first of `forms` being the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        help=f"How to print. [default: {forms[0]}]",
    )


def bus_options(function: AnyFunction) -> AnyFunction:
    """Add the options that choose a bus; the function gets them as `settings`, a mapping."""

    @wraps(function)
    def gathered(
        *args: Any,
        url: str | None,
        codec: str | None,
        bus_log: str | None,
        source: str | None,
        config: str | None,
        **others: Any,
    ) -> Any:
        chosen = {"url": url, "codec": codec, "log": bus_log, "source": source}
        settings = {name: value for name, value in chosen.items() if value is not None}
        return function(*args, settings=settings, config=config, **others)

    for option in (
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            help="Configuration file. [env: HMS_BUS_CONFIG; default: hms-bus.toml if it exists]",
        ),
        click.option("--source", help="Who sends. [env: HMS_BUS_SOURCE]"),
        click.option(
            "--log",
            "bus_log",
            type=LOG,
            help="Log of the bus, a file or URL: run.db. [env: HMS_BUS_LOG]",
        ),
        click.option(
            "--codec", help="How envelopes travel: json, cbor, protobuf. [env: HMS_BUS_CODEC]"
        ),
        click.option(
            "--bus", "url", metavar="URL", help="The bus. [env: HMS_BUS_URL; default: direct://]"
        ),
    ):
        gathered = option(gathered)
    return gathered


def selector_options(function: AnyFunction) -> AnyFunction:
    """Add the options that select records; the function gets them as `selector`."""

    @wraps(function)
    def gathered(
        *args: Any,
        pattern: str | None,
        seq: Bounds,
        since: int | None,
        until: int | None,
        types: tuple[str, ...],
        corr: str | None,
        source: str | None,
        **others: Any,
    ) -> Any:
        selector = Selector(
            pattern=pattern,
            first=seq[0],
            last=seq[1],
            since_ns=since,
            until_ns=until,
            types=frozenset(types),
            correlation=corr,
            source=source,
        )
        return function(*args, selector=selector, **others)

    for option in (
        click.option("--source", help="Only what this agent sent."),
        click.option("--corr", metavar="ID", help="Only one conversation (correlationid)."),
        click.option("--type", "types", multiple=True, help="Only this event type; repeatable."),
        click.option(
            "--seq",
            type=RANGE,
            default=(None, None),
            metavar="RANGE",
            help="Only these positions: 100..200, 100.., ..200, 100.",
        ),
        click.option("--until", type=MOMENT, help="Only what was recorded until then."),
        click.option(
            "--since",
            type=MOMENT,
            help="Only what was recorded since: 1h, 30m, 2026-01-31T12:00:00Z.",
        ),
        click.option(
            "--topic", "pattern", type=PATTERN, help="Only topics that match: 'orders.>'."
        ),
    ):
        gathered = option(gathered)
    return gathered
