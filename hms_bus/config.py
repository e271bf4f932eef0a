"""The configuration of a bus, and where it may come from.

Each source wins over the ones after it, key by key:

1. arguments of `Bus(...)` or `Bus.from_config(..., url=…)`
2. the environment: `HMS_BUS_URL`, `HMS_BUS_LOG`, `HMS_BUS_REQUEST_TIMEOUT_S` … (`HMS_BUS_` and the
   key in capitals, `HMS_BUS_LOGGED` separated by commas; an empty one counts as not set; `[routes]`
   only come from files; a variable `HMS_BUS_…` that is none of these is refused, since it would be
   a mistyped one)
3. the file: `hms-bus.toml`, or the one that `HMS_BUS_CONFIG` or the caller names
4. the defaults below

Only the environment writes numbers and switches as text: elsewhere `"5"` is no number.
"""

import difflib
import os
import tomllib
from collections.abc import Container, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from hms_bus.errors import ConfigError

FILE_NAME = "hms-bus.toml"
ENVIRONMENT_PREFIX = "HMS_BUS_"

_NO_KEYS = frozenset({"CONFIG", "DEBUG", "RUNTIME_DIR", "TOKEN"})
"""Variables that are no keys.

They are the file's name, the command line's switch for tracebacks, the folder of the hubs' sockets
(`hms_bus.ipc.places`) and the token that a hub asks for.
"""

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
    return BusConfig(
        **{
            **check_values(BusConfig, values, name),
            **_from_environment(environment),
            **check_values(BusConfig, overrides, "arguments"),
        }
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Return what the file `path` says. Raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def check_values(
    kind: type[Struct], values: Mapping[str, Any], where: str, *, secret: Container[str] = ()
) -> dict[str, Any]:
    """Return `values` in the types that the fields of `kind` have.

    Raises `ConfigError` that begins with `where` and names the key, and for an unknown one the
    closest; the value of a key in `secret` is not shown.
    """
    types = _types(kind)
    for key in values:
        if key not in types:
            raise ConfigError(f"{where}: unknown key {key!r}{_closest(str(key), types)}")
    return {
        key: _convert(where, key, value, types[key], is_secret=key in secret)
        for key, value in values.items()
    }


def check_log_url(log: str) -> str:
    """Return the URL `log`. Raises `ConfigError` for a path in its place."""
    if ":" not in log:
        raise ConfigError(f"log is {log!r:.80}, no URL: did you mean 'sqlite:{log:.80}'?")
    return log


def _read_source(
    source: str | os.PathLike[str] | Mapping[str, Any] | None, environment: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    if isinstance(source, Mapping):
        return dict(source), "configuration"
    named = source or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    if named:
        return read_toml(Path(named)), str(named)
    default = Path(FILE_NAME)
    return (read_toml(default), FILE_NAME) if default.is_file() else ({}, "environment")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables say that are not empty. Raises `ConfigError`."""
    keys = {ENVIRONMENT_PREFIX + key.upper(): key for key in _types(BusConfig)}
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not text or not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name in keys:
            values[keys[name]] = _read_variable(name, keys[name], text)
        elif name.removeprefix(ENVIRONMENT_PREFIX) not in _NO_KEYS:
            hint = _closest(name, [name for name in keys if keys[name] != "routes"])
            raise ConfigError(f"environment: unknown variable {name}{hint}")
    return values


def _read_variable(name: str, key: str, text: str) -> Any:
    if key == "routes":
        raise ConfigError(f"{name}: routes only come from files: write [routes] in {FILE_NAME}")
    if key == "logged":
        return tuple(part.strip() for part in text.split(","))
    try:
        return msgspec.convert(text, _types(BusConfig)[key], strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name} is {text!r:.80}: it takes {_WORDS[key]}") from error


def _convert(where: str, key: str, value: Any, wanted: Any, *, is_secret: bool) -> Any:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        shown = "" if is_secret else f" is {value!r:.80}"
        raise ConfigError(f"{where}: {key}{shown}: {error}") from error


@cache
def _types(kind: type[Struct]) -> Mapping[str, Any]:
    """Return the type of each field of `kind`."""
    return {field.name: field.type for field in fields(kind)}


_COUNT = "a whole number from 1"
_TIME = "seconds, 0 to 1e9"
_WORDS = {
    "request_timeout_s": _TIME,
    "drain_timeout_s": _TIME,
    "max_hops": _COUNT,
    "max_queue": _COUNT,
    "max_emits": _COUNT,
    "expose_tracebacks": "true or false",
}
"""What the variables take that do not take any text."""


def _closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about `name`, which is not among `known`."""
    # What all variables begin with would make all of them alike.
    bare = {text.removeprefix(ENVIRONMENT_PREFIX): text for text in known}
    if close := difflib.get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), bare, n=1):
        return f": did you mean {bare[close[0]]}?"
    return f"; known: {', '.join(bare.values())}"
