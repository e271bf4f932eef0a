"""The configuration of a bus, and where it may come from.

Each source wins over the ones after it, key by key:

1. arguments of `Bus(...)` or `Bus.from_config(..., url=…)`
2. the environment: `HMS_BUS_URL`, `HMS_BUS_LOG`, `HMS_BUS_REQUEST_TIMEOUT_S` … (`HMS_BUS_` and the
   key in capitals, `HMS_BUS_LOGGED` separated by commas; an empty one counts as not set; `[routes]`
   only come from files)
3. the file: `hms-bus.toml`, or the one that `HMS_BUS_CONFIG` or the caller names
4. the defaults below
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from hms_bus.errors import ConfigError

FILE_NAME = "hms-bus.toml"
ENVIRONMENT_PREFIX = "HMS_BUS_"

_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_AtLeastOne = Annotated[int, Meta(ge=1)]


class BusConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a bus. Times are seconds, sizes are counts of messages.

    `url` is the transport, `codec` the codec of wire transports, `log` the URL of the log (`None`:
    none, unless the transport brings one). `source` names the sender in every envelope; without it
    the bus makes one from the program's name. `logged` are the patterns of topics that are logged:
    by default all that are not the system's, and all replies.

    `routes` maps patterns to URLs of other transports; the first that matches a topic wins.

    `request_timeout_s` is the deadline of a request that names none, `drain_timeout_s` how long
    closing waits for handlers, `max_hops` the longest chain of messages that cause each other,
    `max_queue` the bound of a subscription's queue that sets none, `max_emits` of emitted
    messages that wait. `expose_tracebacks` sends the tracebacks of handlers to callers.
    """

    url: str = "direct://"
    codec: str = "json"
    log: str | None = None
    source: str | None = None
    logged: tuple[str, ...] = (">", "$reply.>")
    routes: dict[str, str] = {}
    request_timeout_s: _Seconds = 5.0
    drain_timeout_s: _Seconds = 30.0
    max_hops: _AtLeastOne = 64
    max_queue: _AtLeastOne = 1024
    max_emits: _AtLeastOne = 10_000
    expose_tracebacks: bool = False


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    /,
    *,
    environment: Mapping[str, str] | None = None,
    **overrides: Any,
) -> BusConfig:
    """Read the configuration from a file or a mapping, the environment and `overrides`.

    Without `source` the file is the one that `HMS_BUS_CONFIG` names, which must exist, or
    `hms-bus.toml` in the working directory, which may. `environment` defaults to the process's.
    Raises `ConfigError` that names the source and the key at fault.
    """
    environment = os.environ if environment is None else environment
    values, name = _read_source(source, environment)
    values = {**values, **_from_environment(environment), **overrides}
    try:
        return msgspec.convert(values, BusConfig, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(BusConfig.__struct_fields__)
        raise ConfigError(f"{name}: {error}; known keys: {known}") from error


def _read_source(
    source: str | os.PathLike[str] | Mapping[str, Any] | None, environment: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    if isinstance(source, Mapping):
        return dict(source), "configuration"
    named = source or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    if named:
        return _read_file(Path(named)), str(named)
    default = Path(FILE_NAME)
    return (_read_file(default), FILE_NAME) if default.is_file() else ({}, "environment")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in BusConfig.__struct_fields__:
        text = environment.get(ENVIRONMENT_PREFIX + field.upper())
        if not text or field == "routes":
            continue
        values[field] = [part.strip() for part in text.split(",")] if field == "logged" else text
    return values
