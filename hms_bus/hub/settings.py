"""What a hub is told: where it listens, what it keeps, how much, and who may do what.

It comes from a file, `hub.toml`, and from arguments, which win key by key:

```toml
listen = "ipc://agents"
log = "sqlite:agents.db"

[limits]
max_clients = 100

[[token]]
name = "shop"
sha256 = "…"
publish = ["orders.>"]
```
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from hms_bus.abc import Durable
from hms_bus.config import check_log_url, check_values, read_toml
from hms_bus.errors import ConfigError, TopicError, UsageError
from hms_bus.ipc.places import find_place
from hms_bus.logrules import check_durable
from hms_bus.plugins import parse_address
from hms_bus.topics import parse_pattern

_SECRETS = frozenset({"token", "sha256"})
"""Keys whose values no message shows: a text in the wrong one of them may be a token."""
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_Text = Annotated[str, Meta(min_length=1)]
_AtLeastOne = Annotated[int, Meta(ge=1)]
_Subscriptions = Annotated[int, Meta(ge=1, le=65_535)]  # a DELIVER counts them in 16 bits
_FrameBytes = Annotated[int, Meta(ge=1024, le=2**32 - 1)]
_IdleSeconds = Annotated[float, Meta(ge=0, le=1e9)]
_HeartbeatSeconds = Annotated[float, Meta(gt=0, le=86_400)]
_Uid = Annotated[int, Meta(ge=0)]


class HubLimits(Struct, frozen=True, kw_only=True):
    """What a hub holds at most.

    For each client: `max_frame` bytes in a frame (1 KiB to 4 GiB), `max_subscriptions`,
    `max_topics` addresses with a window, `max_reads` of the log and
    `max_consumers` of durables at once, `max_window` messages
    that it may send to an address before the hub has said that there is room for more, and
    `max_client_bytes` that wait for it. For all together: `max_clients`, and `max_bytes` that wait.

    Who is silent for `heartbeat_s` seconds is asked for a sign of life.
    """

    max_frame: _FrameBytes = 16 * 2**20
    max_clients: _AtLeastOne = 4096
    max_subscriptions: _Subscriptions = 65_535
    max_topics: _AtLeastOne = 65_536
    max_reads: _AtLeastOne = 64
    max_consumers: _AtLeastOne = 256
    max_window: _AtLeastOne = 1024
    max_client_bytes: _AtLeastOne = 64 * 2**20
    max_bytes: _AtLeastOne = 2**30
    heartbeat_s: _HeartbeatSeconds = 15.0


class Grant(Struct, frozen=True, kw_only=True):
    """What the bearer of one token may do.

    `name` is for people, `sha256` the 32 bytes of the token's hash: the token itself is kept
    nowhere. `publish` and `subscribe` are patterns, `durable` names of durables; one that ends with
    `*` stands for all that begin so.
    """

    name: str
    sha256: bytes
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    durable: tuple[str, ...] = ()
    is_admin: bool = False


class HubSettings(Struct, frozen=True, kw_only=True):
    """All settings of a hub.

    `listen` is its address, `log` the URL of its log (`None`: what the first client with a log
    asks for). With `tcp` it listens on loopback TCP in place of a Unix socket. A hub that was
    spawned ends when it has been without clients for `idle_s` seconds. `audit` is the path of the
    file for refusals, as it was written; without one there is none, or one of the hub's own choice
    if it has `tokens`. Processes of the users `allow_uids` may connect, besides the hub's own.
    Without `tokens` every client may do everything.
    """

    listen: str = "ipc://agents"
    log: str | None = None
    tcp: bool = False
    idle_s: float = 30.0
    audit: str | None = None
    allow_uids: tuple[int, ...] = ()
    limits: HubLimits = HubLimits()
    tokens: tuple[Grant, ...] = ()


def load_settings(path: str | os.PathLike[str] | None = None, **overrides: Any) -> HubSettings:
    """Read the settings from the file `path`, if there is one, and from `overrides`.

    An override has the name and type of a key of the file (`limits` is a mapping, of which single
    keys win; `token` a list of mappings) and wins over it; `None` counts as not given. Reads files,
    so call it before the event loop runs, or in a thread.

    Raises `ConfigError` that names the file, or `arguments`, and the key at fault. No message holds
    a token.
    """
    settings: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    if path is not None:
        file = Path(path)
        _merge(settings, limits, _check(read_toml(file), str(file), file))
    given = {key: value for key, value in overrides.items() if value is not None}
    _merge(settings, limits, _check(given, "arguments", None))
    return HubSettings(**settings, limits=HubLimits(**limits))


class _Keys(Struct, frozen=True, kw_only=True):
    """The keys of the file, in the types in which TOML writes them."""

    listen: _Text
    log: _Text
    tcp: bool
    idle_s: _IdleSeconds
    audit: _Text
    allow_uids: tuple[_Uid, ...]
    limits: dict[str, Any]
    token: tuple[dict[str, Any], ...]


class _TokenKeys(Struct, frozen=True, kw_only=True):
    """The keys of one `[[token]]`."""

    name: _Text
    sha256: str
    token: _Text
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    durable: tuple[str, ...]
    admin: bool


def _merge(settings: dict[str, Any], limits: dict[str, Any], more: dict[str, Any]) -> None:
    limits.update(more.pop("limits", {}))
    settings.update(more)


def _check(written: Mapping[str, Any], where: str, file: Path | None) -> dict[str, Any]:
    """Return `written` as arguments of `HubSettings`, but `limits` as those of `HubLimits`."""
    values = check_values(_Keys, written, where, secret=_SECRETS)
    if "listen" in values:
        _check_listen(values["listen"], where)
    if "log" in values:
        try:
            check_log_url(values["log"])
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if "limits" in values:
        values["limits"] = check_values(HubLimits, values["limits"], f"{where}: [limits]")
    if "token" in values:
        values["tokens"] = _read_tokens(values.pop("token"), where, file)
    return values


def _check_listen(url: str, where: str) -> None:
    """Refuse what is no place of a hub, and options, which are for clients."""
    try:
        address = parse_address(url)
        if address.scheme != "ipc":
            raise ConfigError(f"{address.bare_url!r:.120}: a hub listens at ipc://NAME only")
        address.only()
        find_place(address.path)
    except ConfigError as error:
        raise ConfigError(f"{where}: listen: {error}") from error


def _read_tokens(
    tables: Sequence[dict[str, Any]], where: str, file: Path | None
) -> tuple[Grant, ...]:
    grants: dict[str, Grant] = {}
    for number, table in enumerate(tables, start=1):
        grant = _read_token(table, f"{where}: [[token]] {number}", file)
        if grant.name in grants:
            raise ConfigError(f"{where}: two tokens have the name {grant.name!r:.80}")
        for other in grants.values():
            if other.sha256 == grant.sha256:
                names = f"{other.name!r:.80} and {grant.name!r:.80}"
                raise ConfigError(f"{where}: {names} are the same token: each needs its own")
        grants[grant.name] = grant
    return tuple(grants.values())


def _read_token(table: dict[str, Any], where: str, file: Path | None) -> Grant:
    values = check_values(_TokenKeys, table, where, secret=_SECRETS)
    if "name" not in values:
        raise ConfigError(f"{where}: name is missing: the hub's messages call the client so")
    where = f"{where} ({values['name']!r:.80})"
    return Grant(
        name=values["name"],
        sha256=_read_hash(values, where, file),
        publish=_check_patterns(values.get("publish", ()), f"{where}: publish"),
        subscribe=_check_patterns(values.get("subscribe", ()), f"{where}: subscribe"),
        durable=_check_durables(values.get("durable", ()), f"{where}: durable"),
        is_admin=values.get("admin", False),
    )


def _read_hash(values: Mapping[str, Any], where: str, file: Path | None) -> bytes:
    match values:
        case {"token": _, "sha256": _}:
            raise ConfigError(f"{where}: has both token and sha256: keep sha256")
        case {"token": token}:
            _check_is_private(where, file)
            return sha256_of(token)
        case {"sha256": digits}:
            if not _SHA256.fullmatch(digits):
                raise ConfigError(f"{where}: sha256 takes the 64 hex digits of the token's SHA-256")
            return bytes.fromhex(digits)
        case _:
            raise ConfigError(f"{where}: has neither sha256 nor token: give it one of them")


def sha256_of(token: str) -> bytes:
    """Return the hash by which a token is known."""
    # JSON may bring half of a surrogate pair, which has no UTF-8: it is no token then, no crash.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _check_is_private(where: str, file: Path | None) -> None:
    """Refuse a file with a token in it that others may read (arguments are in no file)."""
    if file is None:
        return
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{where}: cannot look at {file}: {error.strerror}") from error
    if mode & _OF_OTHERS:
        raise ConfigError(
            f"{where}: token stands in a file that others may read (mode {mode:04o}): "
            f"write its sha256 in place of it, or run: chmod 600 {file}"
        )


def _check_patterns(patterns: Iterable[str], where: str) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            parse_pattern(pattern)
        except TopicError as error:
            raise ConfigError(f"{where}: {error}") from error
    return tuple(patterns)


def _check_durables(names: Iterable[str], where: str) -> tuple[str, ...]:
    for name in names:
        try:
            if name != "*":
                check_durable(Durable(name=name.removesuffix("*"), pattern=">"))
        except (UsageError, TopicError) as error:
            raise ConfigError(f"{where}: {error}") from error
    return tuple(names)
