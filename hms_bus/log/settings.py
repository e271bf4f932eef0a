"""What the URL of a log file says: `sqlite:PATH?sync=full&readonly=false&busy=5`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from hms_bus.errors import ConfigError
from hms_bus.plugins import Address

MIN_BYTES = 65_536
"""The least that `max_bytes` may be: the empty tables take 28 KiB."""

Sync = Literal["normal", "full", "extra"]
_SWITCH = {"true": True, "1": True, "yes": True, "": True, "false": False, "0": False, "no": False}


class Settings(Struct, frozen=True, kw_only=True):
    """How to open a log file.

    `sync` is SQLite's synchronous level: with `full` an acknowledged event survives a power cut,
    with `normal` only the crash of the process. `busy_s` is how long to wait for another
    connection's transaction, `poll_s` how often a read-only log is asked for news, `max_bytes` the
    size that the file (without its WAL) does not outgrow, `checkpoint_pages` after how many pages
    of 4 KiB the WAL is copied into the file.
    """

    path: Path
    sync: Sync = "full"
    is_read_only: bool = False
    busy_s: float = 5.0
    poll_s: float = 0.05
    max_bytes: int | None = None
    checkpoint_pages: int = 4096


def parse_settings(address: Address) -> Settings:
    """Read the address of a log file. Raises `ConfigError`; looks at no file."""
    options = address.only("sync", "readonly", "busy", "poll", "max_bytes", "checkpoint")
    if address.path in {"", ":memory:"}:
        raise ConfigError(f"{address.url!r} names no file: write sqlite:PATH, or memory:")
    sync = options.get("sync", "full").lower()
    if sync not in ("normal", "full", "extra"):
        raise ConfigError(f"{address.url!r}: sync is normal, full or extra, not {sync!r}")
    return Settings(
        path=Path(address.path).expanduser(),
        sync=sync,
        is_read_only=_switch(address, options, "readonly"),
        busy_s=_number(address, options, "busy", 5.0),
        poll_s=_number(address, options, "poll", 0.05),
        max_bytes=_max_bytes(address, options),
        checkpoint_pages=int(_number(address, options, "checkpoint", 4096)),
    )


def _switch(address: Address, options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "false").lower()
    if text not in _SWITCH:
        raise ConfigError(f"{address.url!r}: {name} is true or false, not {text!r}")
    return _SWITCH[text]


def _max_bytes(address: Address, options: Mapping[str, str]) -> int | None:
    if "max_bytes" not in options:
        return None
    number = int(_number(address, options, "max_bytes", 0))
    if number < MIN_BYTES:
        raise ConfigError(f"{address.url!r}: max_bytes is at least {MIN_BYTES}, not {number}")
    return number


def _number(address: Address, options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise ConfigError(f"{address.url!r}: {name} is a number from 0, not {text!r}")
    return number
