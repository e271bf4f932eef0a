"""Making the bus that a command's options name, and saying no where it cannot be of use."""

import getpass
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from hms_bus.bus import Bus
from hms_bus.cli.log.opening import configured
from hms_bus.config import BusConfig
from hms_bus.errors import UnsupportedError
from hms_bus.plugins import parse_address
from hms_bus.topics import overlaps, parse_pattern

OTHER_BUS = "choose a bus between processes, --bus ipc://agents"
"""The end of a hint to whoever has chosen a bus that stays within one process."""

_IN_PROCESS = "direct"
_WRAPPER = "faulty"  # faulty:URL leads where URL leads


def load(settings: Mapping[str, Any], config: str | None) -> BusConfig:
    """Return the configuration: options, environment, file, defaults.

    The sender is `/cli/USER` unless it is configured; the log may be named by its path. Raises
    `ConfigError`, also for URLs and a codec of which no bus can be made.
    """
    loaded = configured(config, **settings)
    make_bus(loaded)  # finds what is wrong with the URLs, before they are taken to lead nowhere
    return loaded if loaded.source else replace(loaded, source=f"/cli/{quote(_user())}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def make_bus(config: BusConfig) -> Bus:
    """Return the bus, not opened. Raises `ConfigError`."""
    return Bus(config=config)


def require_others(config: BusConfig, pattern: str, what: str, *, instead: str) -> None:
    """Raise `UnsupportedError` when messages on `pattern` cannot leave this process.

    `what` needs other processes; `instead` is what the user may do on this bus.
    """
    if not leaves_process(config, pattern):
        raise UnsupportedError(
            f"{what} another process", f"{config.url} (which stays within one process)", instead
        )


def leaves_process(config: BusConfig, pattern: str) -> bool:
    """Whether some topic of `pattern` travels over a transport that others can join."""
    tokens = parse_pattern(pattern).tokens
    urls = [url for route, url in config.routes.items() if _meet(route, tokens)]
    return any(_scheme(url) != _IN_PROCESS for url in (*urls, config.url))


def _scheme(url: str) -> str:
    """Return the scheme of the transport itself, behind what may be wrapped around it."""
    scheme = parse_address(url).scheme
    return _scheme(url.partition(":")[2]) if scheme == _WRAPPER else scheme


def _meet(route: str, tokens: tuple[str, ...]) -> bool:
    return overlaps(parse_pattern(route).tokens, tokens)
