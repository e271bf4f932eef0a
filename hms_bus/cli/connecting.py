"""Making the bus that a command's options name, and saying no where it cannot be of use."""

import getpass
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from hms_bus.bus import Bus
from hms_bus.config import BusConfig, load_config
from hms_bus.errors import UnsupportedError
from hms_bus.plugins import names, parse_address
from hms_bus.topics import overlaps, parse_pattern

_IN_PROCESS = "direct"


def load(settings: Mapping[str, Any], config: str | None) -> BusConfig:
    """Return the configuration: options, environment, file, defaults. Raises `ConfigError`.

    The sender is `/cli/USER` unless it is configured.
    """
    loaded = load_config(config, **settings)
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
    return any(parse_address(url).scheme != _IN_PROCESS for url in (*urls, config.url))


def _meet(route: str, tokens: tuple[str, ...]) -> bool:
    return overlaps(parse_pattern(route).tokens, tokens)


def other_transports() -> str:
    """Return how to name a bus that other processes can join, for the end of a hint."""
    schemes = [f"{name}://…" for name in names("transports") if name != _IN_PROCESS]
    if not schemes:
        return "no transport between processes is installed"
    return f"choose a bus between processes, --bus {' or '.join(schemes)}"
