"""Finding codecs, transports and logs: a built-in table first, then entry points.

A plug-in is one function. For a transport and a log it is named by the URL's scheme and opens the
implementation as an async context manager; for a codec it is named by the codec and makes it:

    [project.entry-points."hms_bus.transports"]
    carrier = "my_package.pigeons:open_pigeons"
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from hms_bus.abc import Codec, EventLog, Transport
from hms_bus.errors import ConfigError

Kind = Literal["transports", "codecs", "logs"]

_BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "transports": {
        "direct": "hms_bus.transports.direct:open_direct",
    },
    "codecs": {
        "json": "hms_bus.codecs.json:make",
        "cbor": "hms_bus.codecs.cbor:make",
        "protobuf": "hms_bus.codecs.protobuf:make",
    },
    "logs": {
        "memory": "hms_bus.log.memory:open_memory",
        "sqlite": "hms_bus.log.sqlite:open_sqlite",
    },
}


class Address(Struct, frozen=True, kw_only=True):
    """A parsed URL: `scheme:path` or `scheme://path`, with its query as `options`.

    `path` is what stands between the scheme and `?`, without the two slashes, percent-decoded.
    """

    url: str
    scheme: str
    path: str
    options: Mapping[str, str]

    def only(self, *known: str) -> Mapping[str, str]:
        """Return `options`. Raises `ConfigError` when one is not among `known`."""
        for name in self.options:
            if name not in known:
                raise ConfigError(
                    f"{self.url!r}: unknown option {name!r}; known: {', '.join(known) or 'none'}"
                )
        return self.options


def parse_address(url: str) -> Address:
    """Parse a transport's or log's URL. Raises `ConfigError`."""
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme:
        raise ConfigError(f"{url!r} is no URL: write scheme:path, as in direct:// or sqlite:run.db")
    path, _, query = rest.partition("?")
    return Address(
        url=url,
        scheme=scheme.lower(),
        path=unquote(path.removeprefix("//")),
        options=dict(parse_qsl(query, keep_blank_values=True)),
    )


class TransportOpener(Protocol):
    """Opens the transport at `address`; `codec` is for those that send bytes."""

    def __call__(self, address: Address, *, codec: Codec) -> AbstractAsyncContextManager[Transport]:
        """Return the scope in which the transport is open."""
        ...


class LogOpener(Protocol):
    """Opens the log at `address`. May also be `Identifying`."""

    def __call__(self, address: Address) -> AbstractAsyncContextManager[EventLog]:
        """Return the scope in which the log is open."""
        ...


@runtime_checkable
class Identifying(Protocol):
    """A `LogOpener` that knows when two addresses name one log, opened in one way."""

    def identify(self, address: Address) -> Hashable:
        """Return what is equal for such addresses. May block; raises `ConfigError`."""
        ...


def open_transport(url: str, *, codec: Codec) -> AbstractAsyncContextManager[Transport]:
    """Return the scope of the transport at `url`. Raises `ConfigError`; does no I/O itself."""
    address = parse_address(url)
    opener: TransportOpener = find("transports", address.scheme)
    return opener(address, codec=codec)


def open_log(url: str) -> AbstractAsyncContextManager[EventLog]:
    """Return the scope of the log at `url`. Raises `ConfigError`; does no I/O itself."""
    address = parse_address(url)
    opener: LogOpener = find("logs", address.scheme)
    return opener(address)


def identify_log(url: str) -> Hashable:
    """Return what is equal for URLs of one log that is opened in one way.

    It is the URL itself where the log's opener does not know better. May block (it resolves links
    in a path). Raises `ConfigError`.
    """
    address = parse_address(url)
    opener: LogOpener = find("logs", address.scheme)
    return opener.identify(address) if isinstance(opener, Identifying) else url


def get_codec(name: str) -> Codec:
    """Return the codec of that name. Raises `ConfigError` that lists the known ones."""
    make: Callable[[], Codec] = find("codecs", name)
    return make()


def find(kind: Kind, name: str) -> Any:
    """Return the plug-in function `name` of `kind`.

    Raises `ConfigError` for a name that is not known, and for a plug-in that cannot be imported.
    """
    if target := _BUILT_IN[kind].get(name):
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)
    return _find_installed(kind, name)


@cache
def _find_installed(kind: Kind, name: str) -> Any:
    # Kept, since looking through the installed distributions reads the disk: a bus finds what it
    # needs when it is made, and again when it opens on a running event loop.
    entry_points = importlib.metadata.entry_points(group=f"hms_bus.{kind}")
    if name not in entry_points.names:
        known = ", ".join(names(kind))
        raise ConfigError(f"unknown {kind[:-1]} {name!r}; known: {known}")
    entry_point = entry_points[name]
    try:
        return entry_point.load()
    except Exception as error:
        raise ConfigError(
            f"the plug-in {entry_point.name!r} ({entry_point.value}) cannot be imported: {error}"
        ) from error


def names(kind: Kind) -> list[str]:
    """Return the names of all plug-ins of `kind`, built-in and installed, sorted."""
    installed = importlib.metadata.entry_points(group=f"hms_bus.{kind}").names
    return sorted({*_BUILT_IN[kind], *installed})
