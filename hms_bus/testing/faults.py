"""Which faults a line has, and how its URL says so: `faulty:URL?drop=0.1&seed=7`."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from hms_bus.durations import parse_duration
from hms_bus.errors import ConfigError
from hms_bus.plugins import Address


class Faults(Struct, frozen=True, kw_only=True):
    """How faulty a line is. Shares are 0 to 1, `delay_s` is seconds, `cut_after` envelopes."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0
    cut_after: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "reorder"):
            share: float = getattr(self, name)
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} is {share}: it is a share, 0 to 1")


OPTIONS = ("drop", "duplicate", "reorder", "delay", "cut", "seed")
"""The options of a URL that name faults; others are those of the transport behind."""


class FaultyAddress(Struct, frozen=True, kw_only=True):
    """What `faulty:URL` says: the faults, as values and as they are written, and the URL behind."""

    faults: Faults
    written: Sequence[str]
    behind: str

    def around(self, url: str) -> str:
        """Return the URL of the transport at `url` with the same faults."""
        return f"faulty:{_with_options(url, self.written)}"


def parse_faulty(address: Address) -> FaultyAddress:
    """Read `faulty:URL`. Raises `ConfigError` for a fault whose value is none."""
    _, _, whole = address.url.partition(":")
    url, _, query = whole.partition("?")
    if not url:
        raise ConfigError(
            f"{address.shown_url!r}: no transport stands behind: write faulty:direct://"
        )
    parts = [part for part in query.split("&") if part]
    written = [part for part in parts if part.partition("=")[0] in OPTIONS]
    given = [part.partition("=")[0] for part in written]
    if doubles := [name for name in OPTIONS if given.count(name) > 1]:
        raise ConfigError(f"{address.shown_url!r}: {doubles[0]} is given more than once")
    try:
        faults = _read_faults(address.options)
    except ConfigError as error:
        raise ConfigError(f"{address.shown_url!r}: {error}") from error
    behind = _with_options(url, [part for part in parts if part not in written])
    return FaultyAddress(faults=faults, written=written, behind=behind)


def _with_options(url: str, options: Sequence[str]) -> str:
    mark = "&" if "?" in url else "?"
    return f"{url}{mark}{'&'.join(options)}" if options else url


def _read_faults(options: Mapping[str, str]) -> Faults:
    return Faults(
        drop=_number(options, "drop"),
        duplicate=_number(options, "duplicate"),
        reorder=_number(options, "reorder"),
        delay_s=parse_duration(options.get("delay", 0)),
        cut_after=_count(options, "cut") if "cut" in options else None,
        seed=_count(options, "seed"),
    )


def _number(options: Mapping[str, str], name: str) -> float:
    text = options.get(name, "0")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}: it is a share, 0 to 1") from None


def _count(options: Mapping[str, str], name: str) -> int:
    text = options.get(name, "0")
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name} is {text!r}: it is a whole number from 0")
    return int(text)
