"""What a `replay://` URL says: which record, which part of it, how it is played."""

import re
from collections.abc import Mapping
from typing import Literal, cast, get_args
from urllib.parse import quote

from msgspec import Struct

from hms_bus.abc import Selector
from hms_bus.durations import parse_moment
from hms_bus.errors import ConfigError
from hms_bus.plugins import Address, parse_address

Effects = Literal["recorded", "strict", "live"]
"""Where answers come from: the record and, what it lacks, live; the record only; live only."""

_OPTIONS = (
    *("since", "until", "first", "last", "corr"),
    *("only", "effects", "rate", "remap", "ahead", "capture", "stage"),
)
# Two letters at least: one is a drive.
_LOG_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class ReplaySettings(Struct, frozen=True, kw_only=True):
    """How a record is replayed.

    `log` is the URL of the record, `selector` what is played of it (bounds and `correlation`).
    `only` names the agents that take part, by source or its last part; empty: all. `rate` is the
    speed, 1.0 as it was recorded, `None` as fast as it goes. `remap` renames topics and sources of
    the record. `ahead` bounds how many records are read ahead to find an answer. `capture` is the
    file that outputs are written to.
    """

    log: str
    selector: Selector = Selector()
    only: frozenset[str] = frozenset()
    effects: Effects = "recorded"
    rate: float | None = None
    remap: Mapping[str, str] = {}
    ahead: int = 65_536
    capture: str | None = None


def parse_settings(address: Address) -> ReplaySettings:
    """Read `replay://PATH-OR-LOG-URL?option=…`. Raises `ConfigError`."""
    options = address.only(*_OPTIONS)
    if not address.path:
        raise ConfigError(f"{address.bare_url!r} names no record: replay://run.db")
    return ReplaySettings(
        log=record_url(address.path),
        selector=Selector(
            first=_count(options, "first"),
            last=_count(options, "last"),
            since_ns=_moment(options, "since"),
            until_ns=_moment(options, "until"),
            correlation=options.get("corr") or None,
        ),
        only=names(options.get("only", "")),
        effects=check_effects(options.get("effects", "recorded")),
        rate=parse_rate(options.get("rate", "max")),
        remap=parse_remap(options.get("remap", "").split(",")),
        ahead=_count(options, "ahead") or 65_536,
        capture=options.get("capture"),
    )


def record_url(name: str) -> str:
    """Return the URL that opens the record `name`, a file or a log's URL, for reading only."""
    url = name if _LOG_URL.match(name) else f"sqlite:{quote(name)}"
    address = parse_address(url)
    if address.scheme != "sqlite" or "readonly" in address.options:
        return url
    return f"{url}{'&' if address.options else '?'}readonly=true"


def names(text: str) -> frozenset[str]:
    """Return the names in a list with commas."""
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


def check_effects(mode: str) -> Effects:
    """Return `mode`. Raises `ConfigError` for what is none."""
    if mode not in get_args(Effects):
        raise ConfigError(f"effects={mode!r}: known are {', '.join(get_args(Effects))}")
    return cast("Effects", mode)


def parse_rate(text: str) -> float | None:
    """Return a speed, 2.0 for `2` or `2x`; `None` for `max`. Raises `ConfigError`."""
    if text == "max":
        return None
    try:
        rate = float(text.removesuffix("x"))
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ConfigError(f"rate={text!r}: give a number above 0 (1 is as recorded), or max")
    return rate


def parse_remap(pairs: list[str]) -> dict[str, str]:
    """Return what `old:=new` pairs say. Raises `ConfigError` for what is no pair."""
    renamed: dict[str, str] = {}
    for pair in filter(None, pairs):
        old, mark, new = pair.partition(":=")
        if not (old and mark and new):
            raise ConfigError(f"{pair!r} renames nothing: write old:=new")
        renamed[old] = new
    return renamed


def _count(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ConfigError(f"{name}={text!r}: give a whole number from 1")
    return int(text)


def _moment(options: Mapping[str, str], name: str) -> int | None:
    text = options.get(name)
    return parse_moment(text) if text else None
