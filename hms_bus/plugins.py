"""Finding codecs, transports and logs: a built-in table first, then entry points.

A plug-in is one function. For a transport and a log it is named by the URL's scheme and opens the
implementation as an async context manager; for a codec it is named by the codec and makes it:

    [project.entry-points."hms_bus.transports"]
    carrier = "my_package.pigeons:open_pigeons"
"""

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from hms_bus.abc import Codec, EventLog, Transport
from hms_bus.errors import ConfigError, DecodeError

Kind = Literal["transports", "codecs", "logs"]

_BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "transports": {
        "direct": "hms_bus.transports.direct:open_direct",
        "ipc": "hms_bus.transports.ipc.opening:open_ipc",
        "replay": "hms_bus.replay.transport:open_replay",
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

    @property
    def bare_url(self) -> str:
        """The URL without its options: what messages show, since an option may be a secret."""
        return _without_options(self.url)

    @property
    def shown_url(self) -> str:
        """The URL with all its options but the text of a token."""
        return re.sub(r"(?<=[?&]token=)[^&]*", "…", self.url)

    def only(self, *known: str) -> Mapping[str, str]:
        """Return `options`. Raises `ConfigError` when one is not among `known`."""
        for name in self.options:
            if name not in known:
                raise ConfigError(
                    f"{self.bare_url!r}: unknown option {name!r}; "
                    f"known: {', '.join(known) or 'none'}"
                )
        return self.options


def parse_address(url: str) -> Address:
    """Parse a transport's or log's URL. Raises `ConfigError`."""
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme:
        raise ConfigError(
            f"{_without_options(url)!r} is no URL: write scheme:path, as in direct:// or "
            "sqlite:run.db"
        )
    path, _, query = rest.partition("?")
    return Address(
        url=url,
        scheme=scheme.lower(),
        path=unquote(path.removeprefix("//")),
        options=dict(parse_qsl(query, keep_blank_values=True)),
    )


def _without_options(url: str) -> str:
    return url.partition("?")[0]


class TransportOpener(Protocol):
    """Opens the transport at `address`; `codec` is for those that send bytes."""

    def __call__(self, address: Address, *, codec: Codec) -> AbstractAsyncContextManager[Transport]:
        """Return the scope in which the transport is open."""
        ...


@runtime_checkable
class KeepsLogs(Protocol):
    """A `TransportOpener` whose transports bring their log (a hub's), and can be told which one."""

    def with_log(self, address: Address, log: Address) -> Address | None:
        """Return the address of the same transport with `log` behind it.

        What is opened there has a `Transport.log`, or is refused; before that, a path in `log` is
        made absolute, where its opener is `Locating`. `None` when this transport keeps no logs
        after all (it stands in front of one that does not). Does no I/O. Raises `ConfigError` when
        it keeps logs, but not that one.
        """
        ...


class LogOpener(Protocol):
    """Opens the log at `address`. May also be `Identifying` and `Locating`."""

    def __call__(self, address: Address) -> AbstractAsyncContextManager[EventLog]:
        """Return the scope in which the log is open."""
        ...


@runtime_checkable
class Identifying(Protocol):
    """A `LogOpener` that knows when two addresses name one log, opened in one way."""

    def identify(self, address: Address) -> Hashable:
        """Return what is equal for such addresses. May block; raises `ConfigError`."""
        ...


@runtime_checkable
class Locating(Protocol):
    """A `LogOpener` whose addresses may mean something else in another working folder."""

    def absolute(self, address: Address) -> str:
        """Return a URL of the same log that means it everywhere on this machine.

        Where a link leads is left open. May block; raises `ConfigError`.
        """
        ...


def open_transport(url: str, *, codec: Codec) -> AbstractAsyncContextManager[Transport]:
    """Return the scope of the transport at `url`. Raises `ConfigError`; does no I/O itself."""
    address = parse_address(url)
    opener: TransportOpener = find("transports", address.scheme)
    return opener(address, codec=codec)


def behind(url: str, log: str) -> str | None:
    """Return the URL of the transport at `url` with the log at `log` behind it.

    `None` when that transport keeps no logs: then whoever wants one opens it beside the transport.
    `log` should be absolute before the transport is opened. Raises `ConfigError`; does no I/O.
    """
    address = parse_address(url)
    opener: TransportOpener = find("transports", address.scheme)
    if not isinstance(opener, KeepsLogs):
        return None
    kept = opener.with_log(address, parse_address(log))
    return None if kept is None else kept.url


def absolute_log(url: str) -> str:
    """Return a URL of the same log that means it in every working folder.

    May block (it asks for the working folder). Raises `ConfigError`.
    """
    address = parse_address(url)
    opener: LogOpener = find("logs", address.scheme)
    return opener.absolute(address) if isinstance(opener, Locating) else url


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


_JSON_OBJECT = 0x7B  # {
_PROTOBUF_FIELD_1 = 0x0A  # `id`, which every event has and every writer puts first
_CBOR_MAPS = frozenset({*range(0xA0, 0xBC), 0xBF})
_CBOR_SELF_DESCRIBED = b"\xd9\xd9\xf7"

_known_codec = cache(get_codec)


def codec_of(document: bytes) -> Codec:
    """Return the built-in codec whose documents begin like this one (spec/envelope.md).

    Nothing else is looked at: white space or a byte order mark before JSON is not skipped, since a
    line feed begins a protobuf message. Raises `DecodeError` with reason `unknown-codec`.
    """
    first = document[0] if document else None
    if first == _JSON_OBJECT:
        return _known_codec("json")
    if first == _PROTOBUF_FIELD_1:
        return _known_codec("protobuf")
    if first in _CBOR_MAPS or document.startswith(_CBOR_SELF_DESCRIBED):
        return _known_codec("cbor")
    raise DecodeError(
        f"no codec's documents begin with {document[:4].hex(' ') or 'nothing'}",
        reason="unknown-codec",
    )


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
