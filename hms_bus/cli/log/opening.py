"""From the name of a log on the command line to the open log."""

import os
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hms_bus.abc import EventLog
from hms_bus.config import ENVIRONMENT_PREFIX, BusConfig, load_config
from hms_bus.errors import UsageError
from hms_bus.plugins import open_log, parse_address

# Two letters at least: one is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_VARIABLE = f"{ENVIRONMENT_PREFIX}LOG"


def configured(config: str | None = None, **settings: Any) -> BusConfig:
    """Return the configuration, in which the log may be named by its path, too.

    `settings` are those of the command line. Raises `ConfigError`.
    """
    environment = dict(os.environ)
    for place, name in ((environment, _VARIABLE), (settings, "log")):
        if place.get(name):
            place[name] = to_url(place[name])
    return load_config(config, environment=environment, **settings)


def log_url(name: str | None) -> str:
    """Return the URL of the log `name`, a path or URL; without one, of the configured log.

    Raises `UsageError` when there is none, or when it exists in its own process only.
    """
    name = name or configured().log
    if name is None:
        raise UsageError(
            "no log is named: write its file (hms-bus log ls run.db), set HMS_BUS_LOG, or put "
            'log = "sqlite:run.db" into hms-bus.toml'
        )
    url = to_url(name)
    if parse_address(url).scheme == "memory":
        raise UsageError(
            f"{url} exists only in the process that opened it: give that bus a file, sqlite:run.db"
        )
    return url


def to_url(name: str) -> str:
    """Return the URL of the log `name`, the path of a file or a URL already."""
    return name if _URL.match(name) and not Path(name).exists() else f"sqlite:{quote(name)}"


def reading_url(name: str | None) -> str:
    """Return the URL that opens the log `name` for reading only. Raises `UsageError`."""
    url = log_url(name)
    address = parse_address(url)
    if address.scheme != "sqlite" or "readonly" in address.options:
        return url
    return f"{url}{'&' if address.options else '?'}readonly=true"


def open_reading(name: str | None) -> AbstractAsyncContextManager[EventLog]:
    """Return the scope of the log `name`, opened for reading only."""
    return open_log(reading_url(name))


def file_of(name: str | None) -> Path | None:
    """Return the file that holds the log, `None` for a log that is no file."""
    address = parse_address(log_url(name))
    return Path(address.path).expanduser() if address.scheme == "sqlite" else None
